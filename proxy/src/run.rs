//! `writ run`: one program under the gate, with a token for this run, and on Linux with no way around the gate.
//!
//! Its exit code, its signals, its input and its terminal are the program's. Nothing here decides on a request: what the
//! program sends goes to the forward door of a gate that runs already, or of one started for it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http::Method;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgrp, tcgetpgrp};
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::Config;
use crate::confine::{self, CANNOT, PASSED, PLAN, Plan};
use crate::door::Door;
use crate::environment::{self, Trusted};
use crate::home::Home;
use crate::rulebook::Rulebook;
use crate::withheld::Withheld;
use crate::{cli, id, setup};

/// What to run, and how.
#[derive(Debug)]
pub struct Wish {
    /// As which agent.
    pub agent: String,
    /// Whether it gets namespaces of its own.
    pub isolation: Isolation,
    /// For how long its token is good.
    pub time: Duration,
    /// The program and its arguments.
    pub command: Vec<OsString>,
}

/// Whether a program gets namespaces of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Isolation {
    /// Where this system gives them.
    Auto,
    /// No.
    Off,
    /// Or it is not run.
    Required,
}

/// A gate that answers, and its process if it was started for this run.
struct Used {
    config: Config,
    door: Door,
    own: Option<Child>,
}

/// A folder for one run, removed with it.
struct Folder(PathBuf);

// === impl Folder ===

impl Folder {
    fn make() -> Result<Folder> {
        let path = std::env::temp_dir().join(id::fresh(FOLDERS)?);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot create `{}`", path.display()))?;
        Ok(Folder(path))
    }

    /// The folders of other runs.
    fn others(&self) -> Vec<PathBuf> {
        let all = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
        let folders = all.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let named = folders.filter(|entry| entry.file_name().to_string_lossy().starts_with(FOLDERS));
        named.map(|entry| entry.path()).filter(|path| *path != self.0).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            cli::say_error(&format!("`{}` could not be removed: {error}", self.0.display()));
        }
    }
}

/// Runs a program to its end and returns its exit code.
///
/// # Errors
/// What stands in the way before it is started.
pub async fn run(home: Home, wish: Wish) -> Result<u8> {
    let folder = Folder::make()?;
    let mut used = gate(&home, &folder.0).await?;
    let ended = govern(&used, &wish, &folder).await;
    if let Some(own) = used.own.as_mut() {
        end(own).await;
    }
    ended
}

async fn govern(used: &Used, wish: &Wish, folder: &Folder) -> Result<u8> {
    let pass = format!("/v1/agents/{}/pass", wish.agent);
    let issued = used.door.ask(Method::POST, &pass, Some(&json!({"seconds": wish.time.as_secs()}))).await?;
    let token = issued.get("token").and_then(|token| token.as_str()).context("the gate gave no token")?.to_owned();
    let ended = start(used, wish, &token, folder).await;
    if let Err(error) = used.door.ask(Method::POST, &format!("{pass}/end"), Some(&json!({"token": token}))).await {
        cli::say_error(&format!("the token of this run could not be ended, and ends by itself: {error:#}"));
    }
    ended
}

/// Starts the program where it belongs, and stays until it has ended.
async fn start(used: &Used, wish: &Wish, token: &str, folder: &Folder) -> Result<u8> {
    let home = &used.config.home;
    let signals = catch()?;
    let withheld = Withheld::of(&used.config)?.giving(&Rulebook::load(&used.config)?.credentials);
    let bundle =
        fs::read_to_string(home.bundle()).with_context(|| format!("cannot read `{}`", home.bundle().display()))?;
    let trusted = Trusted::at(&folder.0);
    setup::write_trusted(&trusted, &bundle)?;
    let gate = reachable(used.config.forward);
    let environment = |door: SocketAddr| {
        let mut all = withheld.environment(std::env::vars());
        let own = environment::variables(&wish.agent, token, &door.to_string(), &trusted);
        all.retain(|(name, _)| !own.iter().any(|(set, _)| set == name));
        all.extend(own.into_iter().map(|(name, value)| (name.to_owned(), value)));
        all
    };
    if wish.isolation != Isolation::Off {
        let inside = SocketAddr::from((Ipv4Addr::LOCALHOST, gate.port()));
        let hidden = withheld.hidden.clone().and(folder.others());
        let plan = Plan { door: inside, socket: folder.0.join("door"), hidden };
        match confined(&plan, wish, environment(inside)).await {
            Ok((child, listener)) => {
                tokio::spawn(lead_out(listener, gate));
                return attend(child, signals).await;
            }
            Err(error) if wish.isolation == Isolation::Required => return Err(error.context("not run")),
            Err(error) => warn(&format!("{error:#}")),
        }
    } else {
        warn("as `--isolation off` has it");
    }
    let mut command = words(&wish.command)?;
    match command.env_clear().envs(environment(gate)).spawn() {
        Ok(child) => attend(child, signals).await,
        Err(error) => {
            cli::say_error(&format!("`{}` cannot be run: {error}", command.as_std().get_program().to_string_lossy()));
            Ok(confine::not_run(&error))
        }
    }
}

/// A gate that runs already, or one of its own.
async fn gate(home: &Home, folder: &Path) -> Result<Used> {
    if let Some(used) = running(home).await? {
        return Ok(used);
    }
    let log = folder.join("gate.log");
    let own = std::env::current_exe()?;
    let mut child = Command::new(own)
        .args(home.options())
        .arg("up")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log)?)
        // A terminal's signals are for the program; the gate outlives it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let end = Instant::now() + START;
    while Instant::now() < end {
        if child.try_wait()?.is_some() {
            bail!("no gate could be started:\n{}", fs::read_to_string(&log).unwrap_or_default());
        }
        if let Ok(Some(used)) = running(home).await {
            return Ok(Used { own: Some(child), ..used });
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    bail!("the gate did not open its doors within {} s", START.as_secs())
}

/// The gate of this home, if one answers.
async fn running(home: &Home) -> Result<Option<Used>> {
    if !home.data().exists() {
        return Ok(None);
    }
    let config = Config::load(home.clone())?;
    if TcpStream::connect(config.operator).await.is_err() {
        return Ok(None);
    }
    let door = Door::of(&config)?;
    door.ask(Method::GET, "/v1/head", None).await.context("a gate answers, but not to this operator")?;
    Ok(Some(Used { config, door, own: None }))
}

async fn end(own: &mut Child) {
    if let Some(pid) = own.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended already.
        let _gone = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    if tokio::time::timeout(STOP, own.wait()).await.is_err() {
        cli::say_error("the gate of this run did not end in time and is ended now");
    }
}

/// Starts the program in namespaces of its own; the listener it reaches the gate by comes out.
async fn confined(plan: &Plan, wish: &Wish, environment: Vec<(String, String)>) -> Result<(Child, TcpListener)> {
    let here = std::env::current_dir().and_then(|dir| dir.canonicalize()).context("there is no working directory")?;
    if plan.hidden.covers(&here) {
        bail!("`{}` is hidden from the program; run it from another folder", here.display());
    }
    let handed = UnixListener::bind(&plan.socket)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("confined").arg("--").args(&wish.command).env_clear().envs(environment);
    command.env(PLAN, serde_json::to_string(plan)?);
    let mut child = command.spawn()?;
    let (stream, _) = tokio::select! {
        accepted = handed.accept() => accepted?,
        _ = child.wait() => bail!("the helper that makes namespaces ended"),
    };
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(HANDED))?;
    let received = confine::receive(stream);
    // What it leads to is inside by now.
    fs::remove_file(&plan.socket)?;
    match received {
        Ok(listener) => {
            listener.set_nonblocking(true)?;
            Ok((child, TcpListener::from_std(listener)?))
        }
        Err(error) => {
            child.wait().await?;
            Err(error)
        }
    }
}

/// Connects what is accepted inside with the gate outside.
async fn lead_out(listener: TcpListener, gate: SocketAddr) {
    while let Ok((mut inside, _)) = listener.accept().await {
        tokio::spawn(async move {
            let Ok(mut outside) = TcpStream::connect(gate).await else { return };
            // Both ends are told when either breaks off.
            drop(copy_bidirectional(&mut inside, &mut outside).await);
        });
    }
}

/// Signals from now on. They are caught before the program is there: none may end the run in its place.
fn catch() -> Result<mpsc::UnboundedReceiver<Signal>> {
    let (caught, signals) = mpsc::unbounded_channel();
    for which in PASSED {
        let mut stream = signal(SignalKind::from_raw(*which as i32))?;
        let caught = caught.clone();
        tokio::spawn(async move { while stream.recv().await.is_some() && caught.send(*which).is_ok() {} });
    }
    Ok(signals)
}

/// Passes signals on until the program has ended.
async fn attend(mut child: Child, mut signals: mpsc::UnboundedReceiver<Signal>) -> Result<u8> {
    let target = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    loop {
        tokio::select! {
            ended = child.wait() => return Ok(ended.map_or(CANNOT, confine::code)),
            Some(signal) = signals.recv() => {
                if let Some(target) = target.filter(|_| !is_from_terminal(signal)) {
                    // It may have ended this moment.
                    let _gone = kill(target, signal);
                }
            }
        }
    }
}

/// What a terminal sends, it sends to the program as well.
fn is_from_terminal(signal: Signal) -> bool {
    let typed = [Signal::SIGINT, Signal::SIGQUIT].contains(&signal);
    typed && File::open("/dev/tty").is_ok_and(|terminal| tcgetpgrp(terminal) == Ok(getpgrp()))
}

fn words(command: &[OsString]) -> Result<Command> {
    let (name, arguments) = command.split_first().context("there is no program to run")?;
    let mut command = Command::new(name);
    command.args(arguments);
    Ok(command)
}

/// Where a door is reached from this machine.
pub fn reachable(door: SocketAddr) -> SocketAddr {
    if door.ip().is_unspecified() { SocketAddr::from((Ipv4Addr::LOCALHOST, door.port())) } else { door }
}

fn warn(why: &str) {
    cli::say_error(&format!("NOT ISOLATED ({why})"));
    cli::say_error(
        "this program can go around the gate, and read what this user can read: no policy or approval binds it",
    );
}

/// How the folders of runs are called.
const FOLDERS: &str = "writ-run-";

/// For a gate to open its doors.
const START: Duration = Duration::from_secs(30);

/// For a gate to finish what is under way, and more than it takes for that itself.
const STOP: Duration = Duration::from_secs(25);

/// For a message that is on its way.
const HANDED: Duration = Duration::from_secs(5);

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
