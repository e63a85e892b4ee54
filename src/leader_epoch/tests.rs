//! The questions of Kafka's `LeaderEpochFileCacheTest`, and those of a follower.

use super::*;

fn epochs(starts: &[(i32, i64)]) -> LeaderEpochs {
    LeaderEpochs::from_starts(starts.iter().map(|(epoch, start)| (LeaderEpoch(*epoch), Offset(*start))))
}

fn listed(epochs: &LeaderEpochs) -> Vec<(i32, i64)> {
    epochs.starts().iter().map(|start| (start.epoch.0, start.start_offset.0)).collect()
}

fn end(epoch: i32, end_offset: i64) -> EpochEnd {
    EpochEnd { epoch: LeaderEpoch(epoch), end_offset: Offset(end_offset) }
}

#[test]
fn the_first_start_of_an_epoch_counts_and_later_batches_of_it_change_nothing() {
    let mut known = epochs(&[(2, 6)]);
    assert!(!known.assign(LeaderEpoch(2), Offset(7)));
    assert!(!known.assign(LeaderEpoch(2), Offset(6)));
    assert_eq!(listed(&known), [(2, 6)]);
}

#[test]
fn a_later_word_drops_higher_epochs_and_higher_starts() {
    assert_eq!(listed(&epochs(&[(2, 6), (3, 8), (4, 11), (3, 7)])), [(2, 6), (3, 7)]);
    assert_eq!(listed(&epochs(&[(2, 6), (3, 8), (5, 6)])), [(5, 6)]);
    assert_eq!(listed(&epochs(&[(2, 6), (3, 8), (1, 9)])), [(1, 9)]);
    assert_eq!(listed(&epochs(&[(2, 6), (2, 4)])), [(2, 4)]);
}

#[test]
fn negative_epochs_and_offsets_say_nothing() {
    assert!(epochs(&[(-1, 0), (0, -1)]).is_empty());
}

#[test]
fn the_end_of_the_newest_epoch_is_the_log_end() {
    assert_eq!(epochs(&[(2, 6)]).end_offset_for(LeaderEpoch(2), Offset(10)), Some(end(2, 10)));
}

#[test]
fn the_end_of_an_older_epoch_is_the_start_of_the_next() {
    let known = epochs(&[(1, 11), (2, 12), (4, 17)]);
    assert_eq!(known.end_offset_for(LeaderEpoch(1), Offset(20)), Some(end(1, 12)));
    assert_eq!(known.end_offset_for(LeaderEpoch(2), Offset(20)), Some(end(2, 17)));
}

#[test]
fn an_epoch_that_was_skipped_is_answered_with_the_one_below_it() {
    let known = epochs(&[(2, 6), (5, 9)]);
    assert_eq!(known.end_offset_for(LeaderEpoch(3), Offset(20)), Some(end(2, 9)));
}

#[test]
fn an_epoch_below_all_is_answered_with_itself_and_the_first_start() {
    assert_eq!(epochs(&[(5, 11), (6, 12)]).end_offset_for(LeaderEpoch(4), Offset(20)), Some(end(4, 11)));
}

#[test]
fn an_epoch_above_all_and_one_that_is_none_are_unknown() {
    let known = epochs(&[(2, 6)]);
    assert_eq!(known.end_offset_for(LeaderEpoch(3), Offset(20)), None);
    assert_eq!(known.end_offset_for(LeaderEpoch::NONE, Offset(20)), None);
    assert_eq!(LeaderEpochs::new().end_offset_for(LeaderEpoch(0), Offset(20)), None);
}

#[test]
fn the_epoch_of_an_offset_is_that_of_the_last_start_at_or_below_it() {
    let known = epochs(&[(2, 6), (5, 9)]);
    let found: Vec<_> = [5, 6, 8, 9, 100].map(|at| known.epoch_for(Offset(at)).map(|epoch| epoch.0)).to_vec();
    assert_eq!(found, [None, Some(2), Some(2), Some(5), Some(5)]);
}

#[test]
fn truncation_from_the_end_drops_epochs_that_begin_at_or_above_it() {
    for (offset, left) in [(12, vec![(2, 6), (3, 8), (4, 11)]), (11, vec![(2, 6), (3, 8)]), (6, vec![])] {
        let mut known = epochs(&[(2, 6), (3, 8), (4, 11)]);
        known.truncate_from_end(Offset(offset));
        assert_eq!(listed(&known), left, "at {offset}");
    }
}

#[test]
fn truncation_from_the_start_lets_the_epoch_that_holds_the_offset_begin_there() {
    let all = [(2, 6), (3, 8), (4, 11)];
    for (offset, left) in
        [(5, all.to_vec()), (8, vec![(3, 8), (4, 11)]), (9, vec![(3, 9), (4, 11)]), (99, vec![(4, 99)])]
    {
        let mut known = epochs(&all);
        known.truncate_from_start(Offset(offset));
        assert_eq!(listed(&known), left, "at {offset}");
    }
}

#[test]
fn a_follower_cuts_where_the_shorter_of_the_two_ends_of_the_same_epoch_is() {
    let own = epochs(&[(1, 0), (2, 10)]);
    assert_eq!(own.divergence(end(2, 14), Offset(20)), Divergence::TruncateTo(Offset(14)));
    assert_eq!(own.divergence(end(2, 30), Offset(20)), Divergence::TruncateTo(Offset(20)));
    assert_eq!(own.divergence(end(1, 8), Offset(20)), Divergence::TruncateTo(Offset(8)));
}

#[test]
fn a_follower_asks_again_below_an_epoch_that_only_one_of_the_two_knows() {
    // KIP-279: epoch 2 is the follower's alone, epoch 1 is neither's; below lies epoch 0.
    let own = epochs(&[(0, 0), (2, 10)]);
    let again = Divergence::AskAgain { truncate_to: Offset(10), epoch: LeaderEpoch(0) };
    assert_eq!(own.divergence(end(1, 15), Offset(20)), again);
}

#[test]
fn a_follower_that_knows_no_epoch_as_high_takes_the_leaders_end() {
    assert_eq!(LeaderEpochs::new().divergence(end(3, 7), Offset(20)), Divergence::TruncateTo(Offset(7)));
    assert_eq!(epochs(&[(1, 0)]).divergence(end(3, 30), Offset(20)), Divergence::TruncateTo(Offset(20)));
}

#[test]
fn a_leader_tells_a_follower_whose_log_goes_on_elsewhere_where_the_epoch_ends() {
    let leader = epochs(&[(1, 0), (3, 10)]);
    let asked = |epoch, offset| leader.continuation(LeaderEpoch(epoch), Offset(offset), Offset(20));
    assert_eq!(asked(1, 10), Continuation::Goes);
    assert_eq!(asked(1, 11), Continuation::Diverges(end(1, 10)));
    assert_eq!(asked(2, 9), Continuation::Diverges(end(1, 10)));
    assert_eq!(asked(3, 20), Continuation::Goes);
    assert_eq!(asked(3, 21), Continuation::Diverges(end(3, 20)));
    assert_eq!(asked(4, 5), Continuation::Unknown);
    assert_eq!(asked(-1, 5), Continuation::Unknown);
}
