//! `weir-bench gate`: ratios within one run that must hold on any machine, however slow or busy it is.
//!
//! Bytes per point follow from the code and the seed alone. CPU is compared with CPU of the same program in the same
//! minute: what ten readings by themselves cost, beside ten thousand at once. A limit is half as much again as
//! what was measured when it was set, so that it is passed by a build that does work twice, not by a busy neighbour.

use std::path::PathBuf;

use anyhow::bail;
use serde::Serialize;

use crate::work::{self, LARGE, Measured, SINGLE, SMALL};

/// How the gate is run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory with `weir-sink`; that of this program when not given.
    #[arg(long)]
    pub(crate) programs: Option<PathBuf>,
    /// Part of the standard works' points; a fiftieth is enough for ratios.
    #[arg(long, default_value_t = 0.02)]
    pub(crate) part: f64,
}

/// One ratio and its limit.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    what: &'static str,
    found: f64,
    limit: f64,
}

/// Runs three works and compares.
///
/// # Errors
/// A work could not be run, or its ledger did not close.
pub(crate) async fn run(args: &Args) -> anyhow::Result<Vec<Check>> {
    let programs = programs(args.programs.clone())?;
    let large = work::run(&programs, LARGE, args.part, false).await?;
    let small = work::run(&programs, SMALL, args.part, false).await?;
    let single = work::run(&programs, SINGLE, args.part * 2.0, false).await?;
    for one in [&large, &small, &single] {
        if !one.closed {
            bail!(
                "{}: not every point is in a file, or the ledger is open",
                one.work
            );
        }
    }
    let checks = checks(&large, &small, &single);
    Ok(checks)
}

/// # Errors
/// What is above its limit.
pub(crate) fn verdict(checks: &[Check]) -> anyhow::Result<()> {
    let broken: Vec<String> = checks
        .iter()
        .filter(|check| check.found > check.limit)
        .map(|check| {
            format!(
                "{}: {:.2}, at most {:.2}",
                check.what, check.found, check.limit
            )
        })
        .collect();
    if broken.is_empty() {
        return Ok(());
    }
    bail!("{}", broken.join("; "))
}

fn checks(large: &Measured, small: &Measured, single: &Measured) -> Vec<Check> {
    let check = |what, found, limit| Check { what, found, limit };
    vec![
        check(
            "bytes per point on the wire, 100 x 100",
            large.wire_bytes_per_point,
            1.3,
        ),
        check(
            "bytes per point on disk, 100 x 100",
            large.disk_bytes_per_point,
            SMALL_FILE_BYTES,
        ),
        check(
            "CPU per point of ten-reading batches, in that of 100 x 100",
            small.cpu_ns_per_point / large.cpu_ns_per_point,
            SMALL_TO_LARGE,
        ),
        check(
            "CPU per point at one batch per request, in that at sixteen",
            single.cpu_ns_per_point / small.cpu_ns_per_point,
            SINGLE_TO_SMALL,
        ),
    ]
}

/// Where no directory is given, programs stand beside this one.
pub(crate) fn programs(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    match given {
        Some(given) => Ok(given),
        None => {
            let own = std::env::current_exe()?;
            Ok(own.parent().map(PathBuf::from).unwrap_or_default())
        }
    }
}

/// A file of 200,000 points has as many different values as one of a million, and as many names.
const SMALL_FILE_BYTES: f64 = 1.6;

/// Measured in the dev profile: 3.8.
const SMALL_TO_LARGE: f64 = 6.0;
/// Measured in the dev profile: 2.1.
const SINGLE_TO_SMALL: f64 = 3.5;
