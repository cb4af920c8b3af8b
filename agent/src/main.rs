//! The `weir-agent` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_agent::cli::main()
}
