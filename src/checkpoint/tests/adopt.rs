use super::*;

#[test]
fn runs_that_touch_are_put_together_the_chain_that_ends_highest_first() {
    let disk = Disk::new();
    let one = entries([(1, 1)]);
    disk.run(3, RunKind::Base, 0, 10, &one);
    disk.run(4, RunKind::Delta, 10, 20, &one);
    disk.run(5, RunKind::Delta, 20, 30, &one);
    disk.run(6, RunKind::Delta, 10, 30, &one);
    disk.run(7, RunKind::Delta, 30, 40, &one);
    disk.run(8, RunKind::Delta, 50, 60, &one);
    disk.run(9, RunKind::Base, 0, 20, &one);
    let adoption = adopt_runs(&disk.memory, &disk.dir, &[9, 8, 7, 6, 5, 4, 3]).unwrap();
    let numbers: Vec<Vec<_>> = adoption
        .chains
        .iter()
        .map(|chain| chain.references().iter().map(|run| run.number).collect())
        .collect();
    assert_eq!(numbers, [vec![9, 5, 7], vec![3, 6, 7]]);
    assert_eq!(adoption.next_run_number, 10);
    assert!(adoption.rejected.is_empty());
}

#[test]
fn a_run_with_damage_anywhere_is_not_adopted() {
    let disk = Disk::new();
    disk.run(1, RunKind::Base, 0, 10, &many(300));
    disk.run(2, RunKind::Delta, 10, 20, &many(300));
    let mut bytes = disk.read("producers.2.run");
    bytes[4096 * 3 + 77] ^= 1;
    disk.write("producers.2.run", &bytes);
    let adoption = adopt_runs(&disk.memory, &disk.dir, &[1, 2, 5]).unwrap();
    assert_eq!(adoption.chains.len(), 1);
    assert_eq!(adoption.chains[0].end(), Some(&point(10)));
    let rejected: Vec<_> = adoption.rejected.iter().map(|(number, _)| *number).collect();
    assert_eq!(rejected, [2, 5]);
}

#[test]
fn a_delta_that_covers_nothing_does_not_keep_the_search_going() {
    let disk = Disk::new();
    disk.run(1, RunKind::Base, 0, 10, &Entries::new());
    disk.run(2, RunKind::Delta, 10, 10, &Entries::new());
    let adoption = adopt_runs(&disk.memory, &disk.dir, &[1, 2]).unwrap();
    assert_eq!(adoption.chains[0].len(), 1);
}

#[test]
fn a_directory_without_runs_offers_no_chain_and_the_first_number() {
    let disk = Disk::new();
    let adoption = adopt_runs(&disk.memory, &disk.dir, &[]).unwrap();
    assert!(adoption.chains.is_empty());
    assert_eq!(adoption.next_run_number, 0);
}
