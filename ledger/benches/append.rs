//! What an append costs beside the least that a durable one can cost: a line appended to a file by one thread that
//! syncs for all who wait. Both in the same run, on the same disk, two entries of a live request in turn.
//!
//! `cargo bench -p ledger`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring program: it prints and fails by panic")]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
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
    /// Processor time of the whole process per append.
    cpu: Duration,
}

fn main() {
    println!("waiters   raw/s  p99 ms  cpu us   ledger/s  p99 ms  cpu us   ratio");
    for waiters in numbers_of_waiters() {
        let raw = raw(waiters);
        let ledger = ledger(waiters);
        let columns = |figures: &Figures| {
            let (p99, cpu) = (figures.p99.as_secs_f64() * 1e3, figures.cpu.as_secs_f64() * 1e6);
            format!("{:>8.0} {p99:>7.2} {cpu:>7.1}", figures.rate)
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
    let writer = thread::spawn(move || write_raw(file, &receiver));
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
    Ledger::open(Options { dir: dir.to_owned(), queue: QUEUE }).unwrap()
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
    let (start, cpu) = (Instant::now(), cpu_time());
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
    let (took, cpu) = (start.elapsed(), cpu_time() - cpu);
    samples.sort_unstable();
    let count = samples.len() as u32;
    let p99 = samples.get(samples.len() * 99 / 100).copied().unwrap_or_default();
    Figures { rate: f64::from(count) / took.as_secs_f64(), p99, cpu: cpu / count }
}

/// Processor time of this process so far.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // The 14th and 15th of all: ticks in user and in system mode, a hundredth of a second each.
    let ticks: u64 = fields.iter().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Submissions that may wait; more than there are waiters.
const QUEUE: usize = 1024;
/// Bytes of a raw line: an entry of the ledger is about as long.
const LINE: usize = 560;
const DURATION: Duration = Duration::from_secs(4);
