//! Processes of pods: found by their cgroup, as the kernel sees them, and signalled.
//!
//! The cluster's machines are namespaces of this one, so their processes are in `/proc`.

use std::fs;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

/// A signal to a process.
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    /// Ends it at once.
    Kill,
    /// Hangs it.
    Stop,
    /// Lets it go on.
    Continue,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// Pids of what runs in the containers of `pod`, as this machine sees them.
///
/// # Errors
/// When there are none.
pub fn pids(pod: &Pod) -> Result<Vec<u32>> {
    let uid = pod.uid().context("a pod has a uid")?;
    // The systemd cgroup driver writes the uid with underscores.
    let marks = [format!("pod{uid}"), format!("pod{}", uid.replace('-', "_"))];
    let in_pod = |pid: &u32| {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        marks.iter().any(|mark| cgroups.contains(mark)) && !["pause", "runc"].iter().any(|c| command.starts_with(c))
    };
    let all = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let pids: Vec<u32> = all.filter(in_pod).collect();
    ensure!(!pids.is_empty(), "no process of pod {} runs on this machine", pod.name_any());
    Ok(pids)
}

/// A pod that hangs. It goes on with [`Hung::go_on`], or at the latest when this is dropped.
pub struct Hung {
    pod: Option<Pod>,
}

impl Hung {
    /// Stops everything in the containers of `pod`.
    ///
    /// # Errors
    /// As [`signal`].
    pub async fn hang(pod: Pod) -> Result<Self> {
        let hung = Self { pod: Some(pod.clone()) };
        signal(&pod, Signal::Stop).await?;
        Ok(hung)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// As [`signal`].
    pub async fn go_on(mut self) -> Result<()> {
        match self.pod.take() {
            Some(pod) => signal(&pod, Signal::Continue).await,
            None => Ok(()),
        }
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let Some(pod) = self.pod.take() else { return };
        for pid in pids(&pod).unwrap_or_default() {
            let sent = std::process::Command::new("sh").args(["-c", &format!("kill -s CONT {pid}")]).status();
            if let Err(error) = sent {
                eprintln!("pid {pid} still hangs: {error}");
            }
        }
    }
}

/// Sends `signal` to everything in the containers of `pod`.
///
/// # Errors
/// When nothing runs there, or this user may not signal it.
pub async fn signal(pod: &Pod, signal: Signal) -> Result<()> {
    for pid in pids(pod)? {
        let sent = tokio::process::Command::new("sh")
            .args(["-c", &format!("kill -s {} {pid}", signal.name())])
            .output()
            .await?;
        // It may have ended by itself, or with its parent.
        let gone = || fs::metadata(format!("/proc/{pid}")).is_err();
        ensure!(
            sent.status.success() || gone(),
            "{signal:?} to pid {pid} of pod {}: {}",
            pod.name_any(),
            String::from_utf8_lossy(&sent.stderr)
        );
    }
    Ok(())
}
