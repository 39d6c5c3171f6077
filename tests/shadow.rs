//! A policy that is tried out, from outside: what it would have stopped goes out without the credential, is recorded as
//! what it would have been, and nothing else is looser than before.

use nix::sys::signal::Signal;

use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::Origin;
use crate::harness::world::{API, DESTINATIONS, SECRET};

#[test]
fn what_would_have_been_held_is_sent_without_the_credential_and_recorded() {
    let (origin, gate) = trying("2099-01-01T00:00:00Z");
    let sent = gate.agent().post("https://api.example/change/7", "hello");
    assert_eq!((sent.status, sent.header("writ-decision")), (200, Some("allow")));
    let allowed = gate.event("decision.allowed", &sent.correlation());
    assert_eq!(allowed["data"]["shadow"], "hold");
    assert_eq!(allowed["data"]["rules"][0]["rule"], "changes/require_approval");
    gate.event("action.executed", &sent.correlation());

    assert_eq!(gate.agent().get("https://api.example/a").status, 200);
    let secret = format!("Bearer {SECRET}");
    let hits = origin.hits();
    let credentials: Vec<Option<&str>> = hits.iter().map(|hit| hit.header("authorization")).collect();
    assert_eq!(credentials, [None, Some(secret.as_str())], "only what is allowed gets the credential");

    let explained = gate.succeeds(&["explain", "--recorded", &sent.correlation()]);
    assert!(explained.starts_with("allow\n") && explained.contains("not enforced"), "{explained}");
    assert!(gate.succeeds(&["pending"]).contains("nothing"));
    gate.assert_verifies();
}

#[test]
fn it_is_said_aloud_at_start_on_the_ledger_and_by_check() {
    let (_origin, gate) = trying("2099-01-01T00:00:00Z");
    assert!(
        gate.printed().contains("NOT ENFORCED   policy `changes` until 2099-01-01T00:00:00Z"),
        "{}",
        gate.printed()
    );
    assert!(gate.log().contains("not_enforced"), "{}", gate.log());
    let loaded = gate.events_called("config.loaded");
    assert_eq!(loaded[0]["data"]["not_enforced"], serde_json::json!(["changes"]));
    let checked = gate.succeeds(&["check"]);
    assert!(checked.contains("warning[not_enforced]"), "{checked}");
}

#[test]
fn everything_else_is_enforced() {
    let (origin, gate) = trying("2099-01-01T00:00:00Z");
    let agent = gate.agent();
    assert_eq!(agent.request("DELETE", "https://api.example/change/7", &[], b"").status, 403, "no destination");
    assert_eq!(agent.post("https://api.example/change/a/%2e%2e%2fb", "x").status, 400, "ambiguous");
    assert_eq!(agent.post("https://api.example/twice/7", "x").status, 202, "another policy");
    let with_token = [("x-note", agent.token.as_str())];
    assert_eq!(agent.request("POST", "https://api.example/change/7", &with_token, b"x").status, 403, "a gate token");
    gate.succeeds(&["agents", "suspend", "default"]);
    assert_eq!(
        agent
            .connect()
            .ask(&format!("CONNECT api.example:443 HTTP/1.1\r\nhost: api.example:443\r\n{}\r\n", agent.credential()))
            .status,
        403
    );
    assert_eq!(origin.connections(), 0);
}

#[test]
fn addresses_and_kill_switches_are_enforced() {
    let (origin, gate) = trying("2099-01-01T00:00:00Z");
    let agent = gate.agent();
    for (host, why) in [("169.254.169.254", "never dialled"), ("10.0.0.7", "not public")] {
        let inside = agent.post(&format!("http://{host}/x"), "x");
        assert_eq!((inside.status, inside.code().as_str()), (502, "upstream_failed"), "{host}");
        assert!(inside.text_at("/detail").contains(why), "{}", inside.text());
    }
    let kill = |turn: &str, of: &[&str]| gate.succeeds(&[&["kill", turn, "--rationale", "wait"], of].concat());
    for of in [&["--agent", "default"][..], &["--destination", "api.change"], &[]] {
        kill("on", of);
        let stopped = agent.post("https://api.example/change/7", "x");
        assert_eq!((stopped.status, stopped.code().as_str()), (403, "kill_switch"), "{of:?}");
        kill("off", of);
    }
    assert_eq!(origin.connections(), 0);
    assert_eq!((agent.post("https://api.example/change/7", "x").status, origin.hits().len()), (200, 1));
}

#[test]
fn operators_see_it_above_the_rules_for_as_long_as_it_lasts() {
    let (_origin, gate) = trying("2099-01-01T00:00:00Z");
    let admin = gate.admin();
    let said = "not enforced</span> <a href=\"/ui/policies#changes.yaml\">changes</a> until";
    for page in ["destinations", "policies"] {
        let shown = gate.page(&admin, page);
        assert_eq!(shown.matches("not enforced</span>").count(), 1, "{shown}");
        assert!(shown.contains(said) && shown.contains("2099-01-01T00:00:00Z"), "{shown}");
    }
    let (_origin, gate) = trying("2026-01-01T00:00:00Z");
    assert!(!gate.page(&gate.admin(), "policies").contains("not enforced</span>"), "the date is over");
}

#[test]
fn after_the_date_it_is_enforced_and_money_never_moves_this_way() {
    let (origin, gate) = trying("2026-01-01T00:00:00Z");
    assert_eq!(gate.agent().post("https://api.example/change/7", "hello").status, 202);
    assert_eq!(origin.connections(), 0);

    let destinations = std::fs::read_to_string(gate.home().join("destinations.yaml")).unwrap();
    let destinations = destinations.replacen("effect: external_mutation", "effect: payment", 1);
    gate.write("destinations.yaml", &destinations);
    gate.signal(Signal::SIGHUP);
    let refused = gate.wait_for("config.refused", |_| true);
    assert_eq!(refused["data"]["faults"][0]["code"], "shadow_payment", "{refused:#}");
}

fn trying(until: &str) -> (Origin, Gate) {
    let origin = Origin::https(&[API]);
    let changes = format!(
        "destinations: [api.change, api.wait, inside, metadata]\nrequire_approval: always\nenforce: false\nuntil: {until}\n"
    );
    let inside = [("inside", "10.0.0.7"), ("metadata", "169.254.169.254")].map(|(key, host)| {
        format!(
            "  - {{ key: {key}, match: {{ host: {host}, methods: [POST], path: /** }}, schemes: [http], \
             effect: external_mutation, policy: changes }}\n"
        )
    });
    let plan = Plan::new().origin(API, &origin).file("policies/changes.yaml", &changes);
    let gate = plan.file("destinations.yaml", &(DESTINATIONS.to_owned() + &inside.concat())).start();
    (origin, gate)
}
