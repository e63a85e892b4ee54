//! A simulated disk, to cut off, kill, fill and fail at any operation.
//!
//! Invariant: what the cache shows and what the medium has are kept apart, and the medium changes by a sync alone. The
//! fault model, which says what a crash may leave, is written at [`MemoryStorage`].

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
