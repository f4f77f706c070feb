//! The operator as a process: started and ended from here, its CPU time and memory read from `/proc`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::process::{Child, Command};

use crate::api_server::NAMESPACE;

/// Unit of CPU times in `/proc`, on every Linux that Rust runs on (`getconf CLK_TCK`).
const TICKS_PER_SECOND: f64 = 100.0;

/// A running operator.
pub struct Operator {
    child: Child,
    pid: u32,
}

/// What a process has used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// CPU time so far, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory now, in bytes.
    pub resident: u64,
    /// The most that it ever was.
    pub peak: u64,
}

/// Builds the operator for release, and says where it is.
///
/// # Errors
/// When it does not build.
pub async fn build() -> Result<PathBuf> {
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--locked", "--quiet", "-p", "callplane-operator"])
        .status()
        .await?;
    ensure!(built.success(), "the operator does not build");
    let here = std::env::current_exe()?;
    let target = here.ancestors().nth(2).context("this program is in a target directory")?;
    Ok(target.join("release/callplane-operator"))
}

impl Operator {
    /// Starts `program` against the cluster of `kubeconfig`, logging warnings to `log`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(program: &Path, kubeconfig: &Path, log: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let child = Command::new(program)
            .env("KUBECONFIG", kubeconfig)
            .env("POD_NAME", "bench-operator")
            .env("POD_NAMESPACE", NAMESPACE)
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned()))
            .args(["--media-node-image", "bench/none", "--admin-listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| program.display().to_string())?;
        let pid = child.id().context("it has just been started")?;
        Ok(Self { child, pid })
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// When it has ended.
    pub fn usage(&self) -> Result<Usage> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", self.pid)).context("the operator ended");
        let stat = read("stat")?;
        // Fields are counted from after the name, which may hold blanks: utime and stime are 14 and 15.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).context("/proc/<pid>/stat");
        let status = read("status")?;
        let kilobytes = |key: &str| {
            let line = status.lines().find(|l| l.starts_with(key));
            line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok()).with_context(|| key.to_owned())
        };
        Ok(Usage {
            cpu_seconds: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
            resident: kilobytes("VmRSS:")? * 1024,
            peak: kilobytes("VmHWM:")? * 1024,
        })
    }

    /// Asks it to end, as the kubelet does, and waits until it has.
    ///
    /// # Errors
    /// When it does not within half a minute.
    pub async fn stop(mut self) -> Result<()> {
        let asked = Command::new("sh").args(["-c", &format!("kill -s TERM {}", self.pid)]).status().await?;
        ensure!(asked.success(), "the operator could not be asked to end");
        tokio::time::timeout(Duration::from_secs(30), self.child.wait())
            .await
            .context("the operator does not end")??;
        Ok(())
    }
}
