//! `weir-bench`: load for a Weir sink, measured at the sender, and what is made of it: one JSON line per outcome, a gate
//! of ratios, the tables of docs/performance.md.

mod agents;
mod connections;
mod fleet;
mod flood;
mod footprint;
mod gate;
mod http;
mod kills;
mod ledger;
mod peers;
mod program;
mod queries;
mod replay;
mod report;
mod restart;
mod tls;
mod work;

use std::io::Write;

use clap::{Parser, Subcommand};
use serde::Serialize;

#[derive(Parser)]
#[command(
    name = "weir-bench",
    about = "Load for a Weir sink, measured at the sender"
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Many agents deliver seeded, sensor-like readings as fast as the sink takes them.
    Fleet(fleet::Args),
    /// The same at the highest rate, then at 10, 50 and 90 percent of it: one line each.
    Latency(fleet::Args),
    /// Thousands of connections to a sink of its own: memory, a storm, fairness.
    Connections(connections::Args),
    /// Frequent questions to a sink of its own, as its data grows and while readings come in.
    Queries(queries::Args),
    /// A kill with much in the journal, and how long until the sink is ready again.
    Restart(restart::Args),
    /// Kills of a sink under load, of agents too: what is lost, what is stored twice.
    Kills(kills::Args),
    /// One tenant floods: what another one waits for its acknowledgements.
    Flood(flood::Args),
    /// What an agent uses beside a sink: CPU, memory, switches, disk.
    Footprint(footprint::Args),
    /// A sink within TLS beside one without: points per CPU-second, memory per idle connection.
    Tls(tls::Args),
    /// The standard works into the tables and the chart of docs/performance.md.
    Report(report::Args),
    /// The same readings as Prometheus remote write or OTLP, to any server.
    Replay(replay::Args),
    /// Other servers of this system's packages beside Weir on the same work.
    Peers(peers::Args),
    /// Ratios within one run that hold on any machine; fails where one does not.
    Gate(gate::Args),
}

fn main() -> anyhow::Result<()> {
    let command = Args::parse().command;
    let threads = match &command {
        Command::Fleet(args) | Command::Latency(args) => args.threads,
        _ => 1,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match &command {
            Command::Fleet(args) => say(&[fleet::run(args).await?]),
            Command::Latency(args) => say(&fleet::latency(args).await?),
            Command::Connections(args) => say(&[connections::run(args).await?]),
            Command::Queries(args) => say(&queries::run(args).await?),
            Command::Restart(args) => say(&[restart::run(args).await?]),
            Command::Kills(args) => say(&[kills::run(args).await?]),
            Command::Flood(args) => say(&[flood::run(args).await?]),
            Command::Footprint(args) => say(&[footprint::run(args).await?]),
            Command::Tls(args) => say(&[tls::run(args).await?]),
            Command::Report(args) => report::run(args).await,
            Command::Replay(args) => say(&[replay::run(args).await?]),
            Command::Peers(args) => say(&peers::run(args).await?),
            Command::Gate(args) => {
                let checks = gate::run(args).await?;
                say(&checks)?;
                gate::verdict(&checks)
            }
        }
    })
}

fn say<T: Serialize>(outcomes: &[T]) -> anyhow::Result<()> {
    for outcome in outcomes {
        writeln!(std::io::stdout(), "{}", serde_json::to_string(outcome)?)?;
    }
    Ok(())
}
