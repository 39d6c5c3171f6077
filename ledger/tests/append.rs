//! Appending from outside: what is recorded, what is refused, and that racing submissions become one decision.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

use std::path::Path;
use std::sync::Barrier;
use std::thread;

use EventType as T;
use ledger::{AppendError, Draft, EventType, Ledger, Options, Query, State, Status};
use serde_json::json;

fn open(dir: &Path) -> Ledger {
    if !Ledger::exists(dir) {
        Ledger::create(dir, "example.com/test").unwrap();
    }
    Ledger::open(Options { dir: dir.to_owned(), queue: 256, reserve_bytes: 0 }).unwrap()
}

/// A draft of the one intent of a test.
fn intent(kind: EventType) -> Draft {
    Draft::new(kind).correlation("corr_1").intent("int_1").agent("crawler").destination("crm.import")
}

/// A draft of the one live request of a test.
fn live(kind: EventType) -> Draft {
    Draft::new(kind).correlation("corr_live").agent("crawler")
}

fn vote(operator: &str) -> Draft {
    intent(T::ApprovalVote).with("operator", operator)
}

/// A ledger in which each of `steps` was appended by itself.
fn after(dir: &Path, steps: &[Draft]) -> Ledger {
    let ledger = open(dir);
    for step in steps {
        ledger.append_blocking(vec![step.clone()]).unwrap();
    }
    ledger
}

#[test]
fn receipts_say_what_was_recorded() {
    let home = tempfile::tempdir().unwrap();
    let ledger = open(home.path());
    let receipts =
        ledger.append_blocking(vec![intent(T::DecisionApprovalRequired), Draft::new(T::GateStarted)]).unwrap();
    assert_eq!((receipts[0].seq(), receipts[1].seq()), (1, 2));
    assert_eq!(receipts[0].kind(), T::DecisionApprovalRequired);
    assert_eq!((receipts[0].correlation_id(), receipts[0].intent_id()), (Some("corr_1"), Some("int_1")));
    let head = ledger.head();
    assert_eq!(
        (head.seq, head.entry_hash.as_str(), head.origin.as_str()),
        (2, receipts[1].entry_hash(), "example.com/test")
    );
    assert_eq!(*ledger.subscribe().borrow(), 2);
    assert!(ledger.append_blocking(Vec::new()).unwrap().is_empty());
    assert_eq!(ledger.verify().unwrap().entries, 3);
}

#[test]
fn an_intent_shows_what_its_events_left() {
    let home = tempfile::tempdir().unwrap();
    let hold = |reason: &str| intent(T::DecisionApprovalRequired).run("run-1").action("POST /").with("reason", reason);
    let ledger = after(home.path(), &[hold("amount"), vote("ann"), vote("bob")]);
    let held = ledger.intent("int_1").unwrap();
    assert_eq!((held.state, held.agent_id.as_str(), held.correlation_id.as_str()), (State::Held, "crawler", "corr_1"));
    assert_eq!((held.dest_key.as_deref(), held.run_id.as_deref()), (Some("crm.import"), Some("run-1")));
    assert_eq!((held.opened.seq, held.latest_seq, held.votes.len()), (1, 1, 2));
    assert_eq!((&held.votes[1]["operator"], &held.votes[1]["seq"]), (&json!("bob"), &json!(3)));
    assert_eq!(held.opened.data["reason"], "amount");

    ledger.append_blocking(vec![intent(T::ApprovalGranted).with("by", "ann")]).unwrap();
    assert_eq!(ledger.intent("int_1").unwrap().latest["by"], "ann");
    // Policy changed after the approval: held again, the votes no longer count, the same reviewers vote anew.
    ledger.append_blocking(vec![hold("destination")]).unwrap();
    let again = ledger.intent("int_1").unwrap();
    assert_eq!((again.state, again.votes.len(), again.opened.seq), (State::Held, 0, 5));
    ledger.append_blocking(vec![vote("ann")]).unwrap();
    assert_eq!(ledger.intents(&[State::Held], 10).len(), 1);
    assert!(ledger.intents(&[State::Approved], 10).is_empty());
    assert!(ledger.intent("int_2").is_none());
}

#[test]
fn intents_come_newest_first_whatever_their_state() {
    let home = tempfile::tempdir().unwrap();
    let ledger = open(home.path());
    for (id, end) in [("a", Some(T::ApprovalDenied)), ("b", None), ("c", Some(T::ApprovalExpired)), ("d", None)] {
        let draft = |kind| Draft::new(kind).correlation(id).intent(id).agent("crawler");
        ledger.append_blocking(vec![draft(T::DecisionApprovalRequired)]).unwrap();
        end.map(|kind| ledger.append_blocking(vec![draft(kind)]).unwrap());
    }
    let ids = |states: &[State], limit| {
        let intents = ledger.intents(states, limit);
        intents.into_iter().map(|intent| intent.id).collect::<Vec<_>>().join("")
    };
    assert_eq!(ids(&[], 10), "dcba");
    assert_eq!(ids(&[], 3), "dcb");
    assert_eq!(ids(&[State::Held], 10), "db");
    assert_eq!(ids(&[State::Rejected, State::Held], 10), "dba");
    assert_eq!(ids(&[State::Expired], 0), "");
}

/// What nobody waits for is as durable as the rest once its receipt is there, and never overtaken.
#[tokio::test]
async fn an_append_in_no_hurry_keeps_its_place() {
    let home = tempfile::tempdir().unwrap();
    let ledger = open(home.path());
    ledger.append(vec![live(T::DecisionAllowed)]).await.unwrap();
    let alone = ledger.append_soon(vec![live(T::ActionExecuted)]).await.unwrap();
    assert_eq!((alone[0].seq(), ledger.head().seq), (2, 2));
    // The same correlation may be sent again only behind the outcome that is not yet on disk.
    ledger.append(vec![live(T::DecisionAllowed)]).await.unwrap();
    let (outcome, next) =
        tokio::join!(ledger.append_soon(vec![live(T::ActionFailed)]), ledger.append(vec![live(T::DecisionAllowed)]));
    assert_eq!((outcome.unwrap()[0].seq(), next.unwrap()[0].seq()), (4, 5));
    // A close waits for it.
    let late = tokio::spawn({
        let ledger = ledger.clone();
        async move { ledger.append_soon(vec![live(T::ActionExecuted)]).await }
    });
    tokio::task::yield_now().await;
    ledger.close().unwrap();
    assert_eq!(late.await.unwrap().unwrap()[0].seq(), 6);
    assert_eq!(ledger::verify(home.path()).unwrap().entries, 7);
}

/// Each row: what came before, what is submitted, and the refusal.
#[test]
fn what_cannot_follow_is_refused_and_leaves_no_trace() {
    let held = intent(T::DecisionApprovalRequired);
    let approved = [held.clone(), intent(T::ApprovalGranted)];
    let unknown = [held.clone(), intent(T::ApprovalGranted), intent(T::ActionExecuting), intent(T::ActionUnknown)];
    let open = [live(T::DecisionAllowed)];
    let closed = [live(T::DecisionAllowed), live(T::ActionExecuted)];
    let agent = |kind| Draft::new(kind).agent("crawler");
    let plain = Draft::new;
    let cases: Vec<(Vec<Draft>, Vec<Draft>, &str)> = vec![
        (vec![], vec![intent(T::ApprovalGranted)], "`approval.granted` cannot follow state `none`"),
        (vec![], vec![held.clone(), intent(T::ActionExecuting)], "`action.executing` cannot follow state `held`"),
        (approved.to_vec(), vec![intent(T::ApprovalCancelled)], "`approval.cancelled` cannot follow state `approved`"),
        (approved.to_vec(), vec![intent(T::ApprovalGranted)], "`approval.granted` cannot follow state `approved`"),
        (approved.to_vec(), vec![vote("ann")], "`approval.vote` cannot follow state `approved`"),
        (approved.to_vec(), vec![intent(T::ActionRequested)], "`action.requested` cannot follow state `approved`"),
        (approved.to_vec(), vec![intent(T::ActionExecuted)], "`action.executed` cannot follow state `approved`"),
        (unknown.to_vec(), vec![intent(T::ActionExecuted)], "`action.executed` cannot follow state `unknown`"),
        (unknown.to_vec(), vec![intent(T::ActionExecuting)], "`action.executing` cannot follow state `unknown`"),
        (vec![held.clone(), vote("ann")], vec![vote("ann")], "`ann` already voted"),
        (vec![held.clone()], vec![vote("ann"), vote("ann")], "`ann` already voted"),
        (vec![held.clone()], vec![intent(T::ApprovalVote)], "needs `data.operator`"),
        (open.to_vec(), open.to_vec(), "`corr_live` already has an open execution"),
        (vec![], vec![live(T::DecisionAllowed), live(T::DecisionAllowed)], "already has an open execution"),
        (vec![], vec![live(T::ActionExecuted)], "`corr_live` has no open execution"),
        (closed.to_vec(), vec![live(T::ActionFailed)], "`corr_live` has no open execution"),
        (
            closed.to_vec(),
            vec![live(T::ActionExecuted).with("resolved_by", "ann")],
            "`corr_live` has no open execution",
        ),
        (open.to_vec(), vec![live(T::ActionExecuted).correlation("corr_other")], "`corr_other` has no open execution"),
        (vec![], vec![plain(T::DecisionAllowed)], "needs `correlation_id`"),
        (vec![], vec![plain(T::DecisionApprovalRequired)], "needs `intent_id`"),
        (vec![], vec![plain(T::DecisionApprovalRequired).intent("int_1")], "needs `correlation_id`"),
        (vec![], vec![plain(T::DecisionDenied).intent("int_1").correlation("corr_1")], "needs `agent_id`"),
        (vec![], vec![plain(T::ActionExecuting).correlation("corr_1")], "needs `intent_id`"),
        (vec![], vec![plain(T::AgentRegistered)], "needs `agent_id`"),
        (vec![], vec![plain(T::OperatorAdded)], "needs `data.operator`"),
        (vec![], vec![plain(T::LedgerCreated)], "recorded by the ledger itself"),
        (
            vec![],
            vec![plain(T::GateStarted), live(T::DecisionAllowed).with("score", 0.5)],
            "`data.score` cannot be recorded",
        ),
        (vec![], vec![plain(T::Violation).with("n", 1_u64 << 60)], "`data.n` cannot be recorded"),
        (vec![], vec![agent(T::AgentResumed)], "`agent.resumed` cannot follow status `none`"),
        (vec![agent(T::AgentRevoked)], vec![agent(T::AgentResumed)], "`agent.resumed` cannot follow status `revoked`"),
        (vec![agent(T::AgentSuspended)], vec![agent(T::AgentRegistered)], "cannot follow status `suspended`"),
    ];
    for (before, submission, refusal) in cases {
        let home = tempfile::tempdir().unwrap();
        let ledger = after(home.path(), &before);
        let head = ledger.head();
        let error = ledger.append_blocking(submission).unwrap_err().to_string();
        assert!(error.contains(refusal), "expected `{refusal}`, got `{error}`");
        assert_eq!(ledger.head(), head, "{refusal}");
        // Nothing of the refused submission is left in the state either.
        ledger.append_blocking(vec![Draft::new(T::GateStopped)]).unwrap();
        assert_eq!(ledger.verify().unwrap().entries, before.len() as u64 + 2, "{refusal}");
    }
}

/// Each row: events that are legal one after the other, and the state they lead to.
#[test]
fn whole_lives_of_intents() {
    let held = intent(T::DecisionApprovalRequired);
    let sent = [held.clone(), intent(T::ApprovalGranted), intent(T::ActionExecuting)];
    let unsent = intent(T::ActionFailed).with("sent", false);
    let rows: Vec<(Vec<Draft>, State)> = vec![
        (vec![intent(T::ActionRequested), intent(T::DecisionAllowed), intent(T::ActionExecuting)], State::Executing),
        (vec![intent(T::ActionRequested), intent(T::DecisionDenied)], State::Blocked),
        ([&sent[..], &[unsent.clone(), intent(T::ActionExecuting), unsent]].concat(), State::Approved),
        (
            [&sent[..], &[intent(T::ActionUnknown), intent(T::ActionExecuted).with("resolved_by", "ann")]].concat(),
            State::Succeeded,
        ),
        (
            [&sent[..], &[intent(T::ActionUnknown), intent(T::ActionFailed).with("resolved_by", "ann")]].concat(),
            State::Failed,
        ),
        (vec![held, intent(T::Violation), intent(T::BudgetReserved), intent(T::RequestRefused)], State::Held),
    ];
    for (steps, state) in rows {
        for one_submission in [false, true] {
            let home = tempfile::tempdir().unwrap();
            let ledger = if one_submission { open(home.path()) } else { after(home.path(), &steps) };
            if one_submission {
                ledger.append_blocking(steps.clone()).unwrap();
            }
            assert_eq!(ledger.intent("int_1").unwrap().state, state, "{steps:?}");
        }
    }
}

#[test]
fn principals_follow_their_events() {
    let home = tempfile::tempdir().unwrap();
    let agent = |kind, name: &str| Draft::new(kind).agent(name);
    let operator = |kind, name: &str| Draft::new(kind).with("operator", name);
    let ledger = after(
        home.path(),
        &[
            agent(T::AgentRegistered, "crawler").with("token_sha256", "aa"),
            agent(T::AgentRegistered, "billing"),
            agent(T::AgentSuspended, "crawler"),
            agent(T::AgentRevoked, "billing"),
            operator(T::OperatorAdded, "ann").with("role", "admin"),
            operator(T::OperatorAdded, "bob"),
            operator(T::OperatorLogin, "ann"),
            operator(T::OperatorRevoked, "bob"),
        ],
    );
    let names = |principals: Vec<ledger::Principal>| {
        principals.into_iter().map(|principal| (principal.name, principal.status)).collect::<Vec<_>>()
    };
    let named = |name: &str, status| (name.to_owned(), status);
    let agents = [named("billing", Status::Revoked), named("crawler", Status::Suspended)];
    let operators = [named("ann", Status::Active), named("bob", Status::Revoked)];
    assert_eq!(ledger.agents()[1].data["token_sha256"], "aa", "the data of the registration stays");
    assert_eq!((names(ledger.agents()), names(ledger.operators())), (agents.to_vec(), operators.to_vec()));
    ledger.close().unwrap();
    let ledger = open(home.path());
    assert_eq!((names(ledger.agents()), names(ledger.operators())), (agents.to_vec(), operators.to_vec()));
    ledger.append_blocking(vec![agent(T::AgentResumed, "crawler"), agent(T::AgentRegistered, "billing")]).unwrap();
    assert!(ledger.agents().iter().all(|agent| agent.status == Status::Active));
}

/// What 64 threads that submit one draft each at the same time get recorded; all others must lose as illegal.
fn race(ledger: &Ledger, draft: impl Fn(usize) -> Draft + Sync) -> Vec<EventType> {
    let start = Barrier::new(THREADS);
    let submit = |thread| {
        start.wait();
        ledger.append_blocking(vec![draft(thread)])
    };
    let results: Vec<_> = thread::scope(|scope| {
        let submit = &submit;
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || submit(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let won: Vec<_> = results.iter().flatten().flatten().map(|receipt| receipt.kind()).collect();
    let lost = results.iter().filter(|result| matches!(result, Err(AppendError::Illegal { .. }))).count();
    assert_eq!(won.len() + lost, THREADS);
    won
}

#[test]
fn of_racing_decisions_exactly_one_is_recorded() {
    // Of each pair neither can follow the other.
    let pairs = [[T::ApprovalGranted, T::ApprovalCancelled], [T::ApprovalDenied, T::ApprovalCancelled]];
    for decisions in pairs.iter().cycle().take(10) {
        let home = tempfile::tempdir().unwrap();
        let ledger = after(home.path(), &[intent(T::DecisionApprovalRequired)]);
        let won = race(&ledger, |thread| intent(decisions[thread % 2]));
        assert_eq!(won.len(), 1);
        let recorded = ledger.events(&Query { intent: Some("int_1".to_owned()), ..Query::default() }).unwrap();
        assert!(recorded.len() == 2 && recorded[1].contains(won[0].as_str()), "{recorded:?}");
    }
}

#[test]
fn an_approved_intent_is_sent_once_and_ends_once() {
    let home = tempfile::tempdir().unwrap();
    let ledger = after(home.path(), &[intent(T::DecisionApprovalRequired), intent(T::ApprovalGranted)]);
    assert_eq!(race(&ledger, |_| intent(T::ActionExecuting)), [T::ActionExecuting]);
    assert_eq!(race(&ledger, |thread| intent([T::ActionExecuted, T::ActionFailed][thread % 2])).len(), 1);
}

#[tokio::test]
async fn dropping_an_append_does_not_cancel_it() {
    let home = tempfile::tempdir().unwrap();
    let ledger = open(home.path());
    let mut durable = ledger.subscribe();
    {
        let mut append = Box::pin(ledger.append(vec![live(T::DecisionAllowed)]));
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(append.as_mut().poll(context))).await;
        assert!(polled.is_pending());
    }
    durable.wait_for(|seq| *seq == 1).await.unwrap();
    ledger.append(vec![live(T::ActionExecuted)]).await.unwrap();
    assert_eq!(ledger.head().seq, 2);
}

#[test]
fn queries_find_exactly_what_matches() {
    let home = tempfile::tempdir().unwrap();
    let ledger = open(home.path());
    for turn in 0..50 {
        let draft = |kind| {
            let draft = Draft::new(kind).correlation(format!("corr_{turn}")).run(format!("run-{}", turn % 5));
            draft.agent(["a", "b"][turn % 2]).destination(["x", "y", "z"][turn % 3])
        };
        ledger.append_blocking(vec![draft(T::DecisionAllowed), draft(T::ActionExecuted)]).unwrap();
    }
    ledger.append_blocking(vec![intent(T::DecisionApprovalRequired), live(T::DecisionDenied).run("run-1\0x")]).unwrap();
    let all = ledger.events(&Query { limit: 1000, ..Query::default() }).unwrap();
    assert_eq!(all.len(), 103);
    let text = |value: &str| Some(value.to_owned());
    let query = || Query { limit: 1000, ..Query::default() };
    for (query, fields) in [
        (Query { kind: text("decision.allowed"), ..query() }, vec!["\"type\":\"decision.allowed\""]),
        (Query { agent: text("a"), ..query() }, vec!["\"agent_id\":\"a\""]),
        (Query { correlation: text("corr_7"), ..query() }, vec!["\"correlation_id\":\"corr_7\""]),
        (Query { run: text("run-1"), ..query() }, vec!["\"run_id\":\"run-1\""]),
        (
            Query { run: text("run-1"), destination: text("y"), ..query() },
            vec!["\"run_id\":\"run-1\"", "\"dest_key\":\"y\""],
        ),
        (Query { intent: text("int_1"), ..query() }, vec!["\"intent_id\":\"int_1\""]),
        (Query { correlation: text("corr_none"), ..query() }, vec!["corr_none"]),
    ] {
        let matches = |line: &&String| fields.iter().all(|field| line.contains(field));
        let expected: Vec<String> = all.iter().filter(matches).cloned().collect();
        assert_eq!(ledger.events(&query).unwrap(), expected, "{query:?}");
        let later = Query { after: Some(20), limit: 3, ..query };
        let expected: Vec<String> = all.iter().skip(21).filter(matches).take(3).cloned().collect();
        assert_eq!(ledger.events(&later).unwrap(), expected, "{later:?}");
    }
    assert!(ledger.events(&Query { limit: 0, ..Query::default() }).unwrap().is_empty());
    assert!(ledger.events(&Query { after: Some(u64::MAX), ..Query::default() }).unwrap().is_empty());
}

/// More entries of one run than one key of the index stands for, read from every place in between.
#[test]
fn a_long_run_is_read_from_any_place() {
    let home = tempfile::tempdir().unwrap();
    let ledger = open(home.path());
    // The id of the other run begins with that of the first and the byte that ends it in the index.
    let draft = |index: usize| Draft::new(T::GateStarted).run(["run", "run\0\0\0\0\0\0\0\u{1}\u{1}"][index % 2]);
    for size in [1100, 3, 700] {
        ledger.append_blocking((0..size).map(draft).collect()).unwrap();
    }
    ledger.close().unwrap();
    let ledger = open(home.path());
    let all = ledger.events(&Query { limit: usize::MAX, ..Query::default() }).unwrap();
    for after in [0, 1, 509, 510, 511, 512, 513, 1099, 1100, 1101, 1102, 1103, 1104, 1800, 1802, 1803, 1804] {
        let query = Query { run: Some("run".to_owned()), after: Some(after), limit: 5, ..Query::default() };
        let later = all.iter().skip(usize::try_from(after).unwrap() + 1);
        let expected: Vec<_> = later.filter(|line| line.contains("\"run_id\":\"run\"")).take(5).cloned().collect();
        assert_eq!(ledger.events(&query).unwrap(), expected, "after {after}");
    }
}

/// Readers always see what they were told is durable, although the index is written later.
#[test]
fn whoever_has_a_receipt_can_read_the_entry() {
    let home = tempfile::tempdir().unwrap();
    let ledger = open(home.path());
    let one_turn = |id: String| {
        let draft = |kind| Draft::new(kind).intent(&id).correlation(&id).agent("crawler");
        let drafts = vec![draft(T::DecisionApprovalRequired), draft(T::ApprovalDenied)];
        let seq = ledger.append_blocking(drafts).unwrap()[1].seq();
        assert_eq!(ledger.intent(&id).unwrap().state, State::Rejected);
        let by_number = Query { after: Some(seq - 1), limit: 1, ..Query::default() };
        assert_eq!(ledger.events(&by_number).unwrap().len(), 1);
        let by_intent = Query { intent: Some(id), ..Query::default() };
        assert_eq!(ledger.events(&by_intent).unwrap().len(), 2);
    };
    let one_turn = &one_turn;
    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || (0..100).for_each(|turn| one_turn(format!("{thread}-{turn}"))));
        }
    });
    assert_eq!(ledger.intents(&[State::Rejected], usize::MAX).len(), 400);
}

const THREADS: usize = 64;
