//! The callplane operator.

use std::process::ExitCode;

use callplane_operator::{command, config::Config};

#[tokio::main]
async fn main() -> ExitCode {
    let config = match Config::read() {
        Ok(config) => config,
        Err(code) => return code,
    };
    match command::main(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("callplane-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
