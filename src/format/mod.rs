//! Bytes on disk: one artefact, one file, reader and writer side by side.
//!
//! Invariant: nothing here does I/O, reads a clock or keeps state; every reader goes through [`cursor::Cursor`], which
//! cannot read past the end of what it was given. The list of modules is the list of `docs/FORMAT.md`.

pub mod cursor;

pub mod batch;
pub mod batch_builder;
pub mod compression;
pub mod control;
pub mod record;

pub mod index_entry;
pub mod snapshot;

pub mod log_point;
pub mod manifest;
pub mod run;
pub mod txn_index_note;
pub mod watermark;

pub mod checkpoint_file;
pub mod identity;
pub mod names;
pub mod partition_move;
pub mod producer_ids;
pub mod producer_names;
