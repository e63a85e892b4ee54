//! What the tests of crashes and faults share.

pub(crate) mod check;
pub(crate) mod ledger;
