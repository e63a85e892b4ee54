//! Several sorted lists of entries read as one; of entries of the same producer the newest is given.
//!
//! Invariant: ids ascend strictly, every id of any input is given once, and an input that fails ends the whole: a
//! merge never goes on without what it could not read.

use std::fmt;
use std::sync::Arc;

use super::run_reader::Run;
use crate::error::Error;
use crate::producer::Entry;
use crate::types::ProducerId;

type Item = Result<(ProducerId, Entry), Error>;

/// Sorted inputs as one stream. Memory: 256 KiB and the entries of one block for each run.
pub struct MergedEntries<'a> {
    /// Oldest first.
    inputs: Vec<Input<'a>>,
    failed: bool,
}

struct Input<'a> {
    rest: Box<dyn Iterator<Item = Item> + Send + 'a>,
    /// `None` at the end.
    head: Option<(ProducerId, Entry)>,
}

impl<'a> MergedEntries<'a> {
    /// The entries of `runs`, oldest run first, and over them those of `frozen`, which must be sorted by id.
    ///
    /// # Errors
    ///
    /// What the first read of each run may answer.
    pub fn new(runs: &[Arc<Run>], frozen: &'a [(ProducerId, &'a Entry)]) -> Result<Self, Error> {
        let mut inputs = Vec::with_capacity(runs.len() + 1);
        for run in runs {
            inputs.push(Input::new(Box::new(run.entries()))?);
        }
        if !frozen.is_empty() {
            inputs.push(Input::new(Box::new(frozen.iter().map(|(id, entry)| Ok((*id, **entry)))))?);
        }
        Ok(Self { inputs, failed: false })
    }

    fn next_entry(&mut self) -> Result<Option<(ProducerId, Entry)>, Error> {
        let Some(id) = self.inputs.iter().filter_map(|input| input.head.map(|(id, _)| id)).min() else {
            return Ok(None);
        };
        let mut newest = None;
        for input in &mut self.inputs {
            if input.head.is_some_and(|(head, _)| head == id) {
                newest = input.head;
                input.advance()?;
            }
        }
        Ok(newest)
    }
}

impl<'a> Input<'a> {
    fn new(rest: Box<dyn Iterator<Item = Item> + Send + 'a>) -> Result<Self, Error> {
        let mut input = Self { rest, head: None };
        input.advance()?;
        Ok(input)
    }

    fn advance(&mut self) -> Result<(), Error> {
        self.head = self.rest.next().transpose()?;
        Ok(())
    }
}

impl Iterator for MergedEntries<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        if self.failed {
            return None;
        }
        let next = self.next_entry().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

impl fmt::Debug for MergedEntries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MergedEntries")
            .field("inputs", &self.inputs.len())
            .field("failed", &self.failed)
            .finish()
    }
}
