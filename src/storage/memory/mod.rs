//! A simulated disk: what its cache shows and what its medium has are kept apart, and a crash can come after any
//! operation.
//!
//! Fault model. A **power cut** may keep any subset of these, whatever their order was: each unsynced sector of 512
//! bytes (with the newest bytes or those of the last sync; never a mix), each unsynced length, each name of a directory
//! that was changed since its last sync (so an unsynced rename may show the old name, the new one, both or none, and a
//! removed file may come back). A sector that is kept behind the old end of its file brings the length along; a length
//! that is kept without its sectors shows zeros. A **kill** loses nothing, and what was unsynced stays so. A **failed
//! sync** of a file answers its error once and marks the bytes as clean: the cache shows them, later syncs answer `Ok`
//! and do not write them, until they are written again. A failed sync of a directory makes nothing durable and leaves
//! its names unsynced. Not modelled: bytes between the newest and the synced ones, bit rot, lost or misdirected writes
//! of sectors that were synced.

mod content;
mod disk;
mod fault;
mod file;
mod image;
mod tree;

pub use disk::MemoryStorage;
pub use fault::{Fault, Operation, OperationKind};
pub use image::{Image, Pending};

#[cfg(test)]
mod tests;
