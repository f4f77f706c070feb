//! Programs that are run for what they write.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::{io::AsyncWriteExt, process::Command};

/// What `command` writes when it is given `input`, all of which it reads before it writes much.
///
/// # Errors
/// When it fails, with what it says.
pub async fn output(command: &mut Command, input: &str) -> Result<String> {
    let name = command.as_std().get_program().display().to_string();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| name.clone())?;
    let written = child.stdin.take().context("standard input is piped")?.write_all(input.as_bytes()).await;
    let done = child.wait_with_output().await.with_context(|| name.clone())?;
    ensure!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
    // One that fails may not have read it, and says better why.
    written.with_context(|| format!("the input of {name}"))?;
    Ok(String::from_utf8(done.stdout)?)
}
