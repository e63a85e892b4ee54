//! What was found, with what to do about it.

use std::ops::Range;

use oncelog::Intended;
use oncelog::error::{Corruption, Malformed};
use oncelog::types::Offset;

use crate::inspect::json::Damage;
use crate::inspect::source::Source;

/// What can be done about a wrong file of each kind.
pub(super) mod advice {
    pub(in crate::inspect::verify) const INDEX: &str =
        "delete the file: it is made anew; until then look-ups are slower, never wrong";
    pub(in crate::inspect::verify) const TIME_INDEX: &str =
        "delete the file: it is made anew; until then a search by time may begin too late";
    pub(in crate::inspect::verify) const TXN_INDEX: &str =
        "restore the file: without it, readers of committed records see aborted ones";
    pub(in crate::inspect::verify) const SNAPSHOT: &str = "delete the file: the state is read from the log or an older file, and the next clean close writes a new one";
    pub(in crate::inspect::verify) const RUN: &str =
        "nothing: the next open reads the older chain or the log in its place; check the medium";
    pub(in crate::inspect::verify) const WATERMARK: &str =
        "nothing: it is a lower bound; the next open checks more of the log";
    pub(in crate::inspect::verify) const LOST_END: &str =
        "the log lost its end: restore it from a replica or a backup; what is gone is not in this directory";
    pub(in crate::inspect::verify) const EPOCHS: &str = "delete the file: it is made anew from the batches; a follower that truncates by it may cut too little";
    pub(in crate::inspect::verify) const ROOT: &str =
        "delete the file: without it more is checked at the next start";
}

/// The findings so far.
pub(super) struct Findings<'a> {
    source: &'a Source,
    intended: Option<&'a Intended>,
    list: Vec<Damage>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(source: &'a Source, intended: Option<&'a Intended>) -> Self {
        Self { source, intended, list: Vec::new() }
    }

    /// A rule that is broken `base` bytes into a file, in a thing that ends before byte `end`.
    pub(super) fn add(&mut self, name: &str, malformed: Malformed, base: u64, end: u64, advice: &str) {
        let len = end.saturating_sub(base);
        self.list.push((&malformed.in_file(&self.source.path(name), base, len, advice)).into());
    }

    /// The same for batches, with what recovery will do about it.
    pub(super) fn add_in_log(
        &mut self,
        name: &str,
        malformed: Malformed,
        bytes: Range<u64>,
        offsets: Option<Range<Offset>>,
    ) {
        let advice = self.about_log(name, bytes.start.saturating_add(malformed.at));
        let len = bytes.end.saturating_sub(bytes.start);
        let mut corruption = malformed.in_file(&self.source.path(name), bytes.start, len, advice);
        corruption.offsets = offsets;
        self.list.push((&corruption).into());
    }

    pub(super) fn add_corruption(&mut self, corruption: &Corruption) {
        self.list.push(corruption.into());
    }

    /// Adds what an other check found, unless something was found in that file at that place.
    pub(super) fn add_new(&mut self, corruption: &Corruption) {
        let damage = Damage::from(corruption);
        let known = self.list.iter().any(|known| {
            known.file == damage.file && (damage.bytes == [0, 0] || known.bytes[0] <= damage.bytes[1])
        });
        if !known {
            self.list.push(damage);
        }
    }

    fn about_log(&self, name: &str, byte: u64) -> String {
        let Some(intended) = self.intended else {
            return "restore the file from a replica or a backup; or open with salvage, which cuts the log here and \
                    keeps the cut bytes aside"
                .to_owned();
        };
        let cuts = intended.log.report.cuts.iter();
        match cuts.filter(|cut| cut.file == name).find(|cut| cut.bytes.contains(&byte)) {
            Some(cut) => {
                let kept = cut
                    .keepsake
                    .as_ref()
                    .map_or_else(String::new, |name| format!(" and keeps the bytes in {name}"));
                format!("the next open cuts the log at offset {}{kept}", cut.offset)
            }
            None => "restore the file from a replica or a backup: whoever reads this batch gets an error"
                .to_owned(),
        }
    }

    /// By file and byte.
    pub(super) fn into_sorted(mut self) -> Vec<Damage> {
        self.list.sort_by(|a, b| (&a.file, a.bytes).cmp(&(&b.file, b.bytes)));
        self.list
    }
}
