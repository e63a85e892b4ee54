//! The bodies of the fuzz targets, one module each, and what they share.
//!
//! Invariant: nothing here needs a fuzzer. A target is a function from bytes to `()` that panics if the library breaks
//! a promise, and every promise is stated against something simpler than the library: a second reader, a linear scan, a
//! model. `tests/fuzz_replay.rs` of the library compiles this file too and runs all kept inputs on stable Rust.

pub mod batch_decode;
pub mod dir_open;
pub mod index_lookup;
pub mod run_parse;
pub mod snapshot_parse;

mod disk;
mod input;
mod naive;
