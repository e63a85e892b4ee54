//! Recovery on a simulated disk: logs, manifests and runs are put there by hand, damaged, and opened.

mod aborted;
mod at;
mod chains;
mod crash;
mod flips;
mod foreign;
mod kafka;
mod own;
mod world;
