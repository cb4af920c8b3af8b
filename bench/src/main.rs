//! `weir-bench fleet`: a simulated fleet that speaks the real protocol to any sink and says in
//! one JSON line what it sent, how long that took, and whether the sink's ledger closes.

mod fleet;
mod ledger;

use std::io::Write;

use clap::{Parser, Subcommand};

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
}

fn main() -> anyhow::Result<()> {
    let command = Args::parse().command;
    let (Command::Fleet(args) | Command::Latency(args)) = &command;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(args.threads)
        .enable_all()
        .build()?;
    let outcomes = match &command {
        Command::Fleet(_) => vec![runtime.block_on(fleet::run(args))?],
        Command::Latency(_) => runtime.block_on(fleet::latency(args))?,
    };
    for outcome in outcomes {
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&outcome)?)?;
    }
    Ok(())
}
