//! What the program does: run the controllers, or one of the smaller things.

use anyhow::Context as _;
use kube::Client;

use crate::{
    apply_crds,
    clock::Clock,
    config::{Command, Config, log_filter},
    run, self_test,
    token::{self, Invitation},
};

/// Does what `config` says.
///
/// # Errors
/// When that fails.
pub async fn main(config: Config) -> anyhow::Result<()> {
    let Some(command) = config.command else {
        let filter = log_filter(&config.run.log).with_context(|| format!("--log {:?}", config.run.log))?;
        tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).init();
        return run::run(config.namespace, config.run).await;
    };
    let client = Client::try_default().await.context("cannot reach the Kubernetes API")?;
    let clock = Clock::start();
    match command {
        Command::ApplyCrds => {
            for line in apply_crds::run(client).await? {
                println!("{line}");
            }
        }
        Command::SelfTest => println!("{}", self_test::run(client, &config.namespace, clock).await?),
        Command::JoinToken(asked) => {
            let invitation =
                Invitation { room: asked.room, user: asked.user, name: asked.name, role: asked.role, ttl: asked.ttl };
            println!("{}", token::invite(client, &config.namespace, &invitation, clock.now().wall).await?);
        }
    }
    Ok(())
}
