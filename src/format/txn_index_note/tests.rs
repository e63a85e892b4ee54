use super::*;
use crate::types::ProducerId;

fn entries(count: i64) -> Vec<u8> {
    (0..count)
        .flat_map(|n| {
            let (first_offset, last_offset) = (Offset(10 * n), Offset(10 * n + 5));
            AbortedTxn {
                producer: ProducerId(n),
                first_offset,
                last_offset,
                last_stable_offset: first_offset,
            }
            .to_bytes()
        })
        .collect()
}

fn note(base: i64, count: i64) -> TxnIndexNote {
    TxnIndexNote::of(Offset(base), &entries(count)).unwrap()
}

#[test]
fn a_file_that_goes_on_behind_the_noted_entries_is_as_noted() {
    assert_eq!(note(0, 2).check(&entries(2)), Ok(()));
    assert_eq!(note(0, 2).check(&entries(3)), Ok(()));
}

#[test]
fn a_file_that_lacks_a_noted_entry_or_has_another_byte_is_not() {
    let short = note(0, 3).check(&entries(2)).unwrap_err();
    assert_eq!((short.field, short.found.as_str()), ("number of aborted transactions", "2"));
    let mut flipped = entries(3);
    flipped[40] ^= 1;
    assert_eq!(note(0, 3).check(&flipped).unwrap_err().field, "CRC of the aborted transactions");
    assert_eq!(note(0, 1).check(&flipped), Ok(()), "behind the noted entries");
}

#[test]
fn where_no_entry_is_there_is_nothing_to_note() {
    assert_eq!(TxnIndexNote::of(Offset(0), &[]), None);
    assert_eq!(TxnIndexNote::of(Offset(0), &entries(1)[..33]), None);
}

#[test]
fn what_is_written_in_pieces_is_noted_as_what_is_written_at_once() {
    let all = entries(5);
    let mut notes = vec![note(50, 1)];
    note_written(&mut notes, Offset(7), 0, &all[..68]);
    note_written(&mut notes, Offset(7), 68, &all[68..]);
    assert_eq!(notes, [note(7, 5), note(50, 1)]);
}

#[test]
fn a_file_written_anew_is_noted_anew_and_an_empty_one_not_at_all() {
    let mut notes = vec![note(7, 5)];
    note_written(&mut notes, Offset(7), 0, &entries(2));
    assert_eq!(notes, [note(7, 2)]);
    note_written(&mut notes, Offset(7), 0, &[]);
    assert_eq!(notes, []);
}

#[test]
fn what_follows_entries_that_nobody_noted_leaves_no_note() {
    let mut notes = vec![note(7, 5)];
    note_written(&mut notes, Offset(7), 34, &entries(1));
    note_written(&mut notes, Offset(9), 34, &entries(1));
    assert_eq!(notes, []);
}

#[test]
fn beyond_the_room_of_a_manifest_the_oldest_notes_go() {
    let mut notes = Vec::new();
    for base in 0..=MAX_TXN_INDEX_NOTES {
        note_written(&mut notes, Offset(i64::try_from(base).unwrap()), 0, &entries(1));
    }
    assert_eq!((notes.len(), notes[0].base), (MAX_TXN_INDEX_NOTES, Offset(1)));
    let mut bytes = Vec::new();
    put_notes(&mut bytes, &notes);
    assert_eq!(read_notes(&mut Cursor::new(&bytes)).unwrap(), notes);
}

#[test]
fn notes_that_do_not_rise_or_are_more_than_there_is_room_for_are_refused() {
    let mut bytes = Vec::new();
    put_notes(&mut bytes, &[note(9, 1), note(9, 2)]);
    let refused = read_notes(&mut Cursor::new(&bytes)).unwrap_err();
    assert_eq!((refused.field, refused.at), ("base of a noted index", 20));
    let refused = read_notes(&mut Cursor::new(&[0, 0, 0, 1, 5])).unwrap_err();
    assert_eq!((refused.field, refused.at), ("number of noted indexes", 0));
}
