//! The cluster's machines: the API server goes away and comes back, and so does the second machine.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::cluster;

/// Name of the Kubernetes node that stays.
pub const FIRST: &str = "callplane-1";
/// Name of the Kubernetes node that can lose power.
pub const SECOND: &str = "callplane-2";

/// Something of the cluster that is away. It comes back with [`Outage::end`], or at the latest when this is dropped.
pub struct Outage {
    script: PathBuf,
    back: &'static str,
    over: bool,
}

impl Outage {
    /// The API server is stopped.
    ///
    /// # Errors
    /// When the cluster's script fails.
    pub async fn of_api_server() -> Result<Self> {
        Self::begin("apiserver.sh", "stop", "start").await
    }

    /// The second machine loses power.
    ///
    /// # Errors
    /// When the cluster's script fails.
    pub async fn of_second_machine() -> Result<Self> {
        Self::begin("node.sh", "kill", "boot").await
    }

    async fn begin(script: &str, away: &str, back: &'static str) -> Result<Self> {
        let script = cluster::folder().join("cluster").join(script);
        let outage = Self { script, back, over: false };
        outage.run(away).await?;
        Ok(outage)
    }

    /// It comes back, and is ready when this returns.
    ///
    /// # Errors
    /// When the cluster's script fails.
    pub async fn end(mut self) -> Result<()> {
        self.over = true;
        self.run(self.back).await
    }

    async fn run(&self, verb: &str) -> Result<()> {
        let done = Command::new(&self.script).arg(verb).output().await;
        let done = done.with_context(|| format!("{} {verb}", self.script.display()))?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "{} {verb}: {said}", self.script.display());
        Ok(())
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        if !self.over
            && let Err(error) = std::process::Command::new(&self.script).arg(self.back).status()
        {
            eprintln!("{} {}: {error}", self.script.display(), self.back);
        }
    }
}
