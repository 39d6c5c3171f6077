//! The real Prometheus: it scrapes the gate, and its own tool checks what is shipped for it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::metrics::{busy, text};
use crate::harness::connection::Connection;
use crate::harness::gate::{PATIENCE, within};
use crate::harness::trace::skip;

/// A Prometheus that is killed when its test ends.
struct Prometheus(Child, SocketAddr);

#[test]
fn promtool_finds_nothing_wrong_with_a_scrape() {
    if !is_there("promtool") {
        return;
    }
    let (_origin, gate) = busy();
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(text(&gate).as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    assert!(said.status.success() && said.stdout.is_empty() && said.stderr.is_empty(), "{said:?}");
}

#[test]
fn alerts_and_configuration_are_valid_and_each_alert_fires() {
    if !is_there("promtool") {
        return;
    }
    for arguments in
        [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"], ["check", "config", "--syntax-only"]]
    {
        let mut promtool = Command::new("promtool");
        promtool.args(arguments).current_dir(deploy("prometheus"));
        if arguments[2].starts_with("--") {
            promtool.arg("prometheus.yaml");
        }
        let said = promtool.output().unwrap();
        assert!(said.status.success(), "{arguments:?}: {said:?}");
    }
    let (alerts, tests) = (read("prometheus/alerts.yaml"), read("prometheus/alerts.test.yaml"));
    for name in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {name}\n")), "no test fires `{name}`");
    }
}

#[test]
fn dashboard_and_alerts_use_exactly_what_the_gate_has() {
    let (_origin, gate) = busy();
    let text = text(&gate);
    let there: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let dashboard = read("grafana/writ.json");
    serde_json::from_str::<serde_json::Value>(&dashboard).unwrap();
    let shown = names(&dashboard);
    assert_eq!(shown, there.iter().map(|name| (*name).to_owned()).collect(), "the dashboard shows each of them");
    let alerted = names(&read("prometheus/alerts.yaml"));
    assert!(alerted.is_subset(&shown), "{alerted:?}");
}

#[test]
fn a_real_prometheus_scrapes_the_gate() {
    if !is_there("prometheus") {
        return;
    }
    let (_origin, gate) = busy();
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("writ.token");
    fs::write(&token, gate.add_operator("prometheus", "scraper")).unwrap();
    let configuration = read("prometheus/prometheus.yaml")
        .replace("15s", "1s")
        .replace("alerts.yaml", deploy("prometheus/alerts.yaml").to_str().unwrap())
        .replace("/etc/prometheus/writ.token", token.to_str().unwrap())
        .replace("127.0.0.1:8787", &gate.operator.to_string());
    let prometheus = Prometheus::start(folder.path(), &configuration);
    let value = |query: &str| prometheus.value(query);
    let up = within(PATIENCE, || (value("up")? == "1").then_some(()));
    assert!(up.is_some(), "it was not scraped: {}", fs::read_to_string(folder.path().join("log")).unwrap());
    assert_eq!(value("sum(writ_decisions_total{verdict=\"allow\"})").as_deref(), Some("3"));
    assert_eq!(value("writ_stage_seconds_count{stage=\"upstream\"}").as_deref(), Some("3"));
    assert_eq!(value("writ_ready").as_deref(), Some("1"));
}

// === impl Prometheus ===

impl Prometheus {
    fn start(folder: &Path, configuration: &str) -> Prometheus {
        fs::write(folder.join("prometheus.yaml"), configuration).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", folder.join("prometheus.yaml").display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        command.arg(format!("--web.listen-address={address}")).stdout(Stdio::null()).stderr(log);
        Prometheus(command.spawn().unwrap(), address)
    }

    /// The first sample of an instant query.
    fn value(&self, query: &str) -> Option<String> {
        let stream = std::net::TcpStream::connect(self.1).ok()?;
        drop(stream);
        let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let head = format!("GET /api/v1/query?query={query} HTTP/1.1\r\nhost: {}\r\n\r\n", self.1);
        let answer = Connection::open(self.1).ask(&head);
        let found: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        Some(found.pointer("/data/result/0/value/1")?.as_str()?.to_owned())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The metrics that a text names; a histogram by its own name.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_');
    let metrics = words.filter(|word| word.starts_with("writ_"));
    let base = |word: &str| {
        ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).to_owned()
    };
    metrics.map(base).collect()
}

fn is_there(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        skip(&format!("{program} is missing"));
    }
    found
}

fn read(name: &str) -> String {
    fs::read_to_string(deploy(name)).unwrap()
}

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}
