//! What is tested is the chart of this checkout with the images of this checkout.

use std::{env, fs, path::Path, process::Command, sync::OnceLock};

use anyhow::{Context, Result, bail, ensure};

use crate::cluster::{self, SYSTEM};

/// Images as `e2e/cluster/images.sh` names them.
const IMAGES: [&str; 4] = ["--set", "image.registry=localhost/callplane", "--set", "image.tag=dev"];
/// Set to anything, what is installed is taken as it is.
const KEEP: &str = "CALLPLANE_E2E_KEEP_INSTALLED";

/// Installs the chart or brings it up to date, once in a process.
///
/// # Errors
/// When Helm does.
pub fn chart(kubeconfig: &Path) -> Result<()> {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    let done = INSTALLED.get_or_init(|| match env::var_os(KEEP) {
        Some(_) => Ok(()),
        None => upgrade(kubeconfig).map_err(|error| format!("{error:#}")),
    });
    match done {
        Ok(()) => Ok(()),
        Err(error) => bail!("installing the chart: {error}"),
    }
}

fn upgrade(kubeconfig: &Path) -> Result<()> {
    let ours = cluster::cache().join("bin/helm");
    let helm = if ours.exists() { ours } else { "helm".into() };
    let chart = cluster::folder().join("../charts/callplane");
    let mut command = Command::new(&helm);
    command.args(["upgrade", "--install", "callplane"]).arg(chart).arg("--kubeconfig").arg(kubeconfig);
    command.args(["--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout", "180s"]).args(IMAGES);
    // An image that was built anew has the name of the old one: without a change in the pods nobody would start it.
    let imported = cluster::state().join("machines/1/images/operator");
    if let Ok(key) = fs::read_to_string(imported) {
        command.args(["--set-string", &format!(r"operator.podAnnotations.callplane\.io/image={}", key.trim())]);
    }
    let done = command.output().with_context(|| helm.display().to_string())?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}
