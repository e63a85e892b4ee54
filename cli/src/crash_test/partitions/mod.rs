//! The partitions beside the one that everything else in the test is about: one root, one `LogDir`, one allocator of ids.
//!
//! Invariant: a child does one deed at a time here, and the parent hears of it before it begins; so after a kill one deed
//! at most is in doubt, and it was done or not done, never half.
//!
//! In reading order: what is done (`deed`), what is written (`content`), the child (`hand`, `choice`), the parent's book
//! (`book`, `missing`), its questions (`look`), and what stands in the root (`root_files`).

mod content;
mod deed;

mod choice;
mod hand;

mod book;
mod missing;

mod look;
mod root_files;

pub(super) use book::{Books, Mark};
pub(super) use deed::{Asked, Crew, Deed, Favour, Outcome, RootSettings, Seen};
pub(super) use hand::{Root, answer, open, survey, work};
pub(super) use root_files::judge as judge_root;
