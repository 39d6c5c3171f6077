//! Runs a program that prints a secret, and trusts it with nothing else.
//!
//! It gets an environment of its own, no standard input, no terminal (a session of its own), and the root folder as its
//! working directory. When it has ended, or its time is up, whatever it started is killed with it. What it writes to
//! standard error is never read.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use bytes::BufMut;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use process_wrap::tokio::{ChildWrapper, CommandWrap, ProcessSession};
use tokio::io::AsyncReadExt;
use tokio::process::ChildStdout;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use crate::{Fault, Secret, without_line_end};

/// Runs programs, a few at once.
#[derive(Debug)]
pub(crate) struct Programs {
    slots: Arc<Semaphore>,
    max_bytes: usize,
}

/// What to run.
pub(crate) struct Program<'a> {
    pub(crate) path: &'a Path,
    pub(crate) arguments: Vec<&'a OsStr>,
    /// The one variable in its environment.
    pub(crate) variable: Option<(&'static str, &'a Secret)>,
}

/// A program under way. Dropping it kills it and whatever it started.
struct Running {
    session: Session,
    child: Box<dyn ChildWrapper>,
    stdout: ChildStdout,
    /// Given back when it is gone.
    _slot: OwnedSemaphorePermit,
}

/// How its output ended.
enum End {
    Closed,
    Full,
}

/// The processes of one session, killed when this is dropped.
struct Session(Pid);

// === impl Programs ===

impl Programs {
    pub(crate) fn new(max_bytes: usize) -> Programs {
        Programs { slots: Arc::new(Semaphore::new(AT_ONCE)), max_bytes }
    }

    /// What the program prints until it ends with success, without one line break at the end.
    pub(crate) async fn output(&self, program: Program<'_>) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let (path, name) = (program.path.to_owned(), program.path.display().to_string());
        let not_started = |why: String| Fault::NotStarted { program: name.clone(), why };
        let slot = self.slots.clone().acquire_owned().await.map_err(|closed| not_started(closed.to_string()))?;
        let command = program.command();
        // Looking at files and forking may take their time, which the other requests on this thread do not have.
        let started = tokio::task::spawn_blocking(move || start(&path, command, slot)).await;
        let mut running = started.map_err(|lost| not_started(lost.to_string()))??;
        let mut value = Zeroizing::new(Vec::with_capacity(self.max_bytes.saturating_add(LINE_BREAK_AND_MORE)));
        let status = running.finish(&mut value).await.map_err(|error| Fault::Io(error.to_string()))?;
        match status {
            None => Err(Fault::TooLong(self.max_bytes)),
            Some(status) if status.success() => {
                without_line_end(&mut value);
                Ok(value)
            }
            Some(status) => Err(Fault::Command { program: name, status: status.to_string() }),
        }
    }
}

// === impl Program ===

impl Program<'_> {
    fn command(&self) -> CommandWrap {
        let mut command = CommandWrap::with_new(self.path, |command| {
            command.args(&self.arguments).env_clear().current_dir("/").kill_on_drop(true);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
            if let Some((name, value)) = self.variable {
                // The copies in the command and in the program's environment are not under our control.
                value.lend(|value| command.env(name, OsStr::from_bytes(value)));
            }
        });
        command.wrap(ProcessSession);
        command
    }
}

// === impl Running ===

impl Running {
    /// Reads what it prints into the room that `value` has, until it has ended; nothing when the room is not enough.
    async fn finish(&mut self, value: &mut Zeroizing<Vec<u8>>) -> io::Result<Option<ExitStatus>> {
        let status = tokio::select! {
            status = self.child.wait() => status?,
            end = fill(&mut self.stdout, value) => match end? {
                End::Full => return Ok(None),
                End::Closed => self.child.wait().await?,
            },
        };
        // Something that it started may still hold its standard output open: what it printed itself is all there now.
        self.session.end();
        drain(&self.stdout, value)?;
        Ok((value.len() < value.capacity()).then_some(status))
    }
}

// === impl Session ===

impl Session {
    /// Kills what is left of it. Its number cannot be given to anybody else as long as one process of it is there, nor
    /// at once after the last has ended: numbers are given out in a circle.
    fn end(&self) {
        // It may be gone already, which is what is wanted.
        let _gone = killpg(self.0, Signal::SIGKILL);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts it in a session of its own, if nobody else could have put it there.
fn start(path: &Path, mut command: CommandWrap, slot: OwnedSemaphorePermit) -> Result<Running, Fault> {
    let not_started =
        |error: io::Error| Fault::NotStarted { program: path.display().to_string(), why: error.to_string() };
    let resolved = fs::canonicalize(path).map_err(not_started)?;
    for part in path.ancestors().chain(resolved.ancestors()) {
        if !is_out_of_reach(&fs::metadata(part).map_err(not_started)?) {
            return Err(Fault::Unsafe(part.display().to_string()));
        }
    }
    let mut child = command.spawn().map_err(not_started)?.into_inner();
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    match (id, child.stdout().take()) {
        (Some(id), Some(stdout)) => Ok(Running { session: Session(Pid::from_raw(id)), child, stdout, _slot: slot }),
        _ => Err(not_started(io::Error::other("it was gone at once"))),
    }
}

/// Whether only root and this user can change a file, or what stands in a folder.
fn is_out_of_reach(found: &Metadata) -> bool {
    let owner = found.uid() == 0 || found.uid() == nix::unistd::geteuid().as_raw();
    let others_write = found.mode() & 0o022 != 0;
    let sticky = found.is_dir() && found.mode() & 0o1000 != 0;
    owner && (!others_write || sticky)
}

/// Reads until there is no more, or no more room.
async fn fill(stdout: &mut ChildStdout, value: &mut Vec<u8>) -> io::Result<End> {
    while value.len() < value.capacity() {
        let room = value.capacity() - value.len();
        if stdout.read_buf(&mut (&mut *value).limit(room)).await? == 0 {
            return Ok(End::Closed);
        }
    }
    Ok(End::Full)
}

/// Takes what is there already, and waits for nothing.
fn drain(stdout: &ChildStdout, value: &mut Vec<u8>) -> io::Result<()> {
    let mut had = value.len();
    value.resize(value.capacity(), 0);
    let result = loop {
        let Some(room) = value.get_mut(had..).filter(|room| !room.is_empty()) else { break Ok(()) };
        match nix::unistd::read(stdout, room) {
            Ok(0) | Err(Errno::EAGAIN) => break Ok(()),
            Ok(more) => had += more,
            Err(error) => break Err(error.into()),
        }
    };
    value.truncate(had);
    result
}

/// Programs that may run at once.
const AT_ONCE: usize = 4;

/// Room for a line break, and for one byte that shows that there is more than there may be.
const LINE_BREAK_AND_MORE: usize = 3;
