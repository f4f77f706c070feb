//! What a server's processes use, from `/proc`.

use std::fs;

use anyhow::{Context, Result};

/// Unit of CPU times in `/proc`, on every Linux that Rust runs on (`getconf CLK_TCK`).
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time and memory of some processes together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time of all threads so far, in seconds.
    pub cpu: f64,
    /// Resident memory, in bytes.
    pub resident: u64,
}

/// What the processes have used.
///
/// # Errors
/// When one of them has ended.
pub fn usage(pids: &[u32]) -> Result<Usage> {
    let mut sum = Usage::default();
    for pid in pids {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).context("the server has ended");
        let stat = read("stat")?;
        // Counted from after the name, which may hold blanks: utime and stime.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).context("/proc/<pid>/stat");
        sum.cpu += (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND;
        let status = read("status")?;
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).context("/proc/<pid>/status")?;
        let kilobytes: u64 = line.split_whitespace().nth(1).context("VmRSS")?.parse()?;
        sum.resident += kilobytes * 1024;
    }
    Ok(sum)
}

/// CPU time of this process so far, in seconds.
///
/// # Errors
/// When `/proc` is not there.
pub fn own_cpu() -> Result<f64> {
    Ok(usage(&[std::process::id()])?.cpu)
}

/// Processes that wanted a core, averaged over the last minute.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|f| f.parse().ok()).unwrap_or(0.0)
}
