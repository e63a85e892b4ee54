//! oncelog
#![allow(missing_docs)]
pub mod error;
pub mod types;
pub mod format { pub mod cursor; pub mod batch; }
