//! Which armed points there are for a session, and what it must do to come by them.
//!
//! Invariant: every point of the library belongs to exactly one profile at least: the full one.

use oncelog::testing::Point;

use super::args::Profile;
use super::maintenance::care_of;
use super::partitions::Favour;
use super::shares;

/// The points that sessions come by.
pub(super) fn planned_points(profile: Profile) -> impl Iterator<Item = Point> {
    let of_transactions = |point: Point| point.name().starts_with("txn.");
    let is_of_core =
        move |point: Point| care_of(point).is_none() && !of_transactions(point) && !is_of_root(point);
    Point::ALL.iter().copied().filter(move |point| profile == Profile::Full || is_of_core(*point))
}

pub(super) fn is_of_recovery(point: Point) -> bool {
    point.name().starts_with("recovery.")
}

/// Points of what is done to the root, or to partitions other than the log.
pub(super) fn is_of_root(point: Point) -> bool {
    ["partition", "root", "ids", "names", "compaction"].contains(&shares::operation(point.name()))
}

/// What a session must do often to come by this point.
pub(super) fn favour_of(point: Point) -> Option<Favour> {
    match point {
        Point::PartitionMade => Some(Favour::Create),
        Point::PartitionRenamed | Point::PartitionEmptied => Some(Favour::Delete),
        Point::RootRested => Some(Favour::Rest),
        Point::RootPointsWritten => Some(Favour::WriteOffsets),
        Point::IdsTaken => Some(Favour::Allocate),
        Point::NamesTaken | Point::NamesFencing => Some(Favour::Claim),
        _ if shares::operation(point.name()) == "compaction" => Some(Favour::Compact),
        _ => None,
    }
}

/// Points that come only once there are several runs.
pub(super) fn is_of_merge(point: Point) -> bool {
    point.name().starts_with("merge.")
}

/// Points of the manifest's replacement, which both opening and working come by.
pub(super) fn is_of_state(point: Point) -> bool {
    point.name().starts_with("state.")
}
