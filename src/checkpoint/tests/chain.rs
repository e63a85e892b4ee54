use super::*;
use crate::format::manifest::RunRef;

/// A base to offset 10 and deltas to 20, 30, ...
fn chain(disk: &Disk, contents: &[Entries]) -> Chain {
    let mut chain = Chain::empty();
    for (entries, nth) in contents.iter().zip(0_i64..) {
        let kind = if nth == 0 { RunKind::Base } else { RunKind::Delta };
        chain = chain.with(disk.run(nth.unsigned_abs(), kind, nth * 10, nth * 10 + 10, entries)).unwrap();
    }
    chain
}

fn three(disk: &Disk) -> Chain {
    chain(disk, &[entries([(1, 1), (2, 1)]), entries([(2, 2), (3, 2)]), entries([(1, 3)])])
}

#[test]
fn a_chain_without_runs_knows_nobody_and_ends_nowhere() {
    let chain = Chain::empty();
    assert_eq!(chain.get(ProducerId(1)).unwrap(), None);
    assert_eq!((chain.end(), chain.len(), chain.entry_count_upper_bound()), (None, 0, 0));
    assert_eq!(chain.entries().unwrap().count(), 0);
    assert_eq!(chain.prefixes().count(), 0);
    assert_eq!(chain.shape(), ChainShape { base_entries: None, deltas: Vec::new() });
}

#[test]
fn the_newest_entry_of_a_producer_hides_the_older_ones() {
    let disk = Disk::new();
    let written = three(&disk);
    let opened = Chain::open(&disk.memory, &disk.dir, &written.references()).unwrap();
    let expected = entries([(1, 3), (2, 2), (3, 2)]);
    for chain in [&written, &opened] {
        assert_eq!(collect(chain.entries().unwrap()), expected);
        for (id, entry) in &expected {
            assert_eq!(chain.get(*id).unwrap(), Some(*entry));
        }
        assert_eq!(chain.get(ProducerId(4)).unwrap(), None);
        assert_eq!(chain.end(), Some(&point(30)));
        assert_eq!(chain.entry_count_upper_bound(), 5);
        let deltas =
            vec![DeltaShape { entries: 2, to: Offset(20) }, DeltaShape { entries: 1, to: Offset(30) }];
        assert_eq!(chain.shape(), ChainShape { base_entries: Some(2), deltas });
    }
}

#[test]
fn the_prefixes_of_a_chain_are_longest_first_and_never_empty() {
    let disk = Disk::new();
    let ends: Vec<_> = three(&disk).prefixes().map(|prefix| prefix.end().unwrap().offset).collect();
    assert_eq!(ends, [Offset(20), Offset(10)]);
}

#[test]
fn runs_that_do_not_touch_or_have_no_base_are_no_chain() {
    let disk = Disk::new();
    let one = entries([(1, 1)]);
    let base = disk.run(0, RunKind::Base, 0, 10, &one);
    let gap = disk.run(1, RunKind::Delta, 11, 20, &one);
    let overlap = disk.run(2, RunKind::Delta, 9, 20, &one);
    let second_base = disk.run(3, RunKind::Base, 10, 20, &one);
    let chain = Chain::empty().with(Arc::clone(&base)).unwrap();
    for wrong in [&gap, &overlap, &second_base] {
        assert!(matches!(chain.with(Arc::clone(wrong)), Err(Error::Misuse(_))));
        let named = [base.reference(), wrong.reference()];
        let found = corruption(Chain::open(&disk.memory, &disk.dir, &named));
        assert_eq!((found.what.as_str(), found.path.as_path()), ("place in the chain", wrong.path()));
    }
    assert_eq!(corruption(Chain::open(&disk.memory, &disk.dir, &[gap.reference()])).expected, "a base");
}

#[test]
fn a_chain_whose_newest_runs_are_lost_is_opened_without_them() {
    let disk = Disk::new();
    let named = three(&disk).references();
    let open = |disk: &Disk| Chain::open_longest(&disk.memory, &disk.dir, &named).unwrap();
    assert!(open(&disk).rejected.is_none());
    assert_eq!(open(&disk).chain.len(), 3);

    let mut bytes = disk.read("producers.1.run");
    bytes[20] ^= 1;
    disk.write("producers.1.run", &bytes);
    let longest = open(&disk);
    assert_eq!(longest.chain.references(), named[..1]);
    let (rejected, why) = longest.rejected.unwrap();
    assert_eq!(rejected, named[1]);
    assert_eq!(corruption::<()>(Err(why)).what, "header CRC");

    disk.memory.unlink(&disk.dir.join("producers.0.run")).unwrap();
    let longest = open(&disk);
    assert!(longest.chain.is_empty());
    assert!(matches!(
        longest.rejected,
        Some((RunRef { number: 0, .. }, Error::Io { operation: "open", .. }))
    ));
}

#[test]
fn a_run_that_cannot_be_read_now_is_an_error_and_no_shorter_chain() {
    use crate::storage::{Fault, OperationKind};
    let disk = Disk::new();
    let named = three(&disk).references();
    disk.memory.fail(Fault::on(OperationKind::Read));
    let error = Chain::open_longest(&disk.memory, &disk.dir, &named).unwrap_err();
    assert!(matches!(error, Error::Io { operation: "read", .. }), "{error:?}");
}

#[test]
fn damage_in_a_newer_run_is_never_answered_by_an_older_one() {
    let disk = Disk::new();
    let chain = three(&disk);
    let mut bytes = disk.read("producers.2.run");
    bytes[5000] ^= 1;
    disk.write("producers.2.run", &bytes);
    assert_eq!(corruption(chain.get(ProducerId(1))).what, "block CRC");
    assert_eq!(chain.get(ProducerId(3)).unwrap(), Some(entry(2)));
    let merged: Vec<_> = chain.entries().into_iter().flatten().collect();
    assert!(merged.iter().all(Result::is_err), "{merged:?}");
}

#[test]
fn a_merged_delta_replaces_the_deltas_that_were_read_and_keeps_those_behind() {
    let disk = Disk::new();
    let read = three(&disk);
    let merged = merge_deltas(disk.place(10), &read).unwrap();
    let later = read.with(disk.run(11, RunKind::Delta, 30, 40, &entries([(9, 9)]))).unwrap();
    let numbers = |chain: &Chain| chain.references().iter().map(|run| run.number).collect::<Vec<_>>();
    let replaced = later.replaced(&read, Arc::clone(&merged)).unwrap().unwrap();
    assert_eq!(numbers(&replaced), [0, 10, 11]);
    assert_eq!(collect(replaced.entries().unwrap()), collect(later.entries().unwrap()));

    let base = merge_into_base(disk.place(12), &read.prefix(2), None).unwrap();
    let replaced = later.replaced(&read.prefix(2), base).unwrap().unwrap();
    assert_eq!(numbers(&replaced), [12, 2, 11]);
    assert_eq!(collect(replaced.entries().unwrap()), collect(later.entries().unwrap()));
}

#[test]
fn a_merge_of_runs_that_no_longer_begin_the_chain_is_void() {
    let disk = Disk::new();
    let read = three(&disk);
    let merged = merge_deltas(disk.place(10), &read).unwrap();
    let truncated = read.prefix(2);
    assert!(truncated.replaced(&read, Arc::clone(&merged)).unwrap().is_none());
    let reopened = Chain::open(&disk.memory, &disk.dir, &read.references()).unwrap();
    assert!(reopened.replaced(&read, merged).unwrap().is_none(), "equal runs are not the same runs");
}

#[test]
fn a_merged_run_that_does_not_cover_what_it_replaces_is_misuse() {
    let disk = Disk::new();
    let read = three(&disk);
    let short = disk.run(10, RunKind::Delta, 10, 29, &Entries::new());
    let later = read.with(disk.run(11, RunKind::Delta, 30, 40, &Entries::new())).unwrap();
    assert!(matches!(later.replaced(&read, short), Err(Error::Misuse(_))));
    let beside = disk.run(12, RunKind::Delta, 11, 30, &Entries::new());
    assert!(matches!(read.replaced(&read, beside), Err(Error::Misuse(_))));
}

proptest! {
    #[test]
    fn a_chain_is_a_map_into_which_its_runs_were_inserted(contents in proptest::collection::vec(any_entries(), 1..6)) {
        let disk = Disk::new();
        let written = chain(&disk, &contents);
        let opened = Chain::open(&disk.memory, &disk.dir, &written.references()).unwrap();
        let mut model = Entries::new();
        for entries in &contents {
            model.extend(entries);
        }
        prop_assert_eq!(collect(opened.entries().unwrap()), model.clone());
        for id in (-1..61).map(ProducerId) {
            prop_assert_eq!(opened.get(id).unwrap(), model.get(&id).copied());
        }
    }
}
