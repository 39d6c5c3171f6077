//! The gate as a process of its own: stopped, killed, and asked through its own command line and its journal. Never
//! through its memory.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::agent::Agent;
use super::connection::Connection;
use super::plan::{Doors, Process};
pub(crate) use super::plan::{Plan, Printed};

/// A gate that was started. It is killed, and its home removed, when it is dropped.
pub(crate) struct Gate {
    plan: Plan,
    process: Process,
    /// Address of the forward door.
    pub(crate) forward: SocketAddr,
    /// Address of the operator door.
    pub(crate) operator: SocketAddr,
    reverse: Option<SocketAddr>,
}

// === impl Gate ===

impl Gate {
    pub(super) fn new(plan: Plan, process: Process, doors: Doors) -> Gate {
        let Doors { forward, operator, reverse } = doors;
        Gate { plan, process, forward, operator, reverse }
    }

    /// Address of the reverse door, which the plan must have configured.
    pub(crate) fn reverse(&self) -> SocketAddr {
        self.reverse.unwrap()
    }

    /// The agent that the first run made.
    pub(crate) fn agent(&self) -> Agent {
        let token = fs::read_to_string(self.home().join("agent-default.token")).unwrap();
        Agent::new(self.forward, &self.home().join("ca-bundle.pem"), "default", token.trim())
    }

    /// Adds an agent.
    pub(crate) fn add_agent(&self, name: &str, owner: &str) -> Agent {
        let token = self.token_of(&["--json", "agents", "add", name, "--owner", owner]);
        Agent::new(self.forward, &self.home().join("ca-bundle.pem"), name, &token)
    }

    /// Adds an operator and returns its token.
    pub(crate) fn add_operator(&self, name: &str, role: &str) -> String {
        self.token_of(&["--json", "operators", "add", name, "--role", role])
    }

    /// Runs a command as the first operator.
    pub(crate) fn writ(&self, arguments: &[&str]) -> Printed {
        self.writ_with(arguments, &[])
    }

    /// Runs a command with the token of an operator.
    pub(crate) fn writ_as(&self, token: &str, arguments: &[&str]) -> Printed {
        self.writ_with(arguments, &[("WRIT_TOKEN", token)])
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub(crate) fn succeeds(&self, arguments: &[&str]) -> String {
        let printed = self.writ(arguments);
        assert_eq!(printed.code, 0, "writ {arguments:?}: {}", printed.err);
        printed.out
    }

    /// The token of the operator that came with the home.
    pub(crate) fn admin(&self) -> String {
        fs::read_to_string(self.home().join("operator.token")).unwrap().trim().to_owned()
    }

    /// A page of the operator door, as the operator with this token gets it.
    pub(crate) fn page(&self, token: &str, name: &str) -> String {
        let door = self.operator;
        let head = format!("GET /ui/{name} HTTP/1.1\r\nhost: {door}\r\nauthorization: Bearer {token}\r\n\r\n");
        let answer = Connection::open(door).ask(&head);
        assert_eq!(answer.status, 200, "{name}");
        answer.text()
    }

    /// Approves an intent as the first operator.
    pub(crate) fn approve(&self, intent: &str) {
        self.succeeds(&["approve", intent, "--rationale", "looks right"]);
    }

    /// All events in the journal.
    pub(crate) fn events(&self) -> Vec<Value> {
        let mut days: Vec<PathBuf> =
            fs::read_dir(self.home().join("data/events")).unwrap().map(|entry| entry.unwrap().path()).collect();
        days.sort();
        let text: String = days.iter().map(|day| fs::read_to_string(day).unwrap()).collect();
        // A line that is being written has no end yet.
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        complete.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The events of one request, without the gate's own.
    pub(crate) fn events_of(&self, correlation: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["correlation_id"] == correlation).collect()
    }

    /// The events of one type.
    pub(crate) fn events_called(&self, kind: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["type"] == kind).collect()
    }

    /// Waits for an event of this type about this intent or request, and returns it.
    pub(crate) fn event(&self, kind: &str, about: &str) -> Value {
        self.wait_for(kind, |event| event["intent_id"] == about || event["correlation_id"] == about)
    }

    /// Waits for an event of this type that `fits`, and returns it.
    pub(crate) fn wait_for(&self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let found = within(PATIENCE, || self.events().into_iter().find(|event| event["type"] == kind && fits(event)));
        let event = found.unwrap_or_else(|| panic!("no such `{kind}`:\n{:#?}\n{}", self.events(), self.log()));
        // A line is in the journal before it is durable, and only then does the gate know of it itself.
        let known = within(PATIENCE, || (self.head() >= event["seq"].as_u64()).then_some(()));
        assert!(known.is_some(), "the gate does not know of {event}");
        event
    }

    /// Sends a signal to the gate.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// The gate's process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id())
    }

    /// Ends the gate orderly, and leaves its home.
    pub(crate) fn stop(mut self) -> Plan {
        self.signal(Signal::SIGTERM);
        assert!(self.ended(), "the gate did not end:\n{}", self.log());
        self.plan
    }

    /// Ends the gate with SIGKILL, and leaves its home.
    pub(crate) fn kill(self) -> Plan {
        drop(self.process);
        self.plan
    }

    /// Waits until the process has ended by itself; false when it is still there after a while.
    pub(crate) fn ended(&mut self) -> bool {
        within(PATIENCE, || self.process.has_ended()).is_some()
    }

    /// Starts a second gate on the same home, which must refuse, and returns what it said.
    pub(crate) fn start_again(&self) -> Printed {
        self.plan.refuses_to_start()
    }

    /// Ends the gate orderly and starts it again on the same home.
    pub(crate) fn restart(self) -> Gate {
        self.stop().start()
    }

    /// The gate's home.
    pub(crate) fn home(&self) -> PathBuf {
        self.plan.home()
    }

    /// What the gate has logged since it was last started.
    pub(crate) fn printed(&self) -> String {
        self.plan.printed()
    }

    /// What the gate has logged since it was last started.
    pub(crate) fn log(&self) -> String {
        self.plan.log()
    }

    /// Replaces a file of the home while the gate runs.
    pub(crate) fn write(&self, name: &str, text: &str) {
        self.plan.write(name, text);
    }

    /// Checks the whole ledger with the program's own command.
    pub(crate) fn assert_verifies(&self) {
        assert!(!self.log().contains("panicked"), "{}", self.log());
        self.succeeds(&["ledger", "verify"]);
    }

    /// The number of the last event that the gate itself knows of.
    fn head(&self) -> Option<u64> {
        let head: Value = serde_json::from_str(&self.succeeds(&["--json", "ledger", "head"])).unwrap();
        head["seq"].as_u64()
    }

    fn writ_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Printed {
        // The doors are at ports that the configuration does not know.
        let operator = self.operator.to_string();
        self.plan.run(arguments, &[&[("WRIT_DOORS_OPERATOR", operator.as_str())], variables].concat())
    }

    fn token_of(&self, arguments: &[&str]) -> String {
        let answer: Value = serde_json::from_str(&self.succeeds(arguments)).unwrap();
        answer["token"].as_str().unwrap().to_owned()
    }
}

/// The first `Some` of `look`, which is asked again and again until the time is up.
pub(crate) fn within<T>(time: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + time;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// For anything that should happen soon.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
