//! How much memory a great many rooms take, and how soon an operator that has just started decides among them.

use std::{path::Path, time::Duration};

use anyhow::Result;

use crate::{
    api_server::ApiServer,
    clock,
    load::Load,
    observer::Observer,
    operator::Operator,
    report::{Goal, Report},
};

/// While rooms are being made, there is a further one at least this often.
const PATIENCE: Duration = Duration::from_secs(60);
const MEGABYTE: f64 = 1_000_000.0;

/// Fills up to `rooms` rooms, restarts the operator, and measures. Yields the new operator.
///
/// # Errors
/// When the operator stops placing rooms.
pub async fn measure(
    server: &ApiServer,
    operator: Operator,
    (program, log): (&Path, &Path),
    rooms: usize,
    report: &mut Report,
) -> Result<Operator> {
    let load = Load::new(server.client().await?);
    let observer = Observer::start(server.client().await?);
    println!("filling up to {rooms} rooms…");
    // The rooms that are there already are few and count as well.
    tokio::try_join!(load.flat_out("hold-", rooms), observer.until_ready("hold-", rooms, PATIENCE))?;
    let held = operator.usage()?;
    report.add(format!("memory with {rooms} rooms"), "MB", Goal::AtMost(500.0), held.resident as f64 / MEGABYTE);
    operator.stop().await?;

    let began = clock::now();
    let operator = Operator::start(program, &server.kubeconfig, log)?;
    load.one("first-decision").await?;
    observer.until_ready("first-decision", 1, PATIENCE).await?;
    let first = began.elapsed().as_secs_f64();
    report.add(format!("restart to first decision with {rooms} rooms"), "s", Goal::AtMost(30.0), first);
    let restarted = operator.usage()?;
    report.add("peak memory after the restart", "MB", Goal::AtMost(500.0), restarted.peak as f64 / MEGABYTE);
    report.add("CPU time until the first decision", "s", Goal::None, restarted.cpu_seconds);
    Ok(operator)
}
