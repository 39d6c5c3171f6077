//! What an append costs beside the least that a durable one can cost: a line appended to a file by one thread that
//! syncs for all who wait. Both in the same run, on the same disk, two entries of a live request in turn.
//!
//! `cargo bench -p ledger`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring program: it prints and fails by panic")]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ledger::{Draft, EventType, Ledger, Options};

/// What the raw writer receives: a line, and whom to tell.
type Append = (Vec<u8>, SyncSender<()>);

/// What one run amounts to.
struct Figures {
    /// Appends acknowledged in a second.
    rate: f64,
    /// 99 of 100 appends took at most this long.
    p99: Duration,
    /// Processor time of the whole process per append, that of the waiters included.
    cpu: Duration,
    /// Processor time of the threads that write and index, per append.
    own: Duration,
}

fn main() {
    println!("waiters   raw/s  p99 ms  cpu us  own us   ledger/s  p99 ms  cpu us  own us   ratio");
    for waiters in numbers_of_waiters() {
        let raw = raw(waiters);
        let ledger = ledger(waiters);
        let columns = |figures: &Figures| {
            let [p99, cpu, own] = [figures.p99 * 1000, figures.cpu, figures.own].map(|time| time.as_secs_f64());
            format!("{:>8.0} {p99:>7.2} {:>7.1} {:>7.1}", figures.rate, cpu * 1e6, own * 1e6)
        };
        println!("{waiters:>7} {}   {}   {:>5.2}", columns(&raw), columns(&ledger), ledger.rate / raw.rate);
    }
}

/// Those of the command line (`cargo bench -p ledger -- 64`), or the usual ones.
fn numbers_of_waiters() -> Vec<usize> {
    let given: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if given.is_empty() { vec![1, 16, 64, 256] } else { given }
}

/// A file, one writer, group commit.
fn raw(waiters: usize) -> Figures {
    let home = tempfile::tempdir().unwrap();
    let file = OpenOptions::new().append(true).create(true).open(home.path().join("raw")).unwrap();
    let (queue, receiver) = sync_channel::<Append>(QUEUE);
    let writer = thread::Builder::new().name("raw-writer".to_owned());
    let writer = writer.spawn(move || write_raw(file, &receiver)).unwrap();
    let figures = measure(waiters, |waiter| {
        let queue = queue.clone();
        move |turn| {
            let (sender, receiver) = sync_channel(1);
            let mut line = format!("{waiter}-{turn}").into_bytes();
            line.resize(LINE, b'.');
            queue.send((line, sender)).unwrap();
            receiver.recv().unwrap();
        }
    });
    drop(queue);
    writer.join().unwrap();
    figures
}

fn write_raw(mut file: File, queue: &Receiver<Append>) {
    while let Ok(first) = queue.recv() {
        let group: Vec<Append> = [first].into_iter().chain(queue.try_iter().take(QUEUE)).collect();
        let bytes: Vec<u8> = group.iter().flat_map(|(line, _)| line.iter().copied()).collect();
        file.write_all(&bytes).unwrap();
        file.sync_data().unwrap();
        group.iter().for_each(|(_, waiter)| waiter.send(()).unwrap());
    }
}

fn ledger(waiters: usize) -> Figures {
    let home = tempfile::tempdir().unwrap();
    let ledger = open(home.path());
    let figures = measure(waiters, |waiter| {
        let ledger = ledger.clone();
        move |turn| drop(ledger.append_blocking(vec![entry(waiter, turn)]).unwrap())
    });
    ledger.close().unwrap();
    figures
}

fn open(dir: &Path) -> Ledger {
    Ledger::create(dir, "example.com/bench").unwrap();
    Ledger::open(Options { dir: dir.to_owned(), queue: QUEUE, reserve_bytes: 0 }).unwrap()
}

/// The entries of a live request, in turn: the decision, then the outcome.
fn entry(waiter: usize, turn: u64) -> Draft {
    let request = turn / 2;
    // Ids are random in use; a multiplication scatters these just as well.
    let id = (waiter as u64 * 1_000_000 + request).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let draft = |kind| {
        let draft =
            Draft::new(kind).correlation(format!("corr_{id:016x}")).agent("crawler").run(format!("run-{waiter}"));
        draft.action("GET /v1/customers/search").destination("crm.customers").with("method", "GET")
    };
    if turn.is_multiple_of(2) {
        let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        draft(EventType::DecisionAllowed).with("rule", "reads").with("policy_hash", hash)
    } else {
        draft(EventType::ActionExecuted).with("status", 200).with("bytes", 5120).with("took_ms", 12)
    }
}

/// Runs `waiters` threads that append one thing after the other for a while.
fn measure<A: FnMut(u64) + Send>(waiters: usize, appender: impl Fn(usize) -> A) -> Figures {
    let (start, cpu, own) = (Instant::now(), cpu_time(), own_time());
    let run = |mut append: A| {
        let mut samples = Vec::new();
        for turn in 0.. {
            let before = start.elapsed();
            if before > DURATION {
                break;
            }
            append(turn);
            samples.push(start.elapsed().saturating_sub(before));
        }
        samples
    };
    let mut samples: Vec<Duration> = thread::scope(|scope| {
        let threads: Vec<_> = (0..waiters).map(appender).map(|append| scope.spawn(|| run(append))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let took = start.elapsed();
    // The index follows within a second.
    thread::sleep(Duration::from_millis(1500));
    let (cpu, own) = (cpu_time() - cpu, own_time() - own);
    samples.sort_unstable();
    let count = samples.len() as u32;
    let p99 = samples.get(samples.len() * 99 / 100).copied().unwrap_or_default();
    Figures { rate: f64::from(count) / took.as_secs_f64(), p99, cpu: cpu / count, own: own / count }
}

/// Processor time of this process so far.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // The 14th and 15th of all: ticks in user and in system mode, a hundredth of a second each.
    let ticks: u64 = fields.iter().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Processor time so far of the threads that write and index.
fn own_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let is_own = |task: &PathBuf| {
        let name = std::fs::read_to_string(task.join("comm")).unwrap();
        ["raw-writer", "ledger-", "sled-io-"].iter().any(|own| name.starts_with(own))
    };
    let nanos = tasks.filter(is_own).map(|task| {
        let schedstat = std::fs::read_to_string(task.join("schedstat")).unwrap();
        schedstat.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(nanos.sum())
}

/// Submissions that may wait; more than there are waiters.
const QUEUE: usize = 1024;
/// Bytes of a raw line: an entry of the ledger is about as long.
const LINE: usize = 560;
const DURATION: Duration = Duration::from_secs(4);
