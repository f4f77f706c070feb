//! Media servers side by side: callplane's media node, mediasoup, Janus, LiveKit, and the floors.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use callplane_bench::{
    report::machine,
    sfu::{
        cases::{self, Case, Outcome, Size},
        floors,
        generator::{self, Generator},
        server::Peer,
        table::Tables,
    },
};
use clap::Parser;

/// No case takes longer, whatever the server does.
const LONGEST: Duration = Duration::from_secs(180);

/// Measures media servers under the same load.
#[derive(Debug, Parser)]
struct Options {
    /// Cases; all if none is named.
    #[arg(long = "case", value_enum, value_delimiter = ',')]
    cases: Vec<Case>,
    /// Servers; all if none is named.
    #[arg(long = "peer", value_enum, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// Rooms of 50 and rooms of 5 for callplane; the others, which need several times the CPU, get a fifth.
    #[arg(long, num_args = 2, default_values_t = [10, 50])]
    rooms: Vec<usize>,
    /// Event loops of a server in the cases with several rooms.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Subscribers take datagrams singly, as if they came from a network card that joins none.
    #[arg(long)]
    no_gro: bool,
    /// Without the floors.
    #[arg(long)]
    no_floors: bool,
    /// Where the report goes as JSON; the servers' logs go beside it.
    #[arg(long, default_value = "target/bench-sfu.json")]
    json: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let command = format!("bench-sfu {}", arguments.join(" ")).trim().to_owned();
    let mut tables = Tables { command, machine: machine(), ..Tables::default() };
    println!("{}", tables.machine);
    let generator = Generator::start(generator::Options { gro: !options.no_gro })?;
    if !options.no_floors {
        tables.floors = floors::measure(&generator.identity)?;
    }
    measure(&options, &generator, &mut tables).await;
    tables.judge();
    println!("\n{}\n", tables.text());
    tables.write(&options.json)?;
    println!("→ {}", options.json.display());
    Ok(())
}

async fn measure(options: &Options, generator: &Generator, tables: &mut Tables) {
    let cases = if options.cases.is_empty() { &Case::ALL[..] } else { &options.cases };
    let peers = if options.peers.is_empty() { &Peer::ALL[..] } else { &options.peers };
    let logs = options.json.with_extension("logs");
    for &case in cases {
        for &peer in peers.iter().filter(|peer| case.suits(**peer)) {
            let share = if peer == Peer::Callplane { 1 } else { 5 };
            let rooms = (options.rooms[0].div_ceil(share), options.rooms[1].div_ceil(share));
            let size = Size { seconds: options.seconds, rooms, workers: options.workers };
            println!("{case:?} {}…", peer.name());
            let outcome = tokio::time::timeout(LONGEST, cases::run(case, peer, size, generator, &logs)).await;
            match outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("not within {LONGEST:?}"))) {
                Ok(Outcome::Media(measured)) => tables.media.push(*measured),
                Ok(Outcome::Joins(joins)) => tables.joins.push(joins),
                Err(error) => {
                    let why = format!("{case:?} of {}: {error:#}", peer.name());
                    println!("{why}");
                    tables.absent.push(why);
                }
            }
        }
    }
}
