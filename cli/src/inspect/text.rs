//! Tables and lines for people.
//!
//! Invariant: plain words, one row a thing; nothing in a table is left out of `--json`.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use oncelog::types::LogPoint;

/// An empty table with these headings.
pub(super) fn table<const N: usize>(headings: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings);
    table
}

/// A cell with a number, at the right.
pub(super) fn number(value: impl ToString) -> Cell {
    Cell::new(value.to_string()).set_alignment(CellAlignment::Right)
}

/// `value`, or a dash where there is none.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A cell with a number or a dash.
pub(super) fn maybe_number(value: Option<impl ToString>) -> Cell {
    number(or_dash(value))
}

/// `first..last`, both inclusive, or one number.
pub(super) fn span(first: impl ToString, last: impl ToString) -> String {
    let (first, last) = (first.to_string(), last.to_string());
    if first == last { first } else { format!("{first}..{last}") }
}

/// A place between two batches.
pub(super) fn point(point: &LogPoint) -> String {
    let batch = point.last_batch.map_or_else(String::new, |(at, batch)| {
        format!(
            " (behind the batch at byte {at}, CRC {:08x}, leader epoch {})",
            batch.crc, batch.leader_epoch.0
        )
    });
    format!("offset {}, byte {} of segment {}{batch}", point.offset, point.position, point.segment)
}
