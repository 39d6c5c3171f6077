//! A gate before it runs: a home with its configuration, put together by sentences.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::gate::{Gate, within};
use super::origin::Origin;
use super::world;

/// A gate that is not started yet: a home with its configuration.
pub(crate) struct Plan {
    folder: TempDir,
    limits: Vec<(String, u64)>,
    connect_to: Vec<(String, u16)>,
    extra: String,
    environment: Vec<(String, String)>,
    prefix: Vec<String>,
}

/// A child that does not outlive its test.
pub(super) struct Process(Child);

/// Where the doors of a gate are.
pub(super) struct Doors {
    pub(super) forward: SocketAddr,
    pub(super) operator: SocketAddr,
    pub(super) reverse: Option<SocketAddr>,
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Printed {
    /// Exit code; -1 when a signal ended it.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

// === impl Plan ===

impl Plan {
    /// A home with the shared [`world`], and no limits changed.
    pub(crate) fn new() -> Plan {
        let plan = Plan {
            folder: tempfile::tempdir().unwrap(),
            limits: Vec::new(),
            connect_to: Vec::new(),
            extra: String::new(),
            environment: Vec::new(),
            prefix: Vec::new(),
        };
        for dir in [plan.home(), plan.home().join("policies"), plan.home().join("tests")] {
            fs::DirBuilder::new().mode(0o700).create(dir).unwrap();
        }
        plan.write("api.key", world::SECRET);
        fs::write(plan.folder.path().join("roots.pem"), "").unwrap();
        let credentials = world::CREDENTIALS.replace("FILE", plan.home().join("api.key").to_str().unwrap());
        let plan = plan.file("destinations.yaml", world::DESTINATIONS).file("credentials.yaml", &credentials);
        world::POLICIES.iter().fold(plan, |plan, (id, text)| plan.file(&format!("policies/{id}.yaml"), text))
    }

    /// Dials `origin` for `host`, at the port of its scheme, and trusts its root.
    pub(crate) fn origin(mut self, host: &str, origin: &Origin) -> Plan {
        let port = if origin.roots_pem().is_empty() { 80 } else { 443 };
        let roots = self.folder.path().join("roots.pem");
        let known = fs::read_to_string(&roots).unwrap();
        fs::write(&roots, known + origin.roots_pem()).unwrap();
        self.connect_to.push((format!("{host}:{port}"), origin.port()));
        self
    }

    /// Dials a local port for `host:port`, whatever listens there.
    pub(crate) fn dial(mut self, host_and_port: &str, local: u16) -> Plan {
        self.connect_to.push((host_and_port.to_owned(), local));
        self
    }

    /// Sets a limit by its name.
    pub(crate) fn limit(mut self, name: &str, value: u64) -> Plan {
        self.limits.push((name.to_owned(), value));
        self
    }

    /// Adds lines to `writ.yaml`: a top-level section other than `doors`, `limits` and `upstream`.
    pub(crate) fn section(mut self, text: &str) -> Plan {
        self.extra += text;
        self
    }

    /// Writes a file of the home, in place of the one of the shared world if it is one of these.
    pub(crate) fn file(self, name: &str, text: &str) -> Plan {
        self.write(name, text);
        self
    }

    /// Removes a file of the home.
    pub(crate) fn without(self, name: &str) -> Plan {
        fs::remove_file(self.home().join(name)).unwrap();
        self
    }

    /// Sets a variable of the gate's environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Plan {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the gate through another program, such as `strace -D`; what is started must become the gate itself, or
    /// it cannot be signalled.
    pub(crate) fn under(mut self, prefix: &[&str]) -> Plan {
        self.prefix = prefix.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// The gate's home.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Writes `writ.yaml` from what was said so far, unless the test wrote one of its own.
    pub(crate) fn configure(&self) {
        if self.home().join("writ.yaml").exists() {
            return;
        }
        let reverse = if self.extra.contains("reverse:\n") { ", reverse: '127.0.0.1:0'" } else { "" };
        let mut text = format!("doors: {{ forward: '127.0.0.1:0', operator: '127.0.0.1:0'{reverse} }}\n{}", self.extra);
        if !self.limits.is_empty() {
            text += "limits:\n";
            self.limits.iter().for_each(|(name, value)| text += &format!("  {name}: {value}\n"));
        }
        text += "upstream:\n";
        if self.connect_to.iter().any(|(host, _)| host.ends_with(":443")) && self.has_roots() {
            text += &format!("  roots: '{}'\n", self.folder.path().join("roots.pem").display());
        }
        text += "  connect_to:\n";
        self.connect_to.iter().for_each(|(host, port)| text += &format!("    '{host}': '127.0.0.1:{port}'\n"));
        if self.connect_to.is_empty() {
            text += "    {}\n";
        }
        self.write("writ.yaml", &text);
    }

    /// Starts the gate and waits until both doors are open.
    pub(crate) fn start(self) -> Gate {
        self.start_with(&[])
    }

    /// As [`Plan::start`], with variables for this one run.
    pub(crate) fn start_with(self, variables: &[(&str, &str)]) -> Gate {
        self.configure();
        let mut process = self.spawn(variables);
        let doors = self.announced(&mut process);
        Gate::new(self, process, doors)
    }

    /// Starts a gate that must refuse to start, and returns what it said.
    pub(crate) fn refuses_to_start(&self) -> Printed {
        self.configure();
        let mut process = self.spawn(&[]);
        let ended = within(START, || process.has_ended());
        let status = ended.unwrap_or_else(|| panic!("the gate serves, though it must not:\n{}", self.log()));
        let read = |name| fs::read_to_string(self.folder.path().join(name)).unwrap();
        Printed { code: status.code().unwrap_or(-1), out: read("out"), err: read("err") }
    }

    /// Runs a command of the program on this home.
    pub(crate) fn writ(&self, arguments: &[&str]) -> Printed {
        self.run(arguments, &[])
    }

    /// What the gate has printed since it was last started.
    pub(crate) fn printed(&self) -> String {
        fs::read_to_string(self.folder.path().join("out")).unwrap_or_default()
    }

    /// What the gate has logged since it was last started.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("err")).unwrap_or_default()
    }

    pub(super) fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Printed {
        let output = self.command(&[], arguments, variables).output().unwrap();
        Printed {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn spawn(&self, variables: &[(&str, &str)]) -> Process {
        let file = |name| File::create(self.folder.path().join(name)).unwrap();
        let mut command = self.command(&self.prefix, &["up"], variables);
        Process(command.stdout(file("out")).stderr(file("err")).spawn().unwrap())
    }

    fn command(&self, prefix: &[String], arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let program = env!("CARGO_BIN_EXE_writ");
        let mut words = prefix.iter().map(String::as_str).chain([program]).chain(arguments.iter().copied());
        let mut command = Command::new(words.next().unwrap());
        command.args(words).env("WRIT_HOME", self.home()).env_remove("WRIT_TOKEN").stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.envs(variables.iter().copied());
        command
    }

    fn announced(&self, process: &mut Process) -> Doors {
        let found = within(START, || {
            let text = fs::read_to_string(self.folder.path().join("out")).unwrap();
            let door = |name: &str| {
                let line = text.lines().find(|line| line.contains(name))?;
                line.split("://").nth(1)?.trim().parse().ok()
            };
            let complete = text.contains("ends the gate");
            if !complete && process.has_ended().is_some() {
                return Some(None);
            }
            let reverse = door("reverse door");
            complete.then(|| Some(Doors { forward: door("forward door")?, operator: door("operator door")?, reverse }))
        });
        found.flatten().unwrap_or_else(|| panic!("the gate did not start:\n{}", self.log()))
    }

    fn has_roots(&self) -> bool {
        fs::metadata(self.folder.path().join("roots.pem")).is_ok_and(|found| found.len() > 0)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.home().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

// === impl Process ===

impl Process {
    pub(super) fn id(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    pub(super) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.has_ended().is_none() {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }
}

/// For a gate to open its doors, on a machine that is busy with other tests.
const START: Duration = Duration::from_secs(30);
