use super::*;

fn schedule(focus: Focus) -> Schedule {
    Schedule::new(11, focus, DurabilityMix::Mixed, Profile::Core)
}

#[test]
fn three_hundred_sessions_plan_every_point_several_times() {
    let mut schedule = schedule(Focus::Everything);
    for _ in 0..300 {
        if let Ending::OpeningPoint(point, _) | Ending::WorkingPoint(point, _) =
            schedule.next_session(false).ending
        {
            schedule.hit(point);
        }
    }
    assert_eq!(schedule.never_hit(), [""; 0]);
    for (name, (planned, _)) in &schedule.points {
        assert!(*planned >= 4, "{name}: {planned}");
    }
}

#[test]
fn the_full_profile_plans_every_point_there_is() {
    let mut schedule = Schedule::new(3, Focus::Everything, DurabilityMix::Mixed, Profile::Full);
    for nth in 0..300 {
        let session = schedule.next_session(nth % 10 == 0);
        assert!(session.full.is_some());
        if let Ending::OpeningPoint(point, _)
        | Ending::WorkingPoint(point, _)
        | Ending::ClosingPoint(point, _)
        | Ending::UpkeepPoint(point) = session.ending
        {
            schedule.hit(point);
        }
    }
    assert_eq!(schedule.never_hit(), [""; 0]);
    assert_eq!(schedule.points.len(), Point::ALL.len());
}

#[test]
fn a_point_that_is_hard_to_hit_gets_more_tries_but_leaves_room_for_others() {
    let mut schedule = schedule(Focus::Everything);
    for _ in 0..300 {
        if let Ending::WorkingPoint(point, _) = schedule.next_session(false).ending
            && point != Point::MergeNamed
        {
            schedule.hit(point);
        }
    }
    let planned = |point: Point| schedule.points[point.name()].0;
    assert!(planned(Point::MergeNamed) > planned(Point::RollRenamed));
    assert!(planned(Point::RollRenamed) >= 3);
}

#[test]
fn after_a_clean_close_nothing_of_a_recovery_is_armed_and_nothing_is_damaged() {
    let mut schedule = schedule(Focus::Everything);
    for _ in 0..500 {
        let session = schedule.next_session(true);
        assert!(!matches!(session.ending, Ending::OpeningPoint(..)), "{:?}", session.ending);
        assert!(schedule.tamperings(&session, true).wishes.is_empty());
    }
}

#[test]
fn a_session_that_is_to_die_behind_a_cut_finds_a_torn_tail() {
    let mut schedule = schedule(Focus::Everything);
    let mut session = schedule.next_session(false);
    session.ending = Ending::OpeningPoint(Point::RecoveryCut, 1);
    assert_eq!(schedule.tamperings(&session, false).wishes.first(), Some(&Tamper::TearTail));
}

#[test]
fn the_same_seed_gives_the_same_sessions() {
    let (mut one, mut other) = (schedule(Focus::PowerLoss), schedule(Focus::PowerLoss));
    for _ in 0..50 {
        let (a, b) = (one.next_session(false), other.next_session(false));
        assert_eq!((a.ending, a.seed, &a.lanes), (b.ending, b.seed, &b.lanes));
        assert_eq!(one.tamperings(&a, false), other.tamperings(&b, false));
    }
}

#[test]
fn writes_fail_only_where_unknown_producers_must_start_at_0() {
    let mut schedule = schedule(Focus::WriteFailures);
    for _ in 0..300 {
        let session = schedule.next_session(false);
        assert!(!(session.lenient && session.failures.is_some()));
    }
}
