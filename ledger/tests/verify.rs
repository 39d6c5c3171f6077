//! Verification from outside: the committed journal verifies for ever, and no change to it goes unnoticed.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

use std::path::Path;

use ledger::{Verified, VerifyError, verify};
use proptest::prelude::*;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/v1");
const HEAD: &str = "d29d309a7c73e64c8125c8f35e2c8dde2b073d8ac101e7345e085aacd136e322";
const DAYS: [&str; 2] = ["2025-01-31", "2025-02-01"];
/// Entries in the first file, and in both.
const FIRST_DAY: usize = 30;
const ENTRIES: usize = 40;

#[test]
fn the_committed_journal_verifies_for_ever() {
    let expected = Verified {
        entries: 40,
        head_hash: HEAD.to_owned(),
        first_ts: "2025-01-31T23:59:59.5Z".parse().unwrap(),
        last_ts: "2025-02-01T00:00:00.000001Z".parse().unwrap(),
        origin: "example.com/fixture".to_owned(),
    };
    assert_eq!(verify(Path::new(FIXTURE)).unwrap(), expected);
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let mut journal = journal();
    journal[1][2] = String::from_utf8_lossy(&journal[1][2]).replace("crawler", "Crawler").into_bytes();
    let error = verify_changed(&journal).unwrap_err();
    let VerifyError::Broken { file, line, seq, .. } = &error else { panic!("{error}") };
    assert!(file.ends_with("events/2025-02-01.jsonl"));
    assert_eq!((*line, *seq), (3, 32));
    assert!(error.to_string().contains("entry 32 hashes to `"), "{error}");
}

#[test]
fn files_that_are_missing_renamed_or_added_are_noticed() {
    let [first, second] = journal();
    for (days, seq) in [
        (vec![(DAYS[0], &first), ("2025-02-02", &second)], 30),
        (vec![(DAYS[1], &second)], 0),
        (vec![("2025-01-01", &second), (DAYS[0], &first), (DAYS[1], &second)], 0),
        (vec![(DAYS[0], &first), (DAYS[1], &second), ("2025-02-02", &second)], 40),
    ] {
        assert_eq!(seq_of(&verify_files(&days).unwrap_err()), Some(seq));
    }
    assert!(matches!(verify_files(&[]), Err(VerifyError::Empty { .. })));
    assert!(matches!(verify(Path::new("/nonexistent")), Err(VerifyError::Read { .. })));
}

#[test]
fn a_line_without_an_end_takes_no_memory() {
    let mut journal = journal();
    journal[1][9] = vec![b'x'; 200_000];
    assert_eq!(seq_of(&verify_changed(&journal).unwrap_err()), Some(39));
    journal[1][9].push(b'\n');
    let error = verify_changed(&journal).unwrap_err();
    assert!(error.to_string().contains("entry 39 is longer than 30720 bytes"), "{error}");
}

proptest! {
    #[test]
    fn a_flipped_bit_is_found_where_it_is(entry in 0..ENTRIES, at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let mut journal = journal();
        let line = &mut journal[day(entry)][row(entry)];
        let at = at.index(line.len());
        line[at] ^= 1_u8 << bit;
        prop_assert_eq!(seq_of(&verify_changed(&journal).unwrap_err()), Some(entry as u64));
    }

    #[test]
    fn a_dropped_entry_is_found_where_it_was(entry in 0..ENTRIES - 1) {
        let mut journal = journal();
        journal[day(entry)].remove(row(entry));
        prop_assert_eq!(seq_of(&verify_changed(&journal).unwrap_err()), Some(entry as u64));
    }

    #[test]
    fn a_swap_is_found_at_the_earlier_place(a in 0..ENTRIES, b in 0..ENTRIES) {
        prop_assume!(a != b);
        let mut journal = journal();
        let (one, other) = (journal[day(a)][row(a)].clone(), journal[day(b)][row(b)].clone());
        journal[day(a)][row(a)] = other;
        journal[day(b)][row(b)] = one;
        prop_assert_eq!(seq_of(&verify_changed(&journal).unwrap_err()), Some(a.min(b) as u64));
    }

    #[test]
    fn an_entry_repeated_anywhere_later_is_found_there(entry in 0..ENTRIES, later in 0..ENTRIES) {
        prop_assume!(entry <= later);
        let mut journal = journal();
        let copy = journal[day(entry)][row(entry)].clone();
        journal[day(later)].insert(row(later) + 1, copy);
        prop_assert_eq!(seq_of(&verify_changed(&journal).unwrap_err()), Some(later as u64 + 1));
    }

    #[test]
    fn a_cut_inside_an_entry_is_found_there(entry in 0..ENTRIES, at in any::<prop::sample::Index>()) {
        let mut journal = journal();
        let lines = &mut journal[day(entry)];
        lines.truncate(row(entry) + 1);
        let kept = 1 + at.index(lines[row(entry)].len() - 1);
        lines[row(entry)].truncate(kept);
        let error = verify_changed(&journal).unwrap_err();
        prop_assert_eq!(seq_of(&error), Some(entry as u64));
        let is_torn = matches!(error, VerifyError::Torn { bytes, .. } if bytes == kept as u64);
        prop_assert!(is_torn);
    }

    /// A chain cannot show that its end is missing; what is left must verify as what it is.
    #[test]
    fn a_cut_between_entries_leaves_a_shorter_ledger(entries in FIRST_DAY..ENTRIES) {
        let mut journal = journal();
        journal[1].truncate(entries - FIRST_DAY);
        prop_assert_eq!(verify_changed(&journal).unwrap().entries, entries as u64);
    }
}

/// The lines of the fixture by day, each with its newline.
fn journal() -> [Vec<Vec<u8>>; 2] {
    DAYS.map(|day| {
        let file = std::fs::read(format!("{FIXTURE}/events/{day}.jsonl")).unwrap();
        file.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    })
}

fn verify_changed(journal: &[Vec<Vec<u8>>; 2]) -> Result<Verified, VerifyError> {
    verify_files(&[(DAYS[0], &journal[0]), (DAYS[1], &journal[1])])
}

fn verify_files(days: &[(&str, &Vec<Vec<u8>>)]) -> Result<Verified, VerifyError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("events")).unwrap();
    for (day, lines) in days {
        std::fs::write(dir.path().join(format!("events/{day}.jsonl")), lines.concat()).unwrap();
    }
    verify(dir.path())
}

fn seq_of(error: &VerifyError) -> Option<u64> {
    match error {
        VerifyError::Broken { seq, .. } | VerifyError::Torn { seq, .. } => Some(*seq),
        VerifyError::Checkpoint { .. }
        | VerifyError::Cut { .. }
        | VerifyError::Empty { .. }
        | VerifyError::Read { .. }
        | VerifyError::Rewritten { .. } => None,
    }
}

fn day(entry: usize) -> usize {
    usize::from(entry >= FIRST_DAY)
}

fn row(entry: usize) -> usize {
    entry - FIRST_DAY * day(entry)
}
