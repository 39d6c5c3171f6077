//! People are told what is held, decided, failed or violated: by a real receiver's word, across restarts, and never at an
//! address that is not meant.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::harness::gate::{PATIENCE, Plan, within};
use crate::harness::origin::Origin;
use crate::harness::world::{API, SECRET};

/// A plain HTTP server that answers with what it is told to, and keeps what it got.
struct Receiver {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    got: Arc<Mutex<Vec<Message>>>,
}

#[derive(Clone, Debug)]
struct Message {
    headers: Vec<(String, String)>,
    body: String,
}

const SLACK: &str = "hooks.slack.example";

#[test]
fn slack_is_told_what_is_held_decided_failed_and_violated_and_nothing_else() {
    let (origin, slack) = (Origin::https(&[API]), Origin::https(&[SLACK]));
    let plan = Plan::new()
        .origin(API, &origin)
        .origin(SLACK, &slack)
        .file("slack.url", &format!("https://{SLACK}/services/T/B/canary-url"))
        .section("notifications:\n  link: https://writ.example/\n  channels:\n    ops: {slack: 'file://URL'}\n");
    let url = plan.home().join("slack.url");
    let gate = located(plan, &url).start();
    let agent = gate.agent();
    let held = agent.held("https://api.example/change/canary-path?canary=query", "canary-body");
    told(&slack, "waits for approval");
    gate.approve(&held);
    told(&slack, "*approved*");
    let second = agent.held("https://api.example/change/8", "x");
    gate.succeeds(&["deny", &second, "--rationale", "canary-rationale"]);
    told(&slack, "*rejected*");
    agent.post("https://api.example/send/1", "x");
    std::fs::remove_file(gate.home().join("api.key")).unwrap();
    agent.post("https://api.example/send/1", "x");
    told(&slack, "*failed*: default → api.send");
    agent.with_token("writ_agt_wrong").get("http://plain.example/");
    told(&slack, "*violation*");

    let hits = slack.hits();
    let all: String = hits.iter().map(|hit| String::from_utf8_lossy(&hit.raw).into_owned()).collect();
    assert!(hits.iter().all(|hit| hit.target == "/services/T/B/canary-url" && hit.method == "POST"));
    assert!(all.contains(&format!("<https://writ.example/ui/approvals/{held}|look>")), "{all}");
    let bodies = all.replace("/services/T/B/canary-url", "");
    for never in ["canary", SECRET, "writ_agt_", "writ_op_", "digest", "reasons"] {
        assert!(!bodies.contains(never), "`{never}` is told:\n{bodies}");
    }
    // Live requests that went well, and reads, are nobody's business.
    assert!(!all.contains("executed"));
    let logged = gate.log() + &std::fs::read_to_string(gate.home().join("data/notifications/ops.json")).unwrap();
    assert!(!logged.contains("canary-url"), "the URL is a secret: {logged}");
}

#[test]
fn a_webhook_is_signed_and_tried_again_after_a_restart_until_it_is_taken_once() {
    let receiver = Receiver::answering(503);
    let origin = Origin::https(&[API]);
    let hooks = format!(
        "notifications:\n  channels:\n    pager:\n      webhook: 'http://{}/writ'\n      key: 'file://KEY'\n      on: [held]\n      \
         addresses: [127.0.0.1/32]\n      payload: true\n",
        receiver.address
    );
    let plan =
        Plan::new().origin(API, &origin).file("hook.key", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").section(&hooks);
    let key = plan.home().join("hook.key");
    let gate = located(plan, &key).start();
    let held = gate.agent().held("https://api.example/change/7", "x");
    assert!(within(PATIENCE, || (receiver.got().len() >= 2).then_some(())).is_some(), "it is not tried again");
    let plan = gate.kill();
    let before = receiver.got().len();
    receiver.status.store(200, Ordering::SeqCst);
    let gate = plan.start();
    assert!(within(PATIENCE, || (receiver.got().len() > before).then_some(())).is_some(), "it is lost");

    let got = receiver.got();
    for message in &got {
        assert_eq!(message.header("webhook-id"), got[0].header("webhook-id"));
        let signed =
            format!("{}.{}.{}", message.header("webhook-id"), message.header("webhook-timestamp"), message.body);
        let key = BASE64.decode(b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key).unwrap();
        mac.update(signed.as_bytes());
        assert_eq!(message.header("webhook-signature"), format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes())));
        let seconds: i64 = message.header("webhook-timestamp").parse().unwrap();
        assert!((jiff::Timestamp::now().as_second() - seconds).abs() < 60);
    }
    let told: Value = serde_json::from_str(&got.last().unwrap().body).unwrap();
    assert_eq!((&told["type"], &told["data"]["intent_id"]), (&"writ.held".into(), &held.as_str().into()));
    assert_eq!(told["data"]["path"], "/change/7", "the payload was asked for");

    // Taken is taken: another restart tells only what is new.
    let taken = got.len();
    let gate = gate.restart();
    let next = gate.agent().held("https://api.example/change/8", "x");
    assert!(within(PATIENCE, || (receiver.got().len() > taken).then_some(())).is_some());
    let last = receiver.got();
    assert_eq!(last.len(), taken + 1);
    assert!(last[taken].body.contains(&next));
}

#[test]
fn e22_nothing_is_told_inside_unless_the_operator_opened_it_and_redirects_are_not_followed() {
    let (inside, elsewhere) = (Receiver::answering(200), Receiver::answering(200));
    let open = Receiver::start(302, &format!("location: http://{}/\r\n", elsewhere.address));
    let hook = |name: &str, url: &str, more: &str| {
        format!("    {name}: {{webhook: '{url}', key: 'file://KEY', on: [held]{more}}}\n")
    };
    let port = inside.address.port();
    let mut hooks = "notifications:\n  channels:\n".to_owned();
    hooks += &hook("literal", &format!("https://127.0.0.1:{port}/"), "");
    hooks += &hook("name", &format!("https://localhost:{port}/"), "");
    hooks += &hook("mapped", &format!("https://[::ffff:127.0.0.1]:{port}/"), "");
    hooks += &hook("other-range", &format!("http://127.0.0.1:{port}/"), ", addresses: [10.0.0.0/8]");
    hooks += &hook("metadata", "http://169.254.169.254/", ", addresses: [0.0.0.0/0]");
    hooks += &hook("moved", &format!("http://{}/", open.address), ", addresses: [127.0.0.1/32]");
    let origin = Origin::https(&[API]);
    let plan = Plan::new().origin(API, &origin).file("hook.key", "a key").section(&hooks);
    let key = plan.home().join("hook.key");
    let gate = located(plan, &key).start();
    gate.agent().held("https://api.example/change/7", "x");
    assert!(within(PATIENCE, || (open.got().len() >= 2).then_some(())).is_some(), "302 is no delivery: tried again");
    let refused = |name: &str| {
        let log = gate.log();
        log.lines().any(|line| line.contains("did not arrive") && line.contains(&format!("\"{name}\"")))
    };
    for name in ["literal", "name", "mapped", "other-range", "metadata"] {
        assert!(within(PATIENCE, || refused(name).then_some(())).is_some(), "{name}:\n{}", gate.log());
    }
    assert!(gate.log().contains("metadata service"), "{}", gate.log());
    assert_eq!((inside.got().len(), elsewhere.got().len()), (0, 0));
}

/// Writes where a file is into the configuration, in the place of `URL` or `KEY`.
fn located(plan: Plan, file: &std::path::Path) -> Plan {
    plan.configure();
    let text = std::fs::read_to_string(plan.home().join("writ.yaml")).unwrap();
    let path = file.to_str().unwrap();
    plan.file(
        "writ.yaml",
        &text.replace("file://URL", &format!("file://{path}")).replace("file://KEY", &format!("file://{path}")),
    )
}

/// Waits until a message says so.
fn told(origin: &Origin, what: &str) {
    let says = || origin.hits().iter().any(|hit| String::from_utf8_lossy(&hit.body).contains(what));
    let all = || origin.hits().iter().map(|hit| String::from_utf8_lossy(&hit.body).into_owned()).collect::<Vec<_>>();
    assert!(within(PATIENCE, || says().then_some(())).is_some(), "nobody is told `{what}`: {:#?}", all());
}

// === impl Receiver ===

impl Receiver {
    fn answering(status: u16) -> Receiver {
        Receiver::start(status, "")
    }

    /// `header` is a line with its end, sent with every answer.
    fn start(status: u16, header: &str) -> Receiver {
        let header = header.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (status, got) = (Arc::new(AtomicU16::new(status)), Arc::new(Mutex::new(Vec::new())));
        let receiver = Receiver { address, status: Arc::clone(&status), got: Arc::clone(&got) };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let message = Message::read(&mut stream);
                got.lock().unwrap().extend(message);
                let status = status.load(Ordering::SeqCst);
                let answer = format!("HTTP/1.1 {status} X\r\n{header}content-length: 0\r\nconnection: close\r\n\r\n");
                drop(stream.get_mut().write_all(answer.as_bytes()));
            }
        });
        receiver
    }

    fn got(&self) -> Vec<Message> {
        self.got.lock().unwrap().clone()
    }
}

// === impl Message ===

impl Message {
    fn read(stream: &mut impl BufRead) -> Option<Message> {
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).ok().filter(|length| *length > 0)?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
                None if line.trim_end().is_empty() => break,
                None => {}
            }
        }
        let mut message = Message { headers, body: String::new() };
        let length: u64 = message.header("content-length").parse().ok()?;
        stream.take(length).read_to_string(&mut message.body).ok()?;
        Some(message)
    }

    fn header(&self, name: &str) -> String {
        let found = self.headers.iter().find(|(each, _)| each == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }
}
