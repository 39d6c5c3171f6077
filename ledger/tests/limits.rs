//! Budgets, keys taken once, kill switches and standing approvals from outside: decided by the writer, in order, and the
//! same after every kind of restart.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use EventType as T;
use ledger::{Amount, AppendError, Draft, EventType, Ledger, Once, Options, Reservation};
use tempfile::TempDir;

/// The ways a ledger comes back; each must know what was reserved, taken, switched off and allowed in advance.
const RESTARTS: [fn(&Path, Ledger); 4] = [
    |_, ledger| ledger.close().unwrap(),
    // As a crash leaves it: the index lacks the end, which is replayed from the journal.
    |_, ledger| ledger.latch("the test says so"),
    |dir, ledger| {
        ledger.close().unwrap();
        drop(ledger::rebuild(dir, None).unwrap());
    },
    |dir, ledger| {
        ledger.close().unwrap();
        fs::remove_dir_all(dir.join("ledger")).unwrap();
    },
];

fn create() -> (TempDir, Ledger) {
    let home = tempfile::tempdir().unwrap();
    Ledger::create(home.path(), "example.com/test").unwrap();
    let ledger = open(home.path());
    (home, ledger)
}

fn open(dir: &Path) -> Ledger {
    Ledger::open(Options { dir: dir.to_owned(), queue: 256, reserve_bytes: 0 }).unwrap()
}

fn allowed(correlation: &str) -> Draft {
    Draft::new(T::DecisionAllowed).correlation(correlation).agent("crawler").destination("crm.import")
}

fn outcome(kind: EventType, correlation: &str) -> Draft {
    Draft::new(kind).correlation(correlation).agent("crawler")
}

/// `amount` of 100 records a day.
fn records(amount: u64) -> Reservation {
    Reservation { key: RECORDS.to_owned(), amount: amount.into(), limit: 100.into(), window_seconds: DAY }
}

/// One of `limit` in so many seconds.
fn rate(limit: u64, window_seconds: u32) -> Reservation {
    Reservation { key: "rate".to_owned(), amount: 1.into(), limit: limit.into(), window_seconds }
}

fn spent(ledger: &Ledger) -> Amount {
    ledger.spent(RECORDS, DAY)
}

fn once(key: &str) -> Once {
    Once { key: key.to_owned(), digest: None, seconds: 600 }
}

fn append(ledger: &Ledger, draft: Draft) -> Result<(), AppendError> {
    ledger.append_blocking(vec![draft]).map(drop)
}

#[test]
fn splitting_one_batch_into_ten_requests_does_not_pass() {
    for restart in RESTARTS {
        let (home, ledger) = create();
        for part in 0..4 {
            append(&ledger, allowed(&format!("corr_{part}")).reserving(&[records(25)])).unwrap();
        }
        let head = ledger.head();
        let refused = append(&ledger, allowed("corr_4").reserving(&[records(25)]));
        let Err(AppendError::OverBudget { key, retry_after_seconds: Some(wait) }) = refused else { panic!() };
        assert_eq!(key, RECORDS);
        // In whole buckets of 24 minutes: a day after the first of them was full, at the latest.
        assert!((86_000..=u64::from(DAY) + 1440).contains(&wait), "{wait}");
        assert_eq!(ledger.head(), head, "a refusal leaves no trace");
        for part in 0..4 {
            append(&ledger, outcome(T::ActionExecuted, &format!("corr_{part}"))).unwrap();
        }
        restart(home.path(), ledger);
        let ledger = open(home.path());
        assert_eq!(spent(&ledger), 100.into());
        assert!(append(&ledger, allowed("corr_5").reserving(&[records(1)])).is_err());
        append(&ledger, allowed("corr_6").reserving(&[records(0)])).unwrap();
    }
}

#[test]
fn sixty_four_at_once_take_exactly_what_there_is() {
    let (home, ledger) = create();
    let barrier = Barrier::new(64);
    let won: usize = thread::scope(|scope| {
        let (barrier, ledger) = (&barrier, &ledger);
        let reserve = move |index: usize| {
            barrier.wait();
            append(ledger, allowed(&format!("corr_{index}")).reserving(&[records(10)])).is_ok()
        };
        let threads: Vec<_> = (0..64).map(|index| scope.spawn(move || reserve(index))).collect();
        threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
    });
    assert_eq!((won, spent(&ledger)), (10, 100.into()));
    ledger.close().unwrap();
    assert_eq!(ledger::verify(home.path()).unwrap().entries, 11);
}

#[test]
fn only_what_was_never_sent_is_given_back() {
    for restart in RESTARTS {
        let (home, ledger) = create();
        for (correlation, end) in [
            ("corr_unsent", outcome(T::ActionFailed, "corr_unsent").with("sent", false)),
            ("corr_failed", outcome(T::ActionFailed, "corr_failed").with("sent", true)),
            ("corr_silent", outcome(T::ActionFailed, "corr_silent")),
            ("corr_unknown", outcome(T::ActionUnknown, "corr_unknown")),
            ("corr_executed", outcome(T::ActionExecuted, "corr_executed")),
        ] {
            append(&ledger, allowed(correlation).reserving(&[records(10)]).once(&[once(correlation)])).unwrap();
            append(&ledger, end).unwrap();
        }
        // Still open when the ledger closes: the next start finds it unknown.
        append(&ledger, allowed("corr_open").reserving(&[records(10)]).once(&[once("corr_open")])).unwrap();
        restart(home.path(), ledger);
        let ledger = open(home.path());
        assert_eq!(spent(&ledger), 50.into());
        for correlation in ["corr_failed", "corr_silent", "corr_unknown", "corr_executed", "corr_open"] {
            assert_eq!(ledger.taken(correlation).unwrap().correlation_id.as_deref(), Some(correlation));
        }
        assert_eq!(ledger.taken("corr_unsent"), None);
    }
}

#[test]
fn an_approved_intent_that_could_not_be_sent_reserves_anew() {
    let (_home, ledger) = create();
    let intent = |kind| Draft::new(kind).correlation("corr_1").intent("int_1").agent("crawler");
    append(&ledger, intent(T::DecisionApprovalRequired)).unwrap();
    append(&ledger, intent(T::ApprovalGranted)).unwrap();
    for _ in 0..3 {
        append(&ledger, intent(T::ActionExecuting).reserving(&[records(80)]).once(&[once("refund")])).unwrap();
        assert_eq!(spent(&ledger), 80.into());
        append(&ledger, intent(T::ActionFailed).with("sent", false)).unwrap();
        assert_eq!(spent(&ledger), Amount::ZERO);
    }
}

#[test]
fn a_key_stays_with_its_intent_until_that_ends_without_a_word() {
    let event = |kind, id: &str| Draft::new(kind).correlation(format!("corr_{id}")).intent(id).agent("crawler");
    let held = |id: &str| event(T::DecisionApprovalRequired, id).once(&[once(KEY)]);
    for restart in RESTARTS {
        let (home, ledger) = create();
        append(&ledger, held("int_1")).unwrap();
        // Held anew it keeps its key; another does not get it.
        append(&ledger, held("int_1")).unwrap();
        assert!(matches!(append(&ledger, held("int_2")), Err(AppendError::Duplicate { .. })));
        append(&ledger, event(T::ApprovalDenied, "int_1")).unwrap();
        assert!(matches!(append(&ledger, held("int_2")), Err(AppendError::Duplicate { .. })));
        // The one that is held in its place takes it over.
        append(&ledger, held("int_3").with("retry_of", "int_1")).unwrap();
        restart(home.path(), ledger);
        let ledger = open(home.path());
        assert_eq!(ledger.taken(KEY).unwrap().intent_id.as_deref(), Some("int_3"));
        append(&ledger, event(T::ApprovalExpired, "int_3")).unwrap();
        assert_eq!(ledger.taken(KEY), None);
        append(&ledger, held("int_4")).unwrap();
        append(&ledger, event(T::ApprovalCancelled, "int_4")).unwrap();
        restart(home.path(), ledger);
        assert_eq!(open(home.path()).taken(KEY), None);
    }
}

#[test]
fn an_entry_takes_all_it_needs_or_nothing() {
    let (_home, ledger) = create();
    let rate = || rate(1, 60);
    append(&ledger, allowed("corr_1").reserving(&[rate()]).once(&[once("a")])).unwrap();
    for refused in [
        allowed("corr_2").reserving(&[records(1), rate()]),
        allowed("corr_2").reserving(&[records(1)]).once(&[once("b"), once("a")]),
        allowed("corr_2").reserving(&[records(60), records(60)]),
        allowed("corr_1").reserving(&[records(1)]),
    ] {
        assert!(append(&ledger, refused).is_err());
        assert_eq!((spent(&ledger), ledger.taken("b")), (Amount::ZERO, None));
    }
    // So do entries appended together.
    let together = vec![allowed("corr_2").reserving(&[records(60)]), allowed("corr_3").reserving(&[records(60)])];
    assert!(ledger.append_blocking(together).is_err());
    assert_eq!(spent(&ledger), Amount::ZERO);
    let never = append(&ledger, allowed("corr_2").reserving(&[records(101)]));
    assert!(matches!(never, Err(AppendError::OverBudget { retry_after_seconds: None, .. })));
}

#[test]
fn a_minute_s_rate_is_free_again_after_it() {
    let (_home, ledger) = create();
    let rate = || rate(2, 1);
    for turn in 0..2 {
        append(&ledger, allowed(&format!("corr_{turn}")).reserving(&[rate()])).unwrap();
    }
    let refused = append(&ledger, allowed("corr_2").reserving(&[rate()]));
    let Err(AppendError::OverBudget { retry_after_seconds: Some(wait), .. }) = refused else { panic!() };
    thread::sleep(Duration::from_secs(wait));
    append(&ledger, allowed("corr_2").reserving(&[rate()])).unwrap();
}

#[test]
fn a_key_is_taken_once_and_says_by_what() {
    for restart in RESTARTS {
        let (home, ledger) = create();
        let held = Draft::new(T::DecisionApprovalRequired).correlation("corr_1").intent("int_1").agent("crawler");
        let key = || Once { digest: Some("d1".to_owned()), ..once(KEY) };
        append(&ledger, held.once(&[key()])).unwrap();
        let short = || Once { seconds: 1, ..once("short") };
        append(&ledger, allowed("corr_short").once(&[short()])).unwrap();
        restart(home.path(), ledger);
        let ledger = open(home.path());
        let refused = append(&ledger, allowed("corr_2").once(&[key()]));
        let Err(AppendError::Duplicate { first }) = refused else { panic!() };
        assert_eq!((first.intent_id.as_deref(), first.digest.as_deref()), (Some("int_1"), Some("d1")));
        assert_eq!(ledger.taken(KEY).as_ref(), Some(&*first));
        thread::sleep(Duration::from_millis(1100));
        assert_eq!(ledger.taken("short"), None);
        append(&ledger, allowed("corr_3").once(&[short()])).unwrap();
    }
}

#[test]
fn nothing_is_authorised_while_a_kill_switch_is_on() {
    let switch = |kind| Draft::new(kind).with("operator", "ann");
    let agent = |kind| switch(kind).agent("crawler");
    let destination = |kind| switch(kind).destination("crm.import");
    let both = |kind| switch(kind).agent("crawler").destination("crm.import");
    let kinds: [&dyn Fn(EventType) -> Draft; 4] = [&switch, &agent, &destination, &both];
    for (row, (kind, restart)) in kinds.into_iter().zip(RESTARTS).enumerate() {
        let (home, ledger) = create();
        let held = |kind| Draft { kind, ..allowed("corr_1").intent("int_1") };
        append(&ledger, held(T::DecisionApprovalRequired)).unwrap();
        append(&ledger, held(T::ApprovalGranted)).unwrap();
        append(&ledger, kind(T::KillSwitchOn).with("reason", "first")).unwrap();
        append(&ledger, kind(T::KillSwitchOn).with("reason", "second")).unwrap();
        restart(home.path(), ledger);
        let ledger = open(home.path());
        let switches = ledger.kill_switches();
        assert_eq!((switches.len(), &switches.iter().next().unwrap().data["reason"]), (1, &"second".into()));
        assert!(switches.hit(Some("crawler"), Some("crm.import")).is_some());
        assert_eq!(switches.hit(Some("other"), Some("crm.import")).is_some(), row % 2 == 0);
        assert_eq!(switches.hit(Some("crawler"), Some("other")).is_some(), row < 2);
        for refused in [allowed("corr_2"), held(T::ActionExecuting)] {
            assert!(matches!(append(&ledger, refused), Err(AppendError::Killed { .. })));
        }
        append(&ledger, held(T::ApprovalDenied)).unwrap();
        append(&ledger, kind(T::KillSwitchOff)).unwrap();
        assert!(matches!(append(&ledger, kind(T::KillSwitchOff)), Err(AppendError::NotSwitchedOn)));
        assert!(ledger.kill_switches().is_empty());
        append(&ledger, allowed("corr_2")).unwrap();
    }
}

#[test]
fn a_standing_approval_is_used_as_often_and_as_long_as_it_says() {
    let standing = |kind, id: &str| Draft::new(kind).with("standing", id).with("operator", "ann");
    let given = |id, uses: u64, expires_at: &str| {
        standing(T::StandingCreated, id).with("uses", uses).with("expires_at", expires_at).with("path", "/v1/refunds")
    };
    let used = |id| standing(T::StandingUsed, id);
    for restart in RESTARTS {
        let (home, ledger) = create();
        append(&ledger, given("std_a", 3, "2999-01-01T00:00:00Z")).unwrap();
        append(&ledger, given("std_b", 1, "2999-01-01T00:00:00Z")).unwrap();
        append(&ledger, given("std_old", 1, "2001-01-01T00:00:00Z")).unwrap();
        append(&ledger, used("std_a")).unwrap();
        append(&ledger, used("std_b")).unwrap();
        restart(home.path(), ledger);
        let ledger = open(home.path());
        let standings = ledger.standings();
        assert_eq!(
            standings.iter().map(|one| (one.id.as_str(), one.uses, one.used)).collect::<Vec<_>>(),
            [("std_a", 3, 1)]
        );
        assert_eq!(standings[0].data["path"], "/v1/refunds");
        for refused in [used("std_b"), used("std_old"), used("std_c"), given("std_a", 9, "2999-01-01T00:00:00Z")] {
            assert!(matches!(append(&ledger, refused), Err(AppendError::NoStanding { .. })));
        }
        // More uses in one submission than are left: none of it.
        assert!(ledger.append_blocking(vec![used("std_a"), used("std_a"), used("std_a")]).is_err());
        append(&ledger, used("std_a")).unwrap();
        append(&ledger, standing(T::StandingRevoked, "std_a")).unwrap();
        assert!(append(&ledger, used("std_a")).is_err() && ledger.standings().is_empty());
    }
    let (_home, ledger) = create();
    for (incomplete, field) in [
        (Draft::new(T::StandingUsed), "data.standing"),
        (given("std_a", 0, "2999-01-01T00:00:00Z"), "data.uses"),
        (given("std_a", 1, "tomorrow"), "data.expires_at"),
    ] {
        assert!(append(&ledger, incomplete).unwrap_err().to_string().contains(field));
    }
}

/// What an older build wrote under the same names means nothing, and does not keep the ledger from opening.
#[test]
fn foreign_data_under_our_names_is_refused_when_new() {
    let (_home, ledger) = create();
    for name in ["reserved", "once"] {
        let refused = append(&ledger, allowed("corr_1").with(name, "something else"));
        assert!(matches!(refused, Err(AppendError::Incomplete { .. })));
    }
}

const RECORDS: &str = "crm-low-risk/agent/crawler/records/day";
const KEY: &str = "idempotency/crawler/crm.import/1";
const DAY: u32 = 86_400;
