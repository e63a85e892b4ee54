//! The commands that look at a log which nobody has open.
//!
//! Invariant: nothing here writes a file. What exists is locked against writers first; what is damaged is shown up to
//! the damage, with file, byte, expected and found.

mod source;

mod batches;
mod indexes;
mod json;
mod text;

mod describe;
mod dump;
mod retries;
mod root;
mod verify;

use std::io::{self, Write};
use std::process::ExitCode;

use oncelog::error::Error;

/// The read-only commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Say what a partition directory holds and what a recovery would do; of a root, which partitions it has
    Describe(describe::Arguments),
    /// Print batches, records, indexes, snapshots, runs and the manifest
    Dump(dump::Arguments),
    /// Check every byte; exit code 1 if there is a finding
    Verify(verify::Arguments),
    /// Say how a retry of each producer's last batches would be answered, and by which rule
    Retries(retries::Arguments),
}

/// Runs a command and says on standard error what kept it from doing so.
pub(crate) fn run(command: Command) -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let done = match command {
        Command::Describe(arguments) => describe::run(&arguments, &mut out),
        Command::Dump(arguments) => dump::run(&arguments, &mut out),
        Command::Verify(arguments) => verify::run(&arguments, &mut out),
        Command::Retries(arguments) => retries::run(&arguments, &mut out),
    };
    match done.and_then(|code| out.flush().map(|()| code).map_err(Failure::from)) {
        Ok(code) => code,
        // Whoever reads, such as `head`, has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("oncelog: {failure}");
            ExitCode::from(CANNOT)
        }
    }
}

/// Exit code of a command that could not do what it was asked for; clap uses the same for a wrong usage.
const CANNOT: u8 = 2;
/// Exit code of `verify` with findings.
const FINDINGS: u8 = 1;

/// Why a command could not do what it was asked for.
#[derive(Debug)]
enum Failure {
    Log(Error),
    Output(io::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Log(error) => write!(f, "{error}"),
            Self::Output(error) => write!(f, "cannot write to standard output: {error}"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Log(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Output(error.into())
    }
}

type Done = Result<ExitCode, Failure>;
