//! A media node under minutes of calls with people coming and going: memory stays flat, packets flow, and nothing is
//! dropped for a reason that should not be there.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use callplane_bench::{
    report::machine,
    sfu::{
        generator::{self, Generator},
        process,
        soak::{
            self,
            verdict::{self, Sample, Trend},
        },
    },
};
use clap::Parser;

/// Holds calls for a while, and fails when something grows, stalls or gets lost.
#[derive(Debug, Parser)]
struct Options {
    /// For how long. Less than two minutes say little of memory.
    #[arg(default_value_t = 600, value_parser = clap::value_parser!(u64).range(15..=86_400))]
    seconds: u64,
    /// Where the node's log goes.
    #[arg(long, default_value = "target/soak.logs")]
    logs: PathBuf,
}

/// Between two lines of the report.
const TOLD: Duration = Duration::from_secs(15);
/// For everybody to come and to go, besides the time that was asked for.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let duration = Duration::from_secs(options.seconds);
    println!("{}", machine());
    let generator = Generator::start(generator::Options { gro: true })?;
    let mut last = Sample::default();
    let told = |sample: &Sample| {
        let since = sample.at - last.at;
        if since >= TOLD {
            let rate = (sample.packets - last.packets) as f64 / since.as_secs_f64();
            let load = process::load_average();
            let (at, resident) = (sample.at.as_secs(), sample.resident / 1000);
            println!("{at:5} s: {resident:6} KB, {rate:6.0} packets/s, load average {load:.1}");
            last = *sample;
        }
    };
    let seen = tokio::time::timeout(duration + PATIENCE, soak::run(&generator, duration, &options.logs, told))
        .await
        .with_context(|| format!("it has not ended {PATIENCE:?} after its time"))??;
    let Trend { drift, per_minute, rise } = verdict::trend(&seen.samples);
    let [drift, per_minute, rise] = [drift, per_minute, rise as f64].map(|bytes| bytes / 1000.0);
    println!("{} guests; {:.3} % lost", seen.guests, seen.lost);
    println!(
        "memory, second half: {drift:+.0} KB, {per_minute:+.1} KB a minute; from the second quarter's highest point to the last one's: {rise:+.0} KB"
    );
    for (reason, count) in seen.drops.iter().filter(|(_, count)| **count > 0) {
        println!("dropped: {count:8} {reason}");
    }
    let wrong = verdict::judge(&seen);
    wrong.iter().for_each(|one| println!("WRONG: {one}"));
    println!("{}", if wrong.is_empty() { "soak: nothing wrong" } else { "soak: failed" });
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
