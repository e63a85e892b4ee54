use super::*;

fn seen(at: u64) -> Entry {
    Entry::new(ProducerEpoch(0), EngineTime(at))
}

fn in_txn(at: u64) -> Entry {
    let mut entry = seen(at);
    entry.txn_first_offset = Some(Offset(3));
    entry
}

fn list<const N: usize>(list: [(i64, Entry); N]) -> Entries {
    list.into_iter().map(|(id, entry)| (ProducerId(id), entry)).collect()
}

const EXPIRY: Expiry<'_> = Expiry { now: EngineTime(1000), after_ms: 100, wrote_since: &|_| false };

#[test]
fn a_base_leaves_out_who_was_silent_for_the_whole_time_and_has_no_open_transaction() {
    let disk = Disk::new();
    let old = list([(1, seen(900)), (2, seen(901)), (3, in_txn(0)), (4, seen(0)), (5, seen(2000))]);
    let chain = Chain::empty().with(disk.run(0, RunKind::Base, 0, 10, &old)).unwrap();
    let woken = list([(4, seen(950)), (6, seen(0))]);
    let draft = RunDraft::new(RunKind::Delta, Offset(0), point(20), EngineTime(1000));
    let inputs = BaseInputs { chain: &chain, frozen: &borrowed(&woken), expiry: Some(EXPIRY) };
    let base = write_base(disk.place(1), inputs, draft).unwrap();
    assert_eq!(base.header().kind, RunKind::Base);
    let kept: Vec<_> = collect(base.entries()).into_keys().map(|id| id.0).collect();
    assert_eq!(kept, [2, 3, 4, 5]);
    assert_eq!(base.get(ProducerId(4)).unwrap(), Some(seen(950)));
}

#[test]
fn a_producer_that_has_written_since_stays_with_its_old_entry() {
    let disk = Disk::new();
    let chain =
        Chain::empty().with(disk.run(0, RunKind::Base, 0, 10, &list([(1, seen(0)), (2, seen(0))]))).unwrap();
    let expiry = Expiry { wrote_since: &|id| id == ProducerId(2), ..EXPIRY };
    let merged = merge_into_base(disk.place(1), &chain, Some(expiry)).unwrap();
    assert_eq!(collect(merged.entries()), list([(2, seen(0))]));
}

#[test]
fn a_producer_that_is_expired_in_its_newest_entry_does_not_come_back_with_an_older_one() {
    let disk = Disk::new();
    let base = disk.run(0, RunKind::Base, 0, 10, &list([(1, in_txn(0))]));
    let delta = disk.run(1, RunKind::Delta, 10, 20, &list([(1, seen(0))]));
    let chain = Chain::empty().with(base).unwrap().with(delta).unwrap();
    let merged = merge_into_base(disk.place(2), &chain, Some(EXPIRY)).unwrap();
    assert_eq!(collect(merged.entries()), Entries::new());
}

#[test]
fn a_merged_delta_drops_nothing_however_old() {
    let disk = Disk::new();
    let base = disk.run(0, RunKind::Base, 0, 10, &list([(9, seen(0))]));
    let one = disk.run(1, RunKind::Delta, 10, 20, &list([(1, seen(0)), (2, seen(0))]));
    let two = disk.run(2, RunKind::Delta, 20, 30, &list([(2, seen(1))]));
    let chain = [base, one, two].into_iter().fold(Chain::empty(), |chain, run| chain.with(run).unwrap());
    let merged = merge_deltas(disk.place(3), &chain).unwrap();
    assert_eq!(collect(merged.entries()), list([(1, seen(0)), (2, seen(1))]));
    let header = merged.header();
    assert_eq!((header.kind, header.from, header.to), (RunKind::Delta, Offset(10), point(30)));
}

#[test]
fn a_merge_says_of_its_end_what_the_newest_run_said() {
    let disk = Disk::new();
    let base = disk.run(0, RunKind::Base, 0, 10, &Entries::new());
    let draft = RunDraft {
        leader_epochs: vec![(LeaderEpoch(3), Offset(5))],
        open_txns: vec![(ProducerId(1), Offset(12))],
        ..RunDraft::new(RunKind::Delta, Offset(10), point(20), EngineTime(77))
    };
    let delta = write_delta(disk.place(1), &[], draft.clone()).unwrap();
    let chain = Chain::empty().with(base).unwrap().with(delta).unwrap();
    let merged = merge_into_base(disk.place(2), &chain, None).unwrap();
    let expected = RunDraft { kind: RunKind::Base, from: Offset(0), ..draft };
    assert_eq!(RunDraft::ending_like(&merged, RunKind::Base, Offset(0)), expected);
}

#[test]
fn an_empty_base_carries_a_first_delta() {
    let disk = Disk::new();
    let base = write_empty_base(disk.place(0), point(0), EngineTime(1)).unwrap();
    let changed = entries([(1, 1)]);
    let draft = RunDraft::new(RunKind::Base, Offset(0), point(20), EngineTime(2));
    let delta = write_delta(disk.place(1), &borrowed(&changed), draft).unwrap();
    let chain = Chain::empty().with(base).unwrap().with(delta).unwrap();
    assert_eq!(collect(chain.entries().unwrap()), changed);
}

#[test]
fn a_merge_without_anything_to_merge_is_misuse() {
    let disk = Disk::new();
    let base = Chain::empty().with(disk.run(0, RunKind::Base, 0, 10, &Entries::new())).unwrap();
    assert!(matches!(merge_deltas(disk.place(1), &base), Err(Error::Misuse(_))));
    assert!(matches!(merge_into_base(disk.place(1), &Chain::empty(), None), Err(Error::Misuse(_))));
    assert_eq!(disk.names(), ["producers.0.run"]);
}

#[test]
fn a_merge_that_meets_damage_fails_and_leaves_no_file() {
    let disk = Disk::new();
    let base = disk.run(0, RunKind::Base, 0, 10, &many(300));
    let delta = disk.run(1, RunKind::Delta, 10, 20, &entries([(1, 1)]));
    let chain = Chain::empty().with(base).unwrap().with(delta).unwrap();
    let mut bytes = disk.read("producers.0.run");
    bytes[4096 * 2 + 9] ^= 1;
    disk.write("producers.0.run", &bytes);
    assert_eq!(corruption(merge_into_base(disk.place(2), &chain, None)).what, "block CRC");
    assert_eq!(disk.names(), ["producers.0.run", "producers.1.run"]);
}

proptest! {
    #[test]
    fn merging_is_inserting_in_order_and_then_dropping_the_expired(
        contents in proptest::collection::vec(any_entries(), 1..5),
        frozen in any_entries(),
        now in any::<u64>(),
        after_ms in any::<u64>(),
    ) {
        let disk = Disk::new();
        let mut chain = Chain::empty();
        let mut model = Entries::new();
        let mut changed = Entries::new();
        for (entries, nth) in contents.iter().zip(0_i64..) {
            let kind = if nth == 0 { RunKind::Base } else { RunKind::Delta };
            chain = chain.with(disk.run(nth.unsigned_abs(), kind, nth * 10, nth * 10 + 10, entries)).unwrap();
            model.extend(entries);
            if nth > 0 {
                changed.extend(entries);
            }
        }
        if chain.len() > 1 {
            let delta = merge_deltas(disk.place(10), &chain).unwrap();
            prop_assert_eq!(collect(delta.entries()), changed);
        }
        let whole = merge_into_base(disk.place(11), &chain, None).unwrap();
        prop_assert_eq!(collect(whole.entries()), model.clone());

        model.extend(&frozen);
        let expiry = Expiry { now: EngineTime(now), after_ms, wrote_since: &|_| false };
        model.retain(|_, entry| !entry.is_expired(expiry.now, expiry.after_ms));
        let draft = RunDraft::new(RunKind::Base, Offset(0), point(90), EngineTime(now));
        let inputs = BaseInputs { chain: &chain, frozen: &borrowed(&frozen), expiry: Some(expiry) };
        let base = write_base(disk.place(12), inputs, draft).unwrap();
        prop_assert_eq!(collect(base.entries()), model);
    }
}
