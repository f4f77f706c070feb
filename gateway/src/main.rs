//! The callplane gateway.

use std::process::ExitCode;

use callplane_gateway::{config::Config, run};
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    match run::main(Config::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("callplane-gateway: {error:#}");
            ExitCode::FAILURE
        }
    }
}
