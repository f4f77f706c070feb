//! The cluster's own processes: the API server goes away and comes back.

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::cluster;

async fn apiserver(verb: &str) -> Result<()> {
    let script = cluster::folder().join("cluster/apiserver.sh");
    let done = Command::new(&script).arg(verb).kill_on_drop(true).output().await;
    let done = done.with_context(|| format!("{} {verb}", script.display()))?;
    ensure!(done.status.success(), "apiserver.sh {verb}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// An API server that is away. It comes back with [`ApiServerOutage::end`], or at the latest when this is dropped.
pub struct ApiServerOutage {
    over: bool,
}

impl ApiServerOutage {
    /// Stops the API server.
    ///
    /// # Errors
    /// When the cluster's script fails.
    pub async fn begin() -> Result<Self> {
        let outage = Self { over: false };
        apiserver("stop").await?;
        Ok(outage)
    }

    /// Starts it again and waits until it is ready.
    ///
    /// # Errors
    /// When the cluster's script fails.
    pub async fn end(mut self) -> Result<()> {
        self.over = true;
        apiserver("start").await
    }
}

impl Drop for ApiServerOutage {
    fn drop(&mut self) {
        if !self.over {
            let script = cluster::folder().join("cluster/apiserver.sh");
            if let Err(error) = std::process::Command::new(script).arg("start").status() {
                eprintln!("the API server could not be started again: {error}");
            }
        }
    }
}
