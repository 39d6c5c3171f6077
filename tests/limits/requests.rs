//! How large one request may be.

use crate::harness::gate::Plan;
use crate::harness::origin::Origin;
use crate::harness::world::PLAIN;

/// A request that passes the defaults, and the answer under a limit it breaks.
struct Case {
    limit: (&'static str, u64),
    path: String,
    headers: Vec<(String, String)>,
    body: String,
    status: u16,
    code: &'static str,
}

#[test]
fn what_is_larger_than_a_limit_is_refused_and_never_arrives() {
    let origin = Origin::plain();
    let open = Plan::new().origin(PLAIN, &origin).start();
    for case in cases() {
        let (name, value) = case.limit;
        let limited = Plan::new().origin(PLAIN, &origin).limit(name, value).start();
        let before = origin.hits().len();
        let answer = case.send(&limited.agent());
        assert_eq!((answer.status, answer.code().as_str()), (case.status, case.code), "{name}: {answer:?}");
        assert_eq!(origin.hits().len(), before, "{name}");
        assert_eq!(case.send(&open.agent()).status, 200, "{name}: the default refuses it too");
        assert_eq!(origin.hits().len(), before + 1, "{name}");
    }
}

#[test]
fn a_limit_is_the_last_size_that_passes() {
    let origin = Origin::plain();
    let gate = Plan::new().origin(PLAIN, &origin).limit("body_bytes", 10).start();
    let sizes = [9, 10, 11].map(|size| gate.agent().post(&url("/send/x"), &"b".repeat(size)).status);
    assert_eq!((sizes, origin.hits().len()), ([200, 200, 413], 2));
}

// === impl Case ===

impl Case {
    fn send(&self, agent: &crate::harness::agent::Agent) -> crate::harness::agent::Response {
        let headers: Vec<(&str, &str)> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        agent.request("POST", &url(&self.path), &headers, self.body.as_bytes())
    }
}

fn cases() -> Vec<Case> {
    let plain = |limit, status, code| Case {
        limit,
        path: "/send/x".to_owned(),
        headers: Vec::new(),
        body: "body".to_owned(),
        status,
        code,
    };
    let header = |name: &str, length| (name.to_owned(), "v".repeat(length));
    vec![
        Case {
            headers: vec![header("x-a", 400), header("x-b", 400)],
            ..plain(("head_bytes", 700), 431, "head_too_large")
        },
        Case { headers: vec![header("x-a", 300)], ..plain(("line_bytes", 250), 431, "head_too_large") },
        Case { path: format!("/send/{}", "p".repeat(90)), ..plain(("target_bytes", 80), 414, "target_too_long") },
        Case {
            headers: (0..9).map(|at| header(&format!("x-{at}"), 1)).collect(),
            ..plain(("headers", 8), 431, "head_too_large")
        },
        Case { body: "b".repeat(11), ..plain(("body_bytes", 10), 413, "body_too_large") },
        Case { body: "b".repeat(11), ..plain(("body_budget_bytes", 10), 503, "busy") },
    ]
}

fn url(path: &str) -> String {
    format!("http://{PLAIN}{path}")
}
