//! `producers.<number>.run`: an immutable list of producer entries in ascending order of id.
//!
//! ```text
//! header    a multiple of 4096 bytes   `header`: what the run covers; ends with its own CRC-32
//! blocks    4096 bytes each            `block`: entries, spelled as in `entry`; begins with its own CRC-32
//! index     12 bytes a block           `index`: first id and CRC-32 of each block
//! ```
//!
//! Invariant: the header's CRC covers the index's, the index covers the CRC of every block, and the header gives the
//! length of the file to the byte. Whoever knows the header's CRC therefore knows every byte of the run: no block of
//! another run, and no older state of the same place on the medium, can pass for one of this.

mod block;
mod entry;
mod header;
mod index;

pub use block::{BLOCK_SIZE, Block, BlockBuilder, BlockEntries};
pub use entry::{MAX_RUN_BATCHES, RunBatch, RunEntry};
pub use header::{CompletedTxn, HEADER_UNIT, RunHeader, RunKind};
pub use index::{BlockRef, INDEX_ENTRY_SIZE, RunIndex};

#[cfg(test)]
pub use entry::strategy::run_entry as any_run_entry;

#[cfg(test)]
mod tests;
