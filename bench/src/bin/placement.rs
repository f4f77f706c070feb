//! How fast rooms are placed: the operator beside what the API server can do without it.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use callplane_bench::{
    api_server::ApiServer,
    fleet::Fleet,
    hold,
    load::{Load, WRITERS},
    observer::Observer,
    operator::{self, Operator},
    report::{Goal, Report, machine, percentile_ms},
};
use clap::Parser;

const PATIENCE: Duration = Duration::from_secs(30);
const MEGABYTE: f64 = 1_000_000.0;

/// Measures how fast the operator places rooms, on an API server of the benchmark's own.
#[derive(Debug, Parser)]
struct Options {
    /// Rooms that are created as fast as can be, with and without the operator.
    #[arg(long, default_value_t = 3000)]
    rooms: usize,
    /// Media nodes.
    #[arg(long, default_value_t = 300)]
    nodes: usize,
    /// Rooms a second, for the time from create to Ready.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// For how many seconds.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// At the end fill up to this many rooms, and measure memory and a restart.
    #[arg(long)]
    hold: Option<usize>,
    /// An operator that was built already.
    #[arg(long)]
    operator: Option<PathBuf>,
    /// Programs of Kubernetes, as `make cluster-up` builds them.
    #[arg(long, env = "CALLPLANE_BIN")]
    bin: Option<PathBuf>,
    /// Where the report goes as JSON; the operator's log goes beside it.
    #[arg(long, default_value = "target/bench-placement.json")]
    json: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let command = format!("bench-placement {}", arguments.join(" ")).trim().to_owned();
    let mut report = Report { command, machine: machine(), rows: Vec::new() };
    println!("{}", report.machine);
    measure(&options, &mut report).await?;
    println!("\n{}\n", report.table());
    report.write(&options.json)?;
    println!("{} → {}", if report.all_met() { "all goals met" } else { "some goals missed" }, options.json.display());
    Ok(())
}

fn cache_bin() -> PathBuf {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    std::env::var_os("CALLPLANE_CACHE").map_or_else(|| home.join(".cache/callplane"), PathBuf::from).join("bin")
}

async fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let program = match &options.operator {
        Some(program) => program.clone(),
        None => operator::build().await?,
    };
    let log = options.json.with_extension("log");
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let server = ApiServer::start(&options.bin.clone().unwrap_or_else(cache_bin)).await?;
    let _fleet = Fleet::start(server.client().await?, options.nodes).await?;
    let load = Load::new(server.client().await?);
    report.add("media nodes", "", Goal::None, options.nodes as f64);

    println!("{} rooms without the operator…", options.rooms);
    let raw = without_operator(&server, &load, options.rooms, report).await?;

    let operator = Operator::start(&program, &server.kubeconfig, &log)?;
    let observer = Observer::start(server.client().await?);
    load.one("first").await?;
    observer.until_ready(1, PATIENCE).await?;

    println!("{} rooms a second for {} s…", options.rate, options.seconds);
    at_rate(&load, &observer, options, report).await?;
    println!("{} rooms as fast as can be…", options.rooms);
    flat_out(&load, &observer, &operator, (options.rooms, raw), report).await?;
    if observer.relisted() {
        println!("the watch had to list again: not every write was counted");
    }
    drop(observer);
    let operator = match options.hold {
        Some(rooms) => hold::measure(&server, operator, (&program, &log), rooms, report).await?,
        None => operator,
    };
    operator.stop().await
}

/// The limit: create and status write by the same writers, watched by the same watch, and nobody else there.
async fn without_operator(server: &ApiServer, load: &Load, rooms: usize, report: &mut Report) -> Result<f64> {
    let observer = Observer::start(server.client().await?);
    // Connections are made and code is warm before it counts.
    load.raw("warm-", WRITERS * 4).await?;
    let took = load.raw("raw-", rooms).await?;
    let rate = rooms as f64 / took.as_secs_f64();
    report.add(format!("the API server alone: create + status, {WRITERS} writers"), "rooms/s", Goal::None, rate);
    drop(observer);
    load.clear().await?;
    Ok(rate)
}

async fn at_rate(load: &Load, observer: &Observer, options: &Options, report: &mut Report) -> Result<()> {
    let count = (options.rate * options.seconds).round() as usize;
    let before = observer.ready();
    let sent = load.at_rate("rate-", count, options.rate).await?;
    observer.until_ready(before + count, PATIENCE).await?;
    let rooms = observer.rooms("rate-");
    let mut times: Vec<_> = rooms.iter().filter_map(|(name, room)| Some(room.ready? - *sent.get(name)?)).collect();
    times.sort();
    let at = format!("at {} rooms/s, create sent → Ready seen", options.rate);
    report.add(format!("{at}, p50"), "ms", Goal::AtMost(20.0), percentile_ms(&times, 0.5));
    report.add(format!("{at}, p99"), "ms", Goal::AtMost(100.0), percentile_ms(&times, 0.99));
    report.add(format!("{at}, slowest"), "ms", Goal::None, percentile_ms(&times, 1.0));
    Ok(())
}

async fn flat_out(
    load: &Load,
    observer: &Observer,
    operator: &Operator,
    (count, raw): (usize, f64),
    report: &mut Report,
) -> Result<()> {
    let (before, ready) = (operator.usage()?, observer.ready());
    let began = callplane_bench::clock::now();
    tokio::try_join!(load.flat_out("flat-", count), observer.until_ready(ready + count, PATIENCE))?;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    let after = operator.usage()?;
    let rooms = observer.rooms("flat-");
    let writes = rooms.values().map(|room| f64::from(room.writes)).sum::<f64>() / rooms.len() as f64;
    let cpu = (after.cpu_seconds - before.cpu_seconds) * 1000.0 / count as f64;
    report.add(format!("all out, {WRITERS} writers, until all are Ready"), "rooms/s", Goal::None, rate);
    report.add("share of what the API server can do alone", "", Goal::AtLeast(0.9), rate / raw);
    report.add("operator writes per room until Ready", "", Goal::AtMost(2.0), writes);
    report.add("operator CPU per 1000 rooms", "s", Goal::None, cpu);
    report.add("operator memory", "MB", Goal::None, after.resident as f64 / MEGABYTE);
    Ok(())
}
