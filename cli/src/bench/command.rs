//! Arguments of `oncelog bench`, and the run over the cases that they name.
//!
//! Invariant: every argument is checked before the first case begins, so that a long run does not end in a typing
//! error.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::cases::{Bench, CASES, Case};
use super::emit::{Emit, JsonLines, Table};
use super::settings::Settings;

/// Measure the log beside the raw limit of the same work.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Cases (`all`, or see `list`) and settings as KEY=VALUE; k, m and g are powers of 1024
    #[arg(required = true, value_name = "CASE|KEY=VALUE")]
    words: Vec<String>,
    /// Print one JSON object a line instead of a table
    #[arg(long)]
    json: bool,
    /// Where the logs are written for the time of the run [default: the system's temporary directory]
    #[arg(long, value_name = "D")]
    dir: Option<PathBuf>,
}

/// Runs the cases.
///
/// # Errors
///
/// An unknown case or setting, a value out of range, or what the system refused during a run.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let (settings, names): (Vec<&str>, Vec<&str>) =
        args.words.iter().map(String::as_str).partition(|word| word.contains('='));
    if names.contains(&"list") {
        list();
        return Ok(ExitCode::SUCCESS);
    }
    let cases = chosen(&names)?;
    let (dir, settings) = split_dir(&settings)?;
    let mut resolved = Vec::new();
    for case in &cases {
        resolved.push(Settings::resolve(case.name, case.settings, &settings)?);
    }
    refuse_unknown(&cases, &settings)?;
    let dir = dir.or_else(|| args.dir.clone()).unwrap_or_else(std::env::temp_dir);
    let scratch = tempfile::Builder::new()
        .prefix("oncelog-bench-")
        .tempdir_in(&dir)
        .with_context(|| format!("{} cannot hold the logs of the run", dir.display()))?;
    let mut emit: Box<dyn Emit> = if args.json { Box::new(JsonLines) } else { Box::new(Table::default()) };
    for (case, settings) in cases.iter().zip(resolved) {
        let bench = Bench { settings, dir: scratch.path().to_path_buf(), progress: progress(case) };
        let rows = (case.run)(&bench).with_context(|| format!("case {}", case.name))?;
        bench.progress.finish_and_clear();
        for row in &rows {
            emit.row(case.name, &bench.settings, row);
        }
    }
    emit.finish();
    Ok(ExitCode::SUCCESS)
}

fn chosen(names: &[&str]) -> Result<Vec<&'static Case>> {
    let mut cases = Vec::new();
    for name in names {
        match CASES.iter().find(|case| case.name == *name) {
            Some(case) => cases.push(case),
            None if *name == "all" => cases.extend(CASES),
            None => bail!("there is no case {name:?}; there are: all, {}", known_cases()),
        }
    }
    if cases.is_empty() {
        bail!("no case is named; there are: all, {}", known_cases());
    }
    Ok(cases)
}

fn known_cases() -> String {
    CASES.iter().map(|case| case.name).collect::<Vec<_>>().join(", ")
}

/// A `key=value` word, divided.
type Pair<'a> = (&'a str, &'a str);

/// `dir=D` is another way to say `--dir D`.
fn split_dir<'a>(words: &[&'a str]) -> Result<(Option<PathBuf>, Vec<Pair<'a>>)> {
    let pairs: Vec<_> = words.iter().filter_map(|word| word.split_once('=')).collect();
    let dir = pairs.iter().rev().find(|(key, _)| *key == "dir").map(|(_, value)| PathBuf::from(value));
    if dir.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) {
        bail!("dir= is empty; it takes the name of a directory");
    }
    Ok((dir, pairs.into_iter().filter(|(key, _)| *key != "dir").collect()))
}

/// A setting that no chosen case has is a mistake; one that some of them have is not.
fn refuse_unknown(cases: &[&Case], settings: &[Pair<'_>]) -> Result<()> {
    for (key, _) in settings {
        if cases.iter().all(|case| case.settings.iter().all(|setting| setting.name != *key)) {
            let mut known: Vec<_> =
                cases.iter().flat_map(|case| case.settings).map(|setting| setting.name).collect();
            known.sort_unstable();
            known.dedup();
            bail!("{key}= is no setting of the chosen cases; they have: dir, {}", known.join(", "));
        }
    }
    Ok(())
}

fn list() {
    for case in CASES {
        println!("{:16} {}", case.name, case.what);
        for setting in case.settings {
            println!("{:16}   {setting}", "");
        }
    }
}

/// A bar on stderr where that is a terminal. It is drawn between the timed regions only.
fn progress(case: &Case) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0).with_prefix(case.name);
    let style = ProgressStyle::with_template("{prefix:16} {bar:24} {pos}/{len} {msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
