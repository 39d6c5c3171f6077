//! Looking back from outside: every filter finds what reading everything finds, page by page, whether an entry is still in
//! memory or in the index.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use ledger::{Draft, Event, EventType, Ledger, Options, Past, Query};

fn open(dir: &Path) -> Ledger {
    if !Ledger::exists(dir) {
        Ledger::create(dir, "example.com/test").unwrap();
    }
    Ledger::open(Options { dir: dir.to_owned(), queue: 4096, reserve_bytes: 0 }).unwrap()
}

/// Live requests of three agents to four destinations, most allowed, some denied, in steps the index takes apart.
fn fill(ledger: &Ledger, requests: u64) {
    for number in 0..requests {
        let agent = match number {
            rare if rare % 97 == 0 => "rare",
            even if even % 2 == 0 => "crawler",
            _ => "writer",
        };
        let destination = if number * 7 % 11 < 3 { "crm.import" } else { "mail.send" };
        let correlation = format!("corr_{number}");
        let draft = |kind| Draft::new(kind).correlation(&correlation).agent(agent).destination(destination);
        let steps = match number % 5 {
            0 => vec![draft(EventType::DecisionDenied)],
            _ => vec![draft(EventType::DecisionAllowed), draft(EventType::ActionExecuted).with("sent", true)],
        };
        ledger.append_blocking(steps).unwrap();
    }
}

fn everything(ledger: &Ledger) -> Vec<(Event, String)> {
    let lines = ledger.events(&Query { limit: usize::MAX, ..Query::default() }).unwrap();
    lines.into_iter().map(|line| (serde_json::from_str(&line).unwrap(), line)).collect()
}

/// What reading everything finds.
fn expected(all: &[(Event, String)], past: &Past) -> Vec<String> {
    let fits = |event: &Event| {
        (past.kinds.is_empty() || past.kinds.iter().any(|kind| kind.as_str() == event.kind.as_str()))
            && past.agent.as_ref().is_none_or(|agent| event.agent_id.as_ref() == Some(agent))
            && past.destination.as_ref().is_none_or(|key| event.dest_key.as_ref() == Some(key))
            && past.since.is_none_or(|since| event.ts >= since)
            && past.until.is_none_or(|until| event.ts <= until)
    };
    all.iter().rev().filter(|(event, _)| fits(event)).map(|(_, line)| line.clone()).collect()
}

/// All pages, put together.
fn pages(ledger: &Ledger, past: &Past) -> Vec<String> {
    let mut found = Vec::new();
    let mut past = past.clone();
    loop {
        let page = ledger.past(&past).unwrap();
        assert!(page.lines.len() <= past.limit);
        found.extend(page.lines);
        match page.older {
            Some(before) => past.before = Some(before),
            None => return found,
        }
    }
}

fn filters(all: &[(Event, String)]) -> Vec<Past> {
    let time = |part: usize| all.get(all.len() / part).map(|(event, _)| event.ts);
    let (third, half) = (time(3), time(2));
    let kinds = [vec![], vec![EventType::DecisionDenied], vec![EventType::DecisionAllowed, EventType::DecisionDenied]];
    let names = [None, Some("rare"), Some("crawler"), Some("nobody")];
    let keys = [None, Some("crm.import")];
    let times = [(None, None), (third, None), (None, half), (third, half)];
    let pairs =
        names.iter().flat_map(|name| keys.iter().map(move |key| (name.map(str::to_owned), key.map(str::to_owned))));
    let fields: Vec<_> = pairs.flat_map(|pair| kinds.iter().map(move |kinds| (pair.clone(), kinds.clone()))).collect();
    let with_times = |((agent, destination), kinds): &((Option<String>, Option<String>), Vec<EventType>)| {
        let past = Past {
            kinds: kinds.clone(),
            agent: agent.clone(),
            destination: destination.clone(),
            limit: 7,
            ..Past::default()
        };
        times.map(|(since, until)| Past { since, until, ..past.clone() })
    };
    fields.iter().flat_map(with_times).collect()
}

#[test]
fn every_filter_finds_what_reading_everything_finds() {
    let home = tempfile::tempdir().unwrap();
    // With the newest still in memory, then after a restart with all in the index.
    for requests in [1500, 0] {
        let ledger = open(home.path());
        fill(&ledger, requests);
        let all = everything(&ledger);
        for past in filters(&all) {
            assert_eq!(pages(&ledger, &past), expected(&all, &past), "{past:?}, {requests} requests just now");
        }
        ledger.close().unwrap();
    }
}

#[test]
fn times_and_counts_are_those_of_the_chain() {
    let home = tempfile::tempdir().unwrap();
    let ledger = open(home.path());
    fill(&ledger, 700);
    let all = everything(&ledger);
    let mut times: Vec<Timestamp> = all.iter().step_by(50).chain(all.last()).map(|(event, _)| event.ts).collect();
    times.extend([Timestamp::UNIX_EPOCH, ledger.head().ts + SignedDuration::from_secs(1)]);
    for time in times {
        let expected = all.iter().position(|(event, _)| event.ts >= time).unwrap_or(all.len()) as u64;
        assert_eq!(ledger.first_since(time).unwrap(), expected, "{time}");
    }
    for range in [0..all.len() as u64, 100..500, 100..100, 0..1] {
        let in_range = |event: &Event| range.contains(&event.seq) && event.kind.as_str() == "decision.denied";
        let expected = all.iter().filter(|(event, _)| in_range(event)).count() as u64;
        assert_eq!(ledger.count(EventType::DecisionDenied, range.clone()).unwrap(), expected, "{range:?}");
    }
}
