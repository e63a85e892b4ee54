//! `docs/CONFORMANCE.md`, held to its word: every row has a verdict, every test it names exists, no test of Kafka stands
//! twice, and the numbers at its top are those of its tables.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the tree fails")]
#![expect(clippy::disallowed_methods, reason = "it reads the sources, not a log")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What a row says of one test of Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Kept,
    NotYet,
    DoesNotApply,
}

struct Row<'a> {
    kafka: &'a str,
    verdict: Option<Verdict>,
    /// The `path::test` names of the second column.
    ours: Vec<&'a str>,
}

/// The table below one heading.
struct Table<'a> {
    class: &'a str,
    rows: Vec<Row<'a>>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("docs/CONFORMANCE.md")).unwrap()
}

/// What stands between single backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn cells(line: &str) -> Vec<&str> {
    line.trim().trim_matches('|').split(" | ").map(str::trim).collect()
}

/// The lines of the first table of a text, without its head.
fn body_of_table(text: &str) -> impl Iterator<Item = &str> {
    text.lines().skip_while(|line| !line.starts_with('|')).skip(2).take_while(|line| line.starts_with('|'))
}

fn row(line: &str) -> Row<'_> {
    let (kafka, verdict) = line.trim().trim_matches('|').split_once(" | ").unwrap_or((line, ""));
    let ours: Vec<&str> = quoted(verdict).into_iter().filter(|name| name.contains(".rs::")).collect();
    let verdict = match verdict.trim() {
        text if reason(text, "not yet: ") => Some(Verdict::NotYet),
        text if reason(text, "does not apply: ") => Some(Verdict::DoesNotApply),
        text if text.starts_with('`') && !ours.is_empty() => Some(Verdict::Kept),
        _ => None,
    };
    Row { kafka: quoted(kafka).first().copied().unwrap_or_default(), verdict, ours }
}

fn reason(text: &str, word: &str) -> bool {
    text.strip_prefix(word).is_some_and(|reason| !reason.trim().is_empty())
}

fn tables(page: &str) -> Vec<Table<'_>> {
    let sections = page.split("\n## ").skip(1);
    sections
        .map(|section| Table {
            class: section.lines().next().unwrap_or_default(),
            rows: body_of_table(section).map(row).collect(),
        })
        .collect()
}

/// What is wrong with a page.
fn complaints(page: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for table in tables(page) {
        for row in &table.rows {
            let name = format!("{}.{}", table.class, row.kafka);
            if row.verdict.is_none() {
                wrong.push(format!("{name} has no verdict"));
            }
            wrong.extend(
                row.ours.iter().filter(|ours| !exists(ours)).map(|ours| format!("{name}: no {ours}")),
            );
            if !seen.insert(name.clone()) {
                wrong.push(format!("{name} stands twice"));
            }
        }
    }
    wrong
}

/// Whether `path::function` is a test: its attribute stands above it, perhaps with others and comments between.
fn is_a_test(name: &str) -> bool {
    let Some((path, function)) = name.split_once("::") else { return false };
    let text = fs::read_to_string(root().join(Path::new(path))).unwrap_or_default();
    let declared = format!("fn {function}(");
    let above: Vec<&str> =
        text.lines().map(str::trim).take_while(|line| !line.starts_with(&declared)).collect();
    above.len() < text.lines().count()
        && above.iter().rev().take_while(|line| line.starts_with(['#', '/'])).any(|line| *line == "#[test]")
}

#[test]
fn every_row_has_a_verdict_and_every_test_that_it_names_exists() {
    let wrong = complaints(&page(), is_a_test);
    assert!(wrong.is_empty(), "docs/CONFORMANCE.md:\n{}", wrong.join("\n"));
}

#[test]
fn the_numbers_at_the_top_are_those_of_the_tables() {
    let page = page();
    let stated: Vec<(String, [usize; 4])> = body_of_table(&page)
        .map(|line| {
            let cells = cells(line);
            let number = |at: usize| cells[at].parse().unwrap();
            (cells[0].trim_matches('`').to_owned(), [number(1), number(2), number(3), number(4)])
        })
        .collect();
    let counted: Vec<(String, [usize; 4])> = tables(&page)
        .iter()
        .map(|table| {
            let of = |verdict| table.rows.iter().filter(|row| row.verdict == Some(verdict)).count();
            let each = [Verdict::Kept, Verdict::NotYet, Verdict::DoesNotApply].map(of);
            (table.class.to_owned(), [table.rows.len(), each[0], each[1], each[2]])
        })
        .collect();
    assert_eq!(stated, counted);
    assert!(counted.len() > 10 && counted.iter().all(|(_, numbers)| numbers[0] > 0), "{counted:?}");
}

/// The other direction: a test of ours that names one of Kafka's stands in its row.
#[test]
fn every_test_of_the_conformance_suite_stands_in_the_row_that_it_names() {
    let page = page();
    let listed: BTreeSet<&str> =
        tables(&page).into_iter().flat_map(|table| table.rows).flat_map(|row| row.ours).collect();
    let mut missing = Vec::new();
    for entry in fs::read_dir(root().join("tests/conformance")).unwrap().map(Result::unwrap) {
        let text = fs::read_to_string(entry.path()).unwrap();
        for test in text.split("/// Kafka: ").skip(1) {
            let function =
                test.split("fn ").nth(1).and_then(|rest| rest.split('(').next()).unwrap_or_default();
            let name = format!("tests/conformance/{}::{function}", entry.file_name().to_string_lossy());
            if !listed.contains(name.as_str()) {
                missing.push(name);
            }
        }
    }
    assert!(missing.is_empty(), "no row of docs/CONFORMANCE.md names:\n{}", missing.join("\n"));
}

#[test]
fn a_bad_row_would_be_noticed() {
    let page = "# Page\n\n## Class\n\n| Kafka test | here |\n|---|---|\n| `kept` | `a.rs::b` |\n| `lost` | `a.rs::c` |\n\
                | `kept` | not yet: something |\n| `bare` |  |\n| `vague` | not yet: |\n| `prose` | somewhere |\n";
    assert_eq!(
        complaints(page, |name| name == "a.rs::b"),
        [
            "Class.lost: no a.rs::c",
            "Class.kept stands twice",
            "Class.bare has no verdict",
            "Class.vague has no verdict",
            "Class.prose has no verdict",
        ]
    );
}
