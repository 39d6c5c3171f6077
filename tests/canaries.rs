//! Canaries: every secret that a gate handles is looked for wherever it writes, after it has done everything with them
//! that it does, at trace level; and in its memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use writ::scrub::Needles;

use crate::harness::agent::{Agent, Connection, Response};
use crate::harness::gate::{Gate, PATIENCE, Plan, within};
use crate::harness::origin::{Origin, Reply};
use crate::harness::trace::skip;
use crate::harness::world::{self, API};

/// What was written or told, by where.
type Sinks = BTreeMap<String, Vec<u8>>;

#[test]
fn k01_k02_no_secret_is_in_any_sink_after_a_full_run_at_trace_level() {
    let (api, login) = (api(), login());
    let (slack, elsewhere) = (Origin::https(&[SLACK]), Origin::plain());
    let gate = telling(plan(&api, &login), &slack, &elsewhere).start();
    let mut sinks = Sinks::new();
    for (name, _) in SHAPES {
        asked(&gate, name, &mut sinks);
    }
    refused(&gate, &mut sinks);
    commanded(&gate, &mut sinks);
    all_is_told(&gate);
    let (agent, operator) = (token(&gate, "agent-default.token"), token(&gate, "operator.token"));
    let home = gate.home();
    // As the process ends, and not only as it runs.
    let plan = gate.stop();
    sinks.insert("stderr".to_owned(), plan.log().into_bytes());
    sinks.insert("stdout".to_owned(), fs::read(home.with_file_name("out")).unwrap());
    read_files(&home, &mut sinks);
    read_deliveries(&slack, &elsewhere, &mut sinks);
    for name in KINDS {
        assert!(
            sinks.iter().any(|(sink, found)| sink.contains(name) && !found.is_empty()),
            "{name}: {:?}",
            sinks.keys()
        );
    }
    let secrets = SHAPES.iter().map(|(name, _)| secret(name)).chain(MORE.iter().map(|more| (*more).to_owned()));
    let secrets: Vec<String> = secrets.chain([agent, operator]).collect();
    let needles = Needles::new(&secrets.iter().map(String::as_bytes).collect::<Vec<_>>());
    assert!(needles.are_in(format!("x {} y", secret("json")).as_bytes()));
    let found: Vec<_> = sinks.iter().filter(|(_, text)| needles.are_in(text)).map(|(sink, _)| sink).collect();
    assert!(found.is_empty(), "secrets in {found:?}");
    println!("{} secrets in every form: 0 hits in {} sinks, {} bytes", secrets.len(), sinks.len(), size(&sinks));
}

/// What is left is said, not hidden: run with `--nocapture` to see the number.
#[test]
fn k03_few_copies_of_a_secret_stay_in_memory_after_executions() {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).file("api.key", &secret("bearer")).start();
    let agent = gate.agent();
    for count in 0..EXECUTIONS {
        let answer = agent.post(&format!("https://api.example/send/{count}"), "x");
        assert_eq!(answer.status, 200);
        gate.event("action.executed", &answer.correlation());
    }
    std::thread::sleep(Duration::from_secs(1));
    let Ok(memory) = memory(&gate) else { return skip("the memory of another process cannot be read here") };
    let copies = occurrences(&memory, secret("bearer").as_bytes());
    println!("{copies} copies of the secret in {} MiB of memory after {EXECUTIONS} executions", memory.len() >> 20);
    assert!(copies <= MOST_COPIES, "{copies} copies after {EXECUTIONS} executions: they pile up");
}

/// An allowed request, an echo, a held one that is approved, and one whose reply breaks off.
fn asked(gate: &Gate, name: &str, sinks: &mut Sinks) {
    let agent = gate.agent();
    let answer = ask(&agent, "POST", name, "x");
    assert_eq!(answer.status, 200, "{name}: {answer:?}");
    sinks.insert(format!("allowed {name}"), told(&answer));
    let echo = ask(&agent, "POST", name, "echo");
    assert_eq!(echo.status, 200, "{name}: {echo:?}");
    sinks.insert(format!("echo {name}"), told(&echo));
    let held = ask(&agent, "PUT", name, "echo");
    assert_eq!(held.status, 202, "{name}: {held:?}");
    let intent = held.text_at("/intentId");
    sinks.insert(format!("held {name}"), told(&held));
    sinks.insert(format!("shown {name}"), gate.succeeds(&["intents", "show", &intent]).into_bytes());
    gate.approve(&intent);
    assert_eq!(agent.settled(&intent), "succeeded", "{name}");
    sinks.insert(format!("mailbox {name}"), told(&agent.response(&intent)));
}

/// What is refused on each side of the permit.
fn refused(gate: &Gate, sinks: &mut Sinks) {
    let agent = gate.agent();
    let denied = agent.request("DELETE", "https://api.example/bearer/x", &[], b"");
    let in_body = agent.post("https://api.example/bearer/x", &agent.token);
    let stranger = agent.with_token(&format!("{}x", agent.token));
    let connect = format!("CONNECT {API}:443 HTTP/1.1\r\nhost: {API}:443\r\n{}\r\n", stranger.credential());
    let unknown = stranger.connect().ask(&connect);
    for (what, answer, status) in [("denied", denied, 403), ("token", in_body, 403), ("unknown", unknown, 407)] {
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        sinks.insert(what.to_owned(), told(&answer));
    }
    let cut = agent.try_request("POST", "https://api.example/bearer/cut", &[], b"");
    sinks.insert("cut".to_owned(), format!("{cut:?}").into_bytes());
    // Secrets that cannot be used: with a line break in them, longer than allowed, gone.
    for (what, text) in
        [("unfit", format!("{}\n{}", secret("bearer"), MORE[0])), ("long", secret("bearer").repeat(3000))]
    {
        gate.write("bearer.key", &text);
        let answer = ask(&agent, "POST", "bearer", "x");
        assert_eq!(answer.status, 502, "{what}: {answer:?}");
        sinks.insert(what.to_owned(), told(&answer));
        sinks.insert(
            format!("{what} tried"),
            format!("{:?}", gate.writ(&["credentials", "test", "bearer"])).into_bytes(),
        );
    }
    fs::remove_file(gate.home().join("bearer.key")).unwrap();
    sinks.insert("gone".to_owned(), told(&ask(&agent, "POST", "bearer", "x")));
}

/// Everything an operator can have printed, and a reload that fails.
fn commanded(gate: &Gate, sinks: &mut Sinks) {
    let credentials = fs::read_to_string(gate.home().join("credentials.yaml")).unwrap();
    gate.write("credentials.yaml", &credentials.replace("hosts:", "host:"));
    let bundle = gate.home().join("all.zip");
    let commands: [&[&str]; 10] = [
        &["reload"],
        &["check"],
        &["credentials", "list"],
        &["credentials", "test", "query"],
        &["ledger", "tail", "--json", "--limit", "100000"],
        &["intents", "list"],
        &["agents", "list"],
        &["status"],
        &["explain", "POST", "https://api.example/bearer/x"],
        &["export", "--out", bundle.to_str().unwrap()],
    ];
    for command in commands {
        sinks.insert(command.join(" "), format!("{:?}", gate.writ(command)).into_bytes());
    }
    let token = fs::read_to_string(gate.home().join("operator.token")).unwrap();
    let (run, intent) =
        (page_of(gate, "action.executed", "correlation_id"), page_of(gate, "approval.granted", "intent_id"));
    let about =
        [format!("/ui/runs/{run}"), format!("/ui/approvals/{intent}"), format!("/v1/capsule?correlation={run}")];
    for page in PAGES.iter().copied().chain(about.iter().map(String::as_str)) {
        let (host, token) = (gate.operator, token.trim());
        let ask = format!("GET {page} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\r\n");
        let answer = Connection::open(gate.operator).ask(&ask);
        assert_eq!(answer.status, 200, "{page}: {answer:?}");
        sinks.insert(page.to_owned(), told(&answer));
    }
    let unpack = "import sys, zipfile\nfor each in zipfile.ZipFile(sys.argv[1]).infolist(): \
                  sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(each))";
    let unpacked = Command::new("python3").args(["-c", unpack]).arg(&bundle).output().unwrap();
    sinks.insert("all.zip unpacked".to_owned(), unpacked.stdout);
}

/// The newest event of this type, by the id that pages know it by.
fn page_of(gate: &Gate, kind: &str, id: &str) -> String {
    gate.events_called(kind).last().unwrap()[id].as_str().unwrap().to_owned()
}

/// Waits until both channels have told of everything: what is not told yet would not be searched.
fn all_is_told(gate: &Gate) {
    let failed = gate.events_called("action.failed").last().unwrap()["seq"].as_u64();
    for channel in ["ops", "pager"] {
        let file = gate.home().join(format!("data/notifications/{channel}.json"));
        let told = || serde_json::from_str::<Value>(&fs::read_to_string(&file).ok()?).ok()?["seq"].as_u64();
        let is_told = within(PATIENCE, || (told() >= failed).then_some(()));
        assert!(is_told.is_some(), "{channel}: {:?} of {failed:?}\n{}", told(), gate.log());
    }
}

/// What left the gate for others than the upstream.
fn read_deliveries(slack: &Origin, elsewhere: &Origin, sinks: &mut Sinks) {
    // The URL of the channel is the credential, and stands in the request line alone.
    let to_slack: Vec<u8> = slack.hits().into_iter().flat_map(|hit| hit.body).collect();
    sinks.insert("told: slack".to_owned(), to_slack);
    for hit in elsewhere.hits() {
        sinks.entry(format!("told: {}", hit.target)).or_default().extend([hit.raw, hit.body].concat());
    }
}

fn ask(agent: &Agent, method: &str, name: &str, last: &str) -> Response {
    let kind = match name {
        "form" => "application/x-www-form-urlencoded",
        "json" => "application/json",
        _ => "text/plain",
    };
    let place = if name == "path" { "path/bot" } else { name };
    let url = format!("https://api.example/{place}/{last}");
    agent.request(method, &url, &[("content-type", kind)], b"{}")
}

/// A credential for each shape, with a destination that allows and one that holds.
fn plan(api: &Origin, login: &Origin) -> Plan {
    let mut plan = Plan::new().origin(API, api).origin("login.example", login).variable("WRIT_LOG", "trace");
    let home = plan.home();
    let (mut credentials, mut destinations) = ("credentials:\n".to_owned(), "destinations:\n".to_owned());
    for (name, inject) in SHAPES {
        let text = if *name == "url" { format!("https://{API}/url/{}", secret(name)) } else { secret(name) };
        plan = plan.file(&format!("{name}.key"), &text);
        let file = home.join(format!("{name}.key"));
        credentials +=
            &format!("  {name}: {{ secret: 'file://{}', hosts: [{API}], inject: {inject} }}\n", file.display());
        for (kind, method) in [("send", "POST"), ("change", "PUT")] {
            destinations += &format!(
                "  - {{ key: {name}.{kind}, match: {{ host: {API}, methods: [{method}], path: /{name}/** }}, \
                 effect: write, policy: {kind}s, credential: {name} }}\n"
            );
        }
    }
    let keys = |kind: &str| SHAPES.iter().map(|(name, _)| format!("{name}.{kind}")).collect::<Vec<_>>().join(", ");
    let policy = |kind: &str, approval: &str| format!("destinations: [{}]\nrequire_approval: {approval}\n", keys(kind));
    let plan = world::POLICIES.iter().fold(plan, |plan, (id, _)| plan.without(&format!("policies/{id}.yaml")));
    let plan = plan.file("policies/sends.yaml", &policy("send", "never"));
    let plan = plan.file("policies/changes.yaml", &policy("change", "always"));
    plan.file("credentials.yaml", &credentials).file("destinations.yaml", &destinations)
}

/// With everyone a gate can tell of what it does: channels that ask for all there is, a collector, a copy of checkpoints.
fn telling(plan: Plan, slack: &Origin, elsewhere: &Origin) -> Plan {
    let (home, at) = (plan.home(), format!("http://127.0.0.1:{}", elsewhere.port()));
    let file = |name: &str| home.join(name).display().to_string();
    let (url, key, copy) = (file("slack.key"), file("hook.key"), file("checkpoint"));
    plan.origin(SLACK, slack)
        .file("slack.key", &format!("https://{SLACK}/services/{}", MORE[3]))
        .file("hook.key", MORE[4])
        .section(&format!(
            "notifications:\n  channels:\n    ops: {{ slack: 'file://{url}', payload: true }}\n    \
             pager: {{ webhook: '{at}/hook', key: 'file://{key}', payload: true, addresses: [127.0.0.1/32] }}\n"
        ))
        .section(&format!("telemetry: {{ traces: '{at}/v1/traces' }}\n"))
        .section(&format!("witnesses: [{{ post: '{at}/checkpoints' }}, {{ file: '{copy}' }}]\n"))
}

/// Sends every secret back, in the head and in the body.
fn api() -> Origin {
    let cut = Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nx");
    SHAPES.iter().fold(Origin::https(&[API]).reply("/bearer/cut", cut), |origin, (name, _)| {
        let secret = if *name == "oauth2" { MORE[1].to_owned() } else { secret(name) };
        let place = match *name {
            "path" => format!("/path/bot{secret}/echo"),
            "url" => format!("/url/{secret}"),
            _ => format!("/{name}/echo"),
        };
        origin.reply(&place, Reply::new(200).header("x-echo", &secret).body(format!("<{secret}>")))
    })
}

fn login() -> Origin {
    let token = format!(r#"{{"access_token":"{}","expires_in":1,"refresh_token":"{}"}}"#, MORE[1], MORE[2]);
    Origin::https(&["login.example"]).reply("/", Reply::new(200).body(token))
}

fn secret(name: &str) -> String {
    format!("canary-{name}-4eC39HqLyjWDarjtT1zdp7dc")
}

fn token(gate: &Gate, file: &str) -> String {
    // What is the same in all tokens stands in many places.
    fs::read_to_string(gate.home().join(file)).unwrap().trim().rsplit_once('_').unwrap().1.to_owned()
}

fn told(answer: &Response) -> Vec<u8> {
    [format!("{answer:?}").as_bytes(), answer.text().as_bytes()].concat()
}

/// Every file but those that are there to hold a secret.
fn read_files(folder: &Path, sinks: &mut Sinks) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kept = path.extension().is_some_and(|extension| extension == "key" || extension == "token");
        if path.is_dir() {
            read_files(&path, sinks);
        } else if !kept {
            sinks.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
}

fn size(sinks: &Sinks) -> usize {
    sinks.values().map(Vec::len).sum()
}

/// All memory that the gate can write to.
fn memory(gate: &Gate) -> std::io::Result<Vec<u8>> {
    let process = format!("/proc/{}", gate.pid());
    let file = File::open(format!("{process}/mem"))?;
    let mut all = Vec::new();
    for line in fs::read_to_string(format!("{process}/maps"))?.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|end| u64::from_str_radix(end, 16).unwrap());
        let mut region = vec![0; usize::try_from(to - from).unwrap()];
        // Some regions are there and cannot be read, such as those of the kernel.
        if file.read_exact_at(&mut region, from).is_ok() {
            all.append(&mut region);
        }
    }
    Ok(all)
}

fn occurrences(memory: &[u8], secret: &[u8]) -> usize {
    memchr::memmem::find_iter(memory, secret).count()
}

const SHAPES: &[(&str, &str)] = &[
    ("basic", "{ basic: { user: u, password: '{secret}' } }"),
    ("bearer", "{ bearer: '{secret}' }"),
    ("cookie", "{ cookie: { name: sid } }"),
    ("form", "{ form: { field: token } }"),
    ("header", "{ header: { name: x-key, value: 'k={secret}' } }"),
    ("hmac", "{ hmac: { over: '{body}', headers: { x-sign: '{signature}' } } }"),
    ("json", "{ json: { field: auth/token } }"),
    ("oauth2", "{ oauth2: { token_url: 'https://login.example/token', client_id: c7, grant: refresh_token } }"),
    ("path", "{ path: '/path/bot{secret}' }"),
    ("query", "{ query: { name: key } }"),
    ("sigv4", "{ sigv4: { region: eu-central-1, service: s3, access_key_id: AKIDEXAMPLE } }"),
    ("url", "{ url: true }"),
];

/// The second line of a secret that is unfit, an access token, a refresh token, what the URL of a channel ends with, the
/// key that another channel signs with.
const MORE: &[&str] = &[
    "canary-line-wJalrXUtnFEMIbPxRfiCY",
    "canary-access-wJalrXUtnFEMIbPxRfi",
    "canary-newer-wJalrXUtnFEMIbPxRfiCY",
    "canary-channel-wJalrXUtnFEMIbPxRfiCY",
    "canary-signing-wJalrXUtnFEMIbPxRfiCY",
];

/// Sinks that must be there, and hold something: a search of nothing finds nothing.
const KINDS: &[&str] = &[
    "stderr",
    "data/events",
    "data/ledger",
    "data/sealed",
    "home/checkpoint",
    "all.zip unpacked",
    "echo bearer",
    "cut",
    "tail",
    "/metrics",
    "/ui/runs/",
    "told: slack",
    "told: /hook",
    "told: /v1/traces",
    "told: /checkpoints",
];

/// What operators look at.
const PAGES: &[&str] = &[
    "/metrics",
    "/v1/events",
    "/v1/intents",
    "/v1/status",
    "/v1/checkpoint",
    "/ui/approvals",
    "/ui/runs",
    "/ui/destinations",
    "/ui/policies",
    "/ui/credentials",
    "/ui/agents",
    "/ui/ledger",
];

const SLACK: &str = "hooks.slack.example";

const EXECUTIONS: usize = 50;

/// Copies in buffers of libraries, which reuse them: however many executions there were.
const MOST_COPIES: usize = 8;
