//! The media node's process.

use std::process::ExitCode;

use callplane_media_node::{config::Cli, node};
use clap::Parser;

fn main() -> ExitCode {
    node::main(Cli::parse())
}
