//! `weir-demo`: the main job on embedded defaults. A sink, an agent on this host's sensors and
//! an agent with a simulated device; the sink is killed once; then a SQL answer and the ledger.

mod demo;

use std::process::ExitCode;

fn main() -> ExitCode {
    let keep = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--keep") => true,
        Some(other) => {
            demo::say(&format!(
                "unknown argument {other}: there is only --keep, which runs until Ctrl-C"
            ));
            return ExitCode::from(64);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only a few descriptors");
    runtime.block_on(demo::run(keep))
}
