//! The command line of the crash test.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};
use oncelog::testing::Break;

use super::breaks;

/// Kills without `--kills` and `--seconds`.
pub(super) const DEFAULT_KILLS: u32 = 100;

/// Kill a log again and again, and check every promise after each kill
///
/// A child process appends with up to five batches in flight per producer and is killed with SIGKILL at random moments
/// and at armed points inside roll, checkpoint, merge, state write and recovery; with the full profile also inside of
/// truncations, deletions, compactions, the writing of transaction markers, and of what is done to a root of several
/// partitions. A fresh process opens the log, and everything that was acknowledged is looked for and retried. Exits with
/// 1 if a promise was broken, and keeps the directory and the seed then. A run of 500 kills or more that had less than
/// 2 % of them inside of one of these operations is no pass either.
#[derive(ClapArgs, Clone, Debug)]
pub(crate) struct Args {
    /// Directory to work in; must be missing or empty, and is kept (default: a temporary one, kept after a violation)
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// Stop after so many kills (default: 100)
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(super) kills: Option<u32>,
    /// Stop after so many seconds
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) seconds: Option<u32>,
    /// Producers that append
    #[arg(long, value_name = "P", default_value_t = 80, value_parser = clap::value_parser!(u16).range(1..=2000))]
    pub(super) producers: u16,
    /// Where all choices come from (default: drawn, and printed)
    #[arg(long, value_name = "X")]
    pub(super) seed: Option<u64>,
    /// What is done beside idempotent appends (default: core, or what the rule of --break needs)
    #[arg(long, value_enum)]
    pub(super) profile: Option<Profile>,
    /// What appends ask for
    #[arg(long, value_enum, default_value_t = DurabilityMix::Mixed)]
    pub(super) durability: DurabilityMix,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(super) json: bool,
    /// Switch one rule off, to see the test notice; `list` names them
    #[arg(long = "break", value_name = "RULE", value_parser = parse_break)]
    pub(super) broken: Option<BreakArg>,
}

impl Args {
    /// The profile asked for, or else the one that shows whether the rule of `--break` is kept.
    pub(super) fn profile(&self) -> Profile {
        self.profile.unwrap_or(match self.broken {
            Some(BreakArg::Rule(rule)) => breaks::profile(rule),
            _ => Profile::Core,
        })
    }

    /// The command line that makes the same choices again, as far as time allows.
    pub(super) fn replay(&self, seed: u64) -> String {
        let durability =
            self.durability.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        let profile = match self.profile() {
            Profile::Core => "",
            Profile::Full => " --profile full",
        };
        let mut line = format!(
            "oncelog crash-test{profile} --seed {seed} --producers {} --durability {durability}",
            self.producers
        );
        match self.seconds {
            Some(seconds) => line.push_str(&format!(" --seconds {seconds}")),
            None => line.push_str(&format!(" --kills {}", self.kills.unwrap_or(DEFAULT_KILLS))),
        }
        if let Some(BreakArg::Rule(rule)) = self.broken {
            line.push_str(&format!(" --break {}", rule.name()));
        }
        line
    }
}

/// What is done beside idempotent appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Profile {
    /// Nothing: appends, rolls, checkpoints, merges, recoveries
    Core,
    /// Transactions, deletion, retention, truncation, compaction, and several partitions under one root
    Full,
}

impl Profile {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Full => "full",
        }
    }
}

/// What appends ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DurabilityMix {
    /// All are acknowledged when they are on the medium
    Durable,
    /// All are acknowledged when they are written
    Buffered,
    /// Both, in proportions that change
    Mixed,
}

/// `--break`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BreakArg {
    List,
    Rule(Break),
}

fn parse_break(text: &str) -> Result<BreakArg, String> {
    if text == "list" { Ok(BreakArg::List) } else { breaks::parse(text).map(BreakArg::Rule) }
}
