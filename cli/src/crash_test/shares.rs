//! Whether a run has shown what it is for: enough kills inside of every operation.
//!
//! Invariant: a run of [`ENOUGH_KILLS`] kills that left an operation out is not called a pass.

use std::collections::BTreeMap;

use super::args::Profile;

/// From so many kills on, every operation must have its share.
pub(super) const ENOUGH_KILLS: u64 = 500;
/// Of a hundred kills, so many inside of each operation at least.
const LEAST_PERCENT: u64 = 2;
/// The same as planned, because not every plan comes off.
const PLANNED_PERCENT: u64 = 4;

/// The operations that a run of this profile must have been killed in: beginnings of the names of points.
pub(super) fn operations(profile: Profile) -> &'static [&'static str] {
    match profile {
        Profile::Core => &["roll", "checkpoint", "merge", "recovery"],
        Profile::Full => &[
            "roll",
            "checkpoint",
            "merge",
            "recovery",
            "truncate",
            "retain",
            "compaction",
            "partition",
            "root",
        ],
    }
}

/// The operation that a point is inside of.
pub(super) fn operation(point: &'static str) -> &'static str {
    point.split_once('.').map_or(point, |(operation, _)| operation)
}

/// Kills by operation, of all points that were planned.
pub(super) fn by_operation(kills_by_point: &BTreeMap<&'static str, u64>) -> BTreeMap<&'static str, u64> {
    let mut kills = BTreeMap::new();
    for (point, times) in kills_by_point {
        *kills.entry(operation(point)).or_default() += times;
    }
    kills
}

/// The operations that too few of so many kills were inside of.
pub(super) fn not_shown(
    profile: Profile,
    kills: u64,
    by_operation: &BTreeMap<&'static str, u64>,
) -> Vec<&'static str> {
    let inside = |operation: &str| by_operation.get(operation).copied().unwrap_or(0);
    let too_few = |operation: &&&str| inside(operation) * 100 < kills * LEAST_PERCENT;
    operations(profile).iter().filter(too_few).copied().collect()
}

/// Whether an operation should come next, of which so many of so many turns were kills inside of it.
pub(super) fn is_behind(profile: Profile, operation: &str, hit: u64, turns: u64) -> bool {
    operations(profile).contains(&operation) && hit * 100 < turns * PLANNED_PERCENT
}

#[cfg(test)]
mod tests {
    use oncelog::testing::Point;

    use super::*;

    #[test]
    fn every_operation_has_points() {
        for operation in operations(Profile::Full) {
            assert!(
                Point::ALL.iter().any(|point| super::operation(point.name()) == *operation),
                "{operation}"
            );
        }
    }

    #[test]
    fn an_operation_with_less_than_its_share_was_not_shown() {
        let points = BTreeMap::from([
            ("roll.renamed", 9),
            ("roll.ended", 1),
            ("checkpoint.named", 10),
            ("merge.named", 9),
            ("timer", 471),
        ]);
        let kills = by_operation(&points);
        assert_eq!(kills.get("roll"), Some(&10));
        assert_eq!(not_shown(Profile::Core, 500, &kills), ["merge", "recovery"]);
        assert_eq!(not_shown(Profile::Core, 450, &kills), ["recovery"]);
    }

    #[test]
    fn an_operation_comes_next_until_it_has_twice_its_share() {
        assert!(is_behind(Profile::Full, "truncate", 3, 100));
        assert!(!is_behind(Profile::Full, "truncate", 4, 100));
        assert!(!is_behind(Profile::Core, "truncate", 0, 100));
    }
}
