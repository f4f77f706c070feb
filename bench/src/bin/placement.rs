//! How fast rooms are placed: the operator beside what the API server can do without it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use callplane_bench::{
    api_server::ApiServer,
    clock,
    fleet::Fleet,
    hold,
    load::{Load, WRITERS},
    observer::Observer,
    operator::{self, Operator},
    report::{Goal, Report, machine, median, percentile_ms},
};
use clap::Parser;

const PATIENCE: Duration = Duration::from_secs(30);
const MEGABYTE: f64 = 1_000_000.0;

/// Measures how fast the operator places rooms, on an API server of the benchmark's own.
#[derive(Debug, Parser)]
struct Options {
    /// Rooms that are created as fast as can be in each round, without the operator and with it.
    #[arg(long, default_value_t = 2000)]
    rooms: usize,
    /// Rounds. The median of each value is reported.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
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
    let bench =
        Bench { options, program: &program, log: &log, server: &server, load: Load::new(server.client().await?) };
    report.add("media nodes", "", Goal::None, options.nodes as f64);

    let mut rounds = Vec::new();
    for round in 1..=options.rounds {
        println!("round {round} of {}: {} rooms without the operator, then with it…", options.rounds, options.rooms);
        rounds.push(bench.round(round).await?);
    }
    add_rounds(&rounds, report);
    let operator = bench.operator().await?;
    println!("{} rooms a second for {} s…", options.rate, options.seconds);
    bench.at_rate(report).await?;
    let operator = match options.hold {
        Some(rooms) => hold::measure(&server, operator, (&program, &log), rooms, report).await?,
        None => operator,
    };
    operator.stop().await
}

struct Bench<'a> {
    options: &'a Options,
    program: &'a Path,
    log: &'a Path,
    server: &'a ApiServer,
    load: Load,
}

/// What one round measured: a machine's mood changes, so the two sides are compared within a round only.
struct Round {
    raw: f64,
    rate: f64,
    writes: f64,
    cpu_per_1000: f64,
    resident: f64,
}

impl Bench<'_> {
    async fn observer(&self) -> Result<Observer> {
        Ok(Observer::start(self.server.client().await?))
    }

    /// An operator that has placed its first room.
    async fn operator(&self) -> Result<Operator> {
        let operator = Operator::start(self.program, &self.server.kubeconfig, self.log)?;
        let observer = self.observer().await?;
        let name = format!("first-{}", clock::wall().as_millisecond());
        self.load.one(&name).await?;
        observer.until(PATIENCE, |rooms| rooms.get(&name).is_some_and(|room| room.ready.is_some())).await?;
        Ok(operator)
    }

    async fn round(&self, round: usize) -> Result<Round> {
        let (load, rooms) = (&self.load, self.options.rooms);
        // The limit: create and status write by the same writers, watched by the same watch, and nobody else there.
        let observer = self.observer().await?;
        load.raw(&format!("warm-{round}-"), WRITERS * 4).await?;
        let raw = rooms as f64 / load.raw(&format!("raw-{round}-"), rooms).await?.as_secs_f64();
        drop(observer);
        load.clear().await?;

        let operator = self.operator().await?;
        let observer = self.observer().await?;
        load.flat_out(&format!("warm-{round}-"), WRITERS * 4).await?;
        let prefix = format!("flat-{round}-");
        let before = operator.usage()?;
        let began = clock::now();
        let all_ready = observer.until_ready(&prefix, rooms, PATIENCE);
        tokio::try_join!(load.flat_out(&prefix, rooms), all_ready)?;
        let rate = rooms as f64 / began.elapsed().as_secs_f64();
        let after = operator.usage()?;
        let seen = observer.rooms(&prefix);
        if observer.relisted() {
            println!("the watch had to list again: not every write was counted");
        }
        operator.stop().await?;
        drop(observer);
        load.clear().await?;
        Ok(Round {
            raw,
            rate,
            writes: seen.values().map(|room| f64::from(room.writes)).sum::<f64>() / seen.len() as f64,
            cpu_per_1000: (after.cpu_seconds - before.cpu_seconds) * 1000.0 / rooms as f64,
            resident: after.resident as f64 / MEGABYTE,
        })
    }

    async fn at_rate(&self, report: &mut Report) -> Result<()> {
        let Options { rate, seconds, .. } = *self.options;
        let count = (rate * seconds).round() as usize;
        let observer = self.observer().await?;
        let sent = self.load.at_rate("rate-", count, rate).await?;
        observer.until_ready("rate-", count, PATIENCE).await?;
        let rooms = observer.rooms("rate-");
        let mut times: Vec<_> = rooms.iter().filter_map(|(name, room)| Some(room.ready? - *sent.get(name)?)).collect();
        times.sort();
        let at = format!("at {rate} rooms/s, create sent → Ready seen");
        report.add(format!("{at}, p50"), "ms", Goal::AtMost(20.0), percentile_ms(&times, 0.5));
        report.add(format!("{at}, p99"), "ms", Goal::AtMost(100.0), percentile_ms(&times, 0.99));
        report.add(format!("{at}, slowest"), "ms", Goal::None, percentile_ms(&times, 1.0));
        Ok(())
    }
}

fn add_rounds(rounds: &[Round], report: &mut Report) {
    let middle = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    report.add(
        format!("API server alone: create + status, {WRITERS} writers"),
        "rooms/s",
        Goal::None,
        middle(|r| r.raw),
    );
    report.add(format!("with the operator: {WRITERS} writers, all Ready"), "rooms/s", Goal::None, middle(|r| r.rate));
    report.add("share of the API server alone, in a round", "", Goal::AtLeast(0.9), middle(|r| r.rate / r.raw));
    report.add("operator writes per room until Ready", "", Goal::AtMost(2.0), middle(|r| r.writes));
    report.add("operator CPU per 1000 rooms", "s", Goal::None, middle(|r| r.cpu_per_1000));
    report.add("operator memory", "MB", Goal::None, middle(|r| r.resident));
}
