//! What a program's exit status says, after the BSD `sysexits` numbers where one fits.

use std::process::ExitCode;

/// Why a program ended. The numbers are part of the command line's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All went as asked.
    Ok = 0,
    /// The command ran and its answer is "no": unhealthy, unexplained readings.
    Failure = 1,
    /// The command line or the configuration is wrong (`EX_USAGE`): starting again will not help.
    Usage = 64,
    /// The data given is wrong (`EX_DATAERR`), for example an SQL statement that cannot be read.
    Data = 65,
    /// Another program that is needed does not answer (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// A fault in this program (`EX_SOFTWARE`): a task panicked.
    Software = 70,
    /// A file, directory or listening socket cannot be created (`EX_CANTCREAT`).
    CannotCreate = 73,
    /// Reading or writing failed while running (`EX_IOERR`), for example a poisoned journal.
    Io = 74,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Prints what clap has to say and answers how to exit: 0 after `--help` and `--version`, else 64 in place of clap's 2.
pub fn after_clap(error: &clap::Error) -> Exit {
    // Nothing is left to tell the operator when the terminal is gone.
    let _ = error.print();
    if error.use_stderr() {
        Exit::Usage
    } else {
        Exit::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Command;

    #[test]
    fn a_wrong_flag_is_usage_and_help_is_ok() {
        let run = |args: &[&str]| {
            let command = Command::new("weir").no_binary_name(true);
            after_clap(&command.try_get_matches_from(args).unwrap_err())
        };
        assert_eq!(run(&["--nonsense"]), Exit::Usage);
        assert_eq!(run(&["--help"]), Exit::Ok);
    }
}
