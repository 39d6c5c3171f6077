//! What Prometheus is told.

use std::collections::BTreeMap;

use super::look;
use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::Origin;
use crate::harness::world::{API, SECRET};

#[test]
fn what_happened_is_counted_by_agent_destination_and_verdict() {
    let (_origin, gate) = busy();
    let found = scrape(&gate);
    let decisions = |agent: &str, destination: &str, verdict: &str| {
        let series =
            format!("writ_decisions_total{{agent=\"{agent}\",destination=\"{destination}\",verdict=\"{verdict}\"}}");
        found.get(&series).copied()
    };
    assert_eq!(decisions("default", "api.read", "allow"), Some(3.0));
    assert_eq!(decisions("default", "api.change", "hold"), Some(1.0));
    assert_eq!(decisions("default", "none", "deny"), Some(1.0));
    let expected = [
        ("writ_refusals_total{code=\"denied\"}", 1.0),
        ("writ_violations_total{kind=\"authority_mismatch\",severity=\"MEDIUM\"}", 1.0),
        ("writ_stage_seconds_count{stage=\"read\"}", 5.0),
        ("writ_stage_seconds_count{stage=\"decide\"}", 5.0),
        ("writ_stage_seconds_count{stage=\"record\"}", 3.0),
        ("writ_stage_seconds_count{stage=\"vault\"}", 3.0),
        ("writ_stage_seconds_count{stage=\"upstream\"}", 3.0),
        ("writ_vault_seconds_count{outcome=\"ok\",provider=\"file\"}", 3.0),
        ("writ_intents_waiting", 1.0),
        ("writ_leaves_made_total", 1.0),
        ("writ_request_bytes_total", 1.0),
        ("writ_ready", 1.0),
        ("writ_ailment{reason=\"ledger_closed\"}", 0.0),
    ];
    for (series, value) in expected {
        assert_eq!(found.get(series).copied(), Some(value), "{series}: {found:#?}");
    }
    for above_zero in ["writ_reply_bytes_total", "writ_ledger_commit_seconds_count", "writ_ledger_commit_entries_sum"] {
        assert!(found[above_zero] > 0.0, "{above_zero}");
    }
    let open = gate.agent().tunnel(API);
    let found = scrape(&gate);
    assert_eq!((found["writ_connections"], found["writ_tunnels"]), (1.0, 1.0));
    drop(open);
}

#[test]
fn k01_metrics_hold_no_secret_nothing_an_agent_wrote_and_are_for_operators() {
    let (_origin, gate) = busy();
    assert_eq!(gate.agent().get("https://api.example/canary-path?canary-query=1").status, 200);
    let invented = gate.agent().get("https://canary-host.example/");
    assert_eq!(invented.status, 403);
    let text = text(&gate);
    for canary in ["canary", SECRET, gate.agent().token.as_str()] {
        assert!(!text.contains(canary), "`{canary}`: {text}");
    }
    let agent = gate.agent().token;
    for token in [None, Some(agent.as_str()), Some("writ_op_nobody")] {
        assert_eq!(look(&gate, "localhost", token, "/metrics").status, 401);
    }
    let scraper = gate.add_operator("prometheus", "scraper");
    assert_eq!(look(&gate, "10.0.0.9:8787", Some(&scraper), "/metrics").status, 200);
    let own = gate.operator.to_string();
    for page in ["/v1/intents", "/v1/events", "/v1/status", "/ui/approvals"] {
        assert_eq!(look(&gate, &own, Some(&scraper), page).status, 403, "{page}");
    }
    assert_ne!(gate.writ_as(&scraper, &["kill", "on", "--rationale", "a token that leaked"]).code, 0);
}

#[test]
fn metrics_can_be_turned_off() {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).section("telemetry: { metrics: false }\n").start();
    assert_eq!(gate.agent().get("https://api.example/a").status, 200);
    let found = scrape(&gate);
    assert!(!found.keys().any(|series| series.starts_with("writ_decisions")), "{found:#?}");
    assert_eq!(found["writ_ready"], 1.0, "what is looked up on demand is there all the same");
}

/// A gate that had three reads, a denial, a held request and a mismatch.
pub(super) fn busy() -> (Origin, Gate) {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).start();
    let agent = gate.agent();
    for _ in 0..3 {
        assert_eq!(agent.get("https://api.example/a").status, 200);
    }
    assert_eq!(agent.request("DELETE", "https://api.example/a", &[], b"").status, 403);
    agent.held("https://api.example/change/1", "x");
    let mut other = agent.tunnel(API);
    assert_eq!(other.ask("GET / HTTP/1.1\r\nhost: elsewhere.example\r\n\r\n").status, 421);
    (origin, gate)
}

/// One scrape as Prometheus makes it.
pub(super) fn text(gate: &Gate) -> String {
    let token = std::fs::read_to_string(gate.home().join("operator.token")).unwrap();
    let answer = look(gate, "localhost", Some(token.trim()), "/metrics");
    assert_eq!(answer.status, 200, "{answer:?}");
    String::from_utf8(answer.body).unwrap()
}

/// The samples of a scrape by their series.
fn scrape(gate: &Gate) -> BTreeMap<String, f64> {
    let text = text(gate);
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
        .collect()
}
