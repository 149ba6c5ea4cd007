//! Parses the command line, runs the command, and reports errors.

use std::process::ExitCode;

use sungrazer::cli::{self, Cli};

fn main() -> ExitCode {
    match Cli::from_command_line().run() {
        Ok(code) => code,
        Err(error) => cli::failure(&error),
    }
}
