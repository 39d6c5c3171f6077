//! Namespaces of its own for one program (Linux): no network but a listener that leads to the gate, no process of anybody
//! else, and a file system without what is [`withheld`](crate::withheld).
//!
//! It takes three processes, each a fresh one with a single thread, as namespaces can only be made by such: one makes the
//! namespaces, the next is the first process in them, the third is the program. The listener is made inside and handed
//! out over a socket; from then on nothing here carries a byte.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, close, getegid, geteuid, setpgid};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketType,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities,
};
use serde::{Deserialize, Serialize};

use crate::withheld::Hidden;

/// What the inside is to look like.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Where the gate is found inside.
    pub door: SocketAddr,
    /// Where the listener is handed out.
    pub socket: PathBuf,
    /// What is not to be found inside.
    pub hidden: Hidden,
}

/// Which of the two helpers a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Makes the namespaces.
    Outer,
    /// Is the first process in them.
    First,
}

/// Runs one helper, and returns what its program ended with. What goes wrong before there is a listener is said over the
/// plan's socket. The plan comes in a variable, as another process of this user could change a file.
pub fn enter(stage: Stage, command: &[OsString]) -> u8 {
    let text = std::env::var(PLAN).map_err(anyhow::Error::from);
    let Ok(read) = text.and_then(|text| Ok(serde_json::from_str::<Plan>(&text)?)) else {
        return CANNOT;
    };
    let prepared = close_inherited().and_then(|()| match stage {
        Stage::First => first(&read).and_then(|()| program(command)),
        Stage::Outer => outer(&read).and_then(|()| again(command)),
    });
    match prepared {
        Ok(next) => run(next),
        Err(error) => {
            // The other end may be gone; then nobody waits for the reason either.
            drop(send(&read.socket, format!("{error:#}").as_bytes(), None));
            CANNOT
        }
    }
}

/// Runs a program in the place of this process, as far as anyone can tell, and returns its exit code.
fn run(command: Command) -> u8 {
    let name = command.get_program().to_string_lossy().into_owned();
    match start(command) {
        Ok(child) => watch(child).unwrap_or(CANNOT),
        Err(error) => {
            crate::cli::say_error(&format!("`{name}` cannot be run: {error}"));
            not_run(&error)
        }
    }
}

/// The exit code for a program that could not be run.
pub fn not_run(error: &io::Error) -> u8 {
    if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }
}

/// The next helper, with the same words.
fn again(command: &[OsString]) -> Result<Command> {
    let mut next = Command::new(std::env::current_exe()?);
    next.arg("confined").arg("--first").arg("--").args(command);
    Ok(next)
}

fn program(command: &[OsString]) -> Result<Command> {
    let (name, arguments) = command.split_first().context("there is no program to run")?;
    let mut program = Command::new(name);
    program.args(arguments).env_remove(PLAN);
    Ok(program)
}

/// Closes all but the standard streams: a folder or a socket that was open before the walls were there leads through
/// them. Comes before anything of this process is open.
fn close_inherited() -> Result<()> {
    let names = fs::read_dir("/proc/self/fd")?.map(|entry| Ok(entry?.file_name()));
    // The list is closed again before anything else is.
    for name in names.collect::<io::Result<Vec<_>>>()? {
        let number: i32 = name.to_string_lossy().parse().context("/proc/self/fd")?;
        match if number > 2 { close(number) } else { Ok(()) } {
            // That was the list.
            Ok(()) | Err(Errno::EBADF) => {}
            Err(error) => return Err(error).context("what was inherited cannot be closed"),
        }
    }
    Ok(())
}

/// Takes the listener that leads out, or the reason why there is none.
///
/// # Errors
/// That reason.
pub fn receive(stream: UnixStream) -> Result<TcpListener> {
    let mut text = [0_u8; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut text)];
    let received = rustix::net::recvmsg(&stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut handed: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            handed.extend(descriptors);
        }
    }
    match handed.pop() {
        Some(listener) => Ok(TcpListener::from(listener)),
        None => bail!("{}", String::from_utf8_lossy(text.get(..received.bytes).unwrap_or_default())),
    }
}

/// The exit code that a shell gives for how a program ended.
pub fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(CANNOT)
}

/// Makes the namespaces, as a user who owns them and nothing else, and hides what is to be hidden.
fn outer(plan: &Plan) -> Result<()> {
    let all = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC;
    own_namespaces(all)?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    mount_as("/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for folder in &plan.hidden.folders {
        hide(folder, mount(Some("tmpfs"), folder, Some("tmpfs"), flags, None::<&str>))?;
    }
    for file in &plan.hidden.files {
        hide(file, mount(Some("/dev/null"), file, None::<&str>, MsFlags::MS_BIND, None::<&str>))?;
    }
    keep_rights().context("the rights over the namespaces cannot be kept")
}

/// What is gone, or out of this user's reach, needs no hiding.
fn hide(what: &Path, mounted: nix::Result<()>) -> Result<()> {
    match mounted {
        Ok(()) | Err(Errno::ENOENT | Errno::EACCES) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("`{}` cannot be hidden", what.display())),
    }
}

/// Leaves the first process what it needs: a user who is not root loses every right by executing a program.
fn keep_rights() -> rustix::io::Result<()> {
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN;
    set_capabilities(None, CapabilitySets { inheritable: needed, ..capabilities(None)? })?;
    needed.iter().try_for_each(|each| configure_capability_in_ambient_set(each, true))
}

/// Gives up every right for good: root would get those of the bounding set back with the next program.
fn drop_rights() -> rustix::io::Result<()> {
    clear_ambient_capability_set()?;
    for bit in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // The kernel knows no more.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}

/// The first process: sees no other, and has no network but one listener. Then it gives up what made all this possible,
/// so that the program cannot undo it.
fn first(plan: &Plan) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_as("/proc", Some("proc"), flags, Some("proc"))?;
    raise_loopback().context("the loopback interface cannot be raised")?;
    let listener = TcpListener::bind(plan.door).with_context(|| format!("{} cannot be taken inside", plan.door))?;
    prctl::set_no_new_privs()?;
    own_namespaces(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    drop_rights().context("the rights over the namespaces cannot be given up")?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    send(&plan.socket, b"ready", Some(&listener)).context("nobody takes the listener")
}

/// Enters new namespaces as the same user, who has no other one in them. What the ones before hid stays locked.
fn own_namespaces(which: CloneFlags) -> Result<()> {
    let (user, group) = (geteuid(), getegid());
    unshare(which).context("this system gives no namespaces to a user; `sysctl user.max_user_namespaces` or a container's profile forbids it")?;
    fs::write("/proc/self/setgroups", "deny").context("setgroups")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1")).context("uid_map")?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1")).context("gid_map")
}

fn mount_as(at: impl AsRef<Path>, source: Option<&str>, flags: MsFlags, kind: Option<&str>) -> Result<()> {
    let at = at.as_ref();
    mount(source, at, kind, flags, None::<&str>).with_context(|| format!("`{}` cannot be mounted anew", at.display()))
}

/// The next helper, or the program itself.
fn start(mut command: Command) -> io::Result<Pid> {
    let pid = command.spawn()?.id();
    Ok(Pid::from_raw(i32::try_from(pid).unwrap_or_default()))
}

/// Waits for a child and passes signals on. What a terminal sends reaches the program by itself: the helpers leave its
/// group, so that everything that still comes here was meant to be passed.
fn watch(child: Pid) -> nix::Result<u8> {
    let mut signals = SigSet::empty();
    PASSED.iter().chain([&Signal::SIGCHLD]).for_each(|signal| signals.add(*signal));
    signals.thread_block()?;
    setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    loop {
        if let Some(code) = reap(child)? {
            return Ok(code);
        }
        let signal = signals.wait()?;
        if signal != Signal::SIGCHLD {
            // It may have ended this moment.
            let _gone = kill(child, signal);
        }
    }
}

/// Takes everyone who has ended: the first process inherits the orphans of all. The exit code of `child`, if it was it.
fn reap(child: Pid) -> nix::Result<Option<u8>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::Exited(who, code) if who == child => return Ok(Some(u8::try_from(code).unwrap_or(CANNOT))),
            WaitStatus::Signaled(who, signal, _) if who == child => {
                return Ok(Some(u8::try_from(128 + signal as i32).unwrap_or(CANNOT)));
            }
            WaitStatus::StillAlive => return Ok(None),
            WaitStatus::Continued(_)
            | WaitStatus::Exited(..)
            | WaitStatus::PtraceEvent(..)
            | WaitStatus::PtraceSyscall(_)
            | WaitStatus::Signaled(..)
            | WaitStatus::Stopped(..) => {}
        }
    }
}

/// Sends a text to whoever listens at `socket`, and the listener with it.
fn send(socket: &Path, text: &[u8], listener: Option<&TcpListener>) -> Result<()> {
    let stream = UnixStream::connect(socket)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = listener.map(AsFd::as_fd);
    if let Some(descriptor) = &descriptors {
        control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(descriptor)));
    }
    rustix::net::sendmsg(&stream, &[IoSlice::new(text)], &mut control, SendFlags::empty())?;
    Ok(())
}

/// Asks the kernel to raise the one interface a fresh network has (rtnetlink, RFC 3549 section 3.1.1): the message head,
/// then `struct ifinfomsg`, all in the byte order of this machine.
fn raise_loopback() -> Result<()> {
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    let mut message = Vec::from(32_u32.to_ne_bytes());
    message.extend(NEW_LINK.to_ne_bytes().into_iter().chain(REQUEST_AND_ACK.to_ne_bytes()));
    // Sequence number, and no port; then no family and no type.
    message.extend([1_u32, 0, 0].map(u32::to_ne_bytes).concat());
    message.extend([LOOPBACK, UP, UP].map(u32::to_ne_bytes).concat());
    rustix::net::send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0_u8; 1024];
    let (length, _) = rustix::net::recv(&socket, answer.as_mut_slice(), RecvFlags::empty())?;
    // `struct nlmsgerr` follows the head: an error number, 0 for none.
    match answer.get(..length).and_then(|answer| answer.get(16..20)) {
        Some([0, 0, 0, 0]) => Ok(()),
        Some(_) | None => bail!("the kernel refuses"),
    }
}

/// `RTM_NEWLINK`.
const NEW_LINK: u16 = 16;

/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST_AND_ACK: u16 = 5;

/// Index of the loopback interface.
const LOOPBACK: u32 = 1;

/// `IFF_UP`, as the flag and as the mask of what changes.
const UP: u32 = 1;

/// The variable that the helpers find their plan in.
pub const PLAN: &str = "WRIT_PLAN";

/// What is passed on to the program.
pub const PASSED: &[Signal] =
    &[Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];

/// Exit codes as `env` has them: the program could not be run at all, was not executable, was not found.
pub const CANNOT: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
