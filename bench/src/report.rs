//! `weir-bench report`: runs the standard works and writes what came of them into a document, between two marks.
//!
//! What stands outside the marks is left alone. Beside the figures: the machine, the commit, the commands, and how busy the
//! machine was, which moves all figures of CPU.

mod chart;
mod table;

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use crate::gate::programs;
use crate::work::{self, LARGE, SINGLE, SMALL};
use crate::{connections, footprint, restart, tls};

const BEGIN: &str = "<!-- weir-bench report: begin -->";
const END: &str = "<!-- weir-bench report: end -->";

/// How it is run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory with `weir-sink` and `weir-agent`; that of this program when not given.
    #[arg(long)]
    pub(crate) programs: Option<PathBuf>,
    /// Another `weir-agent`, as an image has it.
    #[arg(long)]
    pub(crate) agent: Option<PathBuf>,
    /// The document with the marks.
    #[arg(long, default_value = "docs/performance.md")]
    pub(crate) document: PathBuf,
    /// Where the chart goes.
    #[arg(long, default_value = "docs/performance.svg")]
    pub(crate) chart: PathBuf,
    /// Part of each work.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) part: f64,
}

/// Runs everything, writes both files.
pub(crate) async fn run(args: &Args) -> anyhow::Result<()> {
    let programs = programs(args.programs.clone())?;
    let document = std::fs::read_to_string(&args.document)
        .with_context(|| format!("cannot read {}", args.document.display()))?;
    let (head, tail) = around(&document)?;
    let mut works = Vec::new();
    for (work, merging) in [
        (LARGE, false),
        (LARGE, true),
        (SMALL, false),
        (SINGLE, false),
    ] {
        let measured = work::run(&programs, work, args.part, merging).await?;
        works.push((measured, merging));
    }
    let mut agents = Vec::new();
    for (series, interval_ms) in [(200, 1000), (1000, 100)] {
        let watch = footprint::Args {
            programs: Some(programs.clone()),
            agent: args.agent.clone(),
            series,
            interval_ms,
            seconds: (60.0 * args.part) as u64 + 5,
        };
        agents.push(footprint::run(&watch).await?);
    }
    let many = connections::Args {
        programs: Some(programs.clone()),
        agents: (10_000.0 * args.part) as u32 + 10,
        large: 10,
        flood: 4,
    };
    let many = connections::run(&many).await?;
    let both = tls::Args {
        programs: Some(programs.clone()),
        points: (20_000_000.0 * args.part) as u64 + 100_000,
        rounds: 3,
        connections: (1000.0 * args.part) as u32 + 60,
    };
    let both = tls::run(&both).await?;
    let again = restart::Args {
        programs: Some(programs),
        mib: (1024.0 * args.part) as u64 + 64,
        samples_per_batch: 1,
    };
    let again = restart::run(&again).await?;
    let tables = [
        table::machine(&said("git", &["describe", "--always", "--dirty"]))?,
        table::works(&works),
        table::agents(&agents),
        table::connections(&many),
        table::tls(&both),
        table::restart(&again),
    ];
    let text = format!("{head}{BEGIN}\n{}\n{END}{tail}", tables.join("\n"));
    std::fs::write(&args.document, text)?;
    std::fs::write(&args.chart, chart::of(&works))?;
    Ok(())
}

/// What stands before and behind the marks.
fn around(document: &str) -> anyhow::Result<(&str, &str)> {
    let (head, rest) = document
        .split_once(BEGIN)
        .with_context(|| format!("the document has no line {BEGIN}"))?;
    let (_, tail) = rest
        .split_once(END)
        .with_context(|| format!("the document has no line {END}"))?;
    Ok((head, tail))
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map_or_else(|_| Vec::new(), |output| output.stdout);
    String::from_utf8_lossy(&text).trim().to_owned()
}
