//! Prints the findings: a table for people, one JSON object a line for programs.
//!
//! Invariant: both say the same; a JSON line is printed as soon as its case is done.

use comfy_table::{CellAlignment, Table as Grid, presets};
use serde_json::{Map, Value, json};

use super::report::Row;
use super::rounds::Sample;
use super::settings::Settings;

/// Takes findings one by one.
pub(super) trait Emit {
    fn row(&mut self, case: &str, settings: &Settings, row: &Row);
    fn finish(&mut self);
}

/// One JSON object a line on standard output.
pub(super) struct JsonLines;

impl Emit for JsonLines {
    fn row(&mut self, case: &str, settings: &Settings, row: &Row) {
        for line in lines(case, settings, row) {
            println!("{line}");
        }
    }

    fn finish(&mut self) {}
}

fn lines(case: &str, settings: &Settings, row: &Row) -> Vec<Value> {
    let mut params = Map::new();
    for (name, value) in settings.all() {
        params.insert((*name).to_owned(), json!(value));
    }
    if let Some(part) = row.part {
        params.insert("part".to_owned(), json!(part));
    }
    let line = |engine: &str, metric: &str, unit: &str, sample: &Sample| {
        json!({
            "engine": engine, "case": case, "params": params, "metric": metric, "value": rounded(sample.median()),
            "unit": unit, "min": rounded(sample.min()), "max": rounded(sample.max()),
        })
    };
    let mut lines = Vec::new();
    if let Some((name, limit)) = &row.limit {
        let mut limit = line("limit", row.metric, row.unit, limit);
        limit["limit"] = json!(name);
        lines.push(limit);
    }
    lines.push(line("oncelog", row.metric, row.unit, &row.engine));
    if row.limit.is_some() || row.target.is_some() {
        let (compared, unit) = row.compared();
        let mut comparison = line("oncelog", &row.comparison_metric(), unit.unwrap_or("ratio"), &compared);
        comparison["median"] = comparison["value"].clone();
        if let Some(target) = row.target {
            comparison["must_be"] = json!(target.direction());
            comparison["target"] = json!(target.value());
            comparison["ok"] = json!(row.verdict());
        }
        lines.push(comparison);
    }
    lines
}

/// Four digits behind the point say more than any run here repeats.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// A table, printed when the last case is done.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<[String; 7]>,
}

impl Emit for Table {
    fn row(&mut self, case: &str, _settings: &Settings, row: &Row) {
        let name = row.part.map_or_else(|| case.to_owned(), |part| format!("{case}, {part}"));
        let limit = row.limit.as_ref().map_or_else(
            || "–".to_owned(),
            |(name, sample)| format!("{} {} ({name})", figure(sample.median()), row.unit),
        );
        let (compared, unit) = row.compared();
        let unit = unit.map_or_else(|| "×".to_owned(), |unit| format!(" {unit}"));
        let (median, min, max) = (figure(compared.median()), figure(compared.min()), figure(compared.max()));
        let compared = if row.limit.is_some() || row.target.is_some() || median != min {
            format!("{median}{unit} [{min} .. {max}]")
        } else {
            "–".to_owned()
        };
        let target = row.target.map_or_else(
            || "reported".to_owned(),
            |target| format!("{} {}{unit}", target.direction(), figure(target.value())),
        );
        let verdict = match row.verdict() {
            Some(true) => "ok",
            Some(false) => "short",
            None => "",
        };
        self.rows.push([
            name,
            row.metric.replace('_', " "),
            limit,
            format!("{} {}", figure(row.engine.median()), row.unit),
            compared,
            target,
            verdict.to_owned(),
        ]);
    }

    fn finish(&mut self) {
        let mut grid = Grid::new();
        grid.load_style(presets::ASCII_MARKDOWN);
        grid.set_header([
            "case",
            "metric",
            "limit",
            "oncelog",
            "ratio: median [min .. max]",
            "must reach",
            "",
        ]);
        for row in &self.rows {
            grid.add_row(row);
        }
        for column in grid.column_iter_mut().skip(2).take(3) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{grid}");
    }
}

/// As many digits as are worth reading.
fn figure(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 1000.0 => format!("{value:.0}"),
        magnitude if magnitude >= 100.0 => format!("{value:.1}"),
        magnitude if magnitude >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
