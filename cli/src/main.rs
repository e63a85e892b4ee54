//! The command `oncelog`: proves, shows and measures partition logs.
//!
//! Invariant: everything here goes through the public API of the library, so that whatever this program can see and do,
//! an embedder can too. Exit codes: 0 all is well, 1 something is wrong with the log or a promise, 2 the command could not
//! be carried out.

mod bench;
mod crash_test;
mod inspect;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "oncelog", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// One variant a module; each has its arguments and `run`.
#[derive(Subcommand)]
enum Command {
    CrashTest(crash_test::Args),
    /// What `crash-test` starts and kills
    #[command(hide = true)]
    CrashChild,
    #[command(flatten)]
    Inspect(inspect::Command),
    /// Measure the log beside the raw limit of the same work
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::CrashTest(args) => crash_test::run(&args),
        Command::CrashChild => crash_test::run_child().map(|()| ExitCode::SUCCESS),
        Command::Inspect(command) => return inspect::run(command),
        Command::Bench(args) => bench::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("oncelog: {error:#}");
        ExitCode::from(2)
    })
}
