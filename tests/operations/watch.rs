//! `writ status` and `writ top`: one screen about a running gate.

use serde_json::Value;

use super::metrics::busy;

#[test]
fn status_tells_on_one_screen_how_the_gate_is_doing() {
    let (_origin, gate) = busy();
    gate.add_agent("robot", "ops");
    gate.succeeds(&["agents", "suspend", "robot"]);
    let screen = gate.succeeds(&["status"]);
    for words in [
        "  ready\n",
        &format!("forward {}  operator {}", gate.forward, gate.operator),
        "1 served, 1 suspended, 0 revoked",
        "1 requests, the oldest for ",
        "3 allowed, 1 held, 1 denied",
        " entries; a commit takes ",
        "destinations.yaml ",
        "reads.yaml ",
        "  hold   default  api.change  http.post\n",
    ] {
        assert!(screen.contains(words), "`{words}` is missing:\n{screen}");
    }
    assert!(screen.lines().count() <= 24, "{screen}");
    let told: Value = serde_json::from_str(&gate.succeeds(&["--json", "status"])).unwrap();
    assert_eq!(told["health"]["status"], "ready");
    assert_eq!(told["last"].as_array().unwrap().len(), 5);
    assert_eq!(told["ledger"]["entries"].as_u64(), Some(gate.events().len() as u64));
    let viewer = gate.add_operator("vera", "viewer");
    assert_eq!(gate.writ_as(&viewer, &["status"]).code, 0);
    assert_ne!(gate.writ_as(&gate.agent().token, &["status"]).code, 0);
}

#[test]
fn top_tells_what_happened_since_the_last_look() {
    let (_origin, gate) = busy();
    let screens = std::thread::scope(|scope| {
        let top = scope.spawn(|| gate.succeeds(&["top", "--times", "3", "--every", "1"]));
        let agent = gate.agent();
        while !top.is_finished() {
            assert_eq!(agent.get("https://api.example/a").status, 200);
        }
        top.join().unwrap()
    });
    assert_eq!(screens.matches("writ 0.").count(), 3, "{screens}");
    assert!(screens.contains("in the last 1 s") && screens.contains("  default  api.read\n"), "{screens}");
    assert!(!screens.contains('\x1b'), "it is no terminal");
}
