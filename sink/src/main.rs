//! `weir-sink`: see `weir_sink::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any thread exists.
    weir_sink::cli::main().into()
}
