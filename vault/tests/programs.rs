//! Programs that print a secret: what they are given, what is taken from them, and that nothing of them stays behind.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vault::{Fault, Limits, Place, Providers, Vault};

/// A folder with scripts in it.
struct Scripts(TempDir);

impl Scripts {
    fn new() -> Scripts {
        Scripts(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a program there. Another process writes it: a fork of another test that inherited a file open for writing
    /// would make it busy.
    fn add(&self, name: &str, script: &str) -> PathBuf {
        let (text, program) = (self.path("text"), self.path(name));
        fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        let installed = Command::new("install").args(["-m", "700"]).args([&text, &program]).status().unwrap();
        assert!(installed.success());
        program
    }

    /// What a script prints, as a secret.
    async fn printed(&self, script: &str, limits: Limits) -> Result<String, Fault> {
        let program = self.add("program", script);
        fetched(&Vault::new(limits), &place(&format!("exec://{}", program.display()))).await
    }
}

fn place(reference: &str) -> Place {
    Providers::default().place(reference.parse().unwrap(), None).unwrap()
}

async fn fetched(vault: &Vault, place: &Place) -> Result<String, Fault> {
    let fetched = vault.fetch(place).await.map_err(|error| {
        let all = format!("{error} {error:?}");
        assert!(!all.contains("CANARY"), "{all}");
        error.fault
    })?;
    Ok(fetched.secret.lend(|secret| String::from_utf8(secret.to_vec()).unwrap()))
}

/// Whether a process is there and not yet dead.
fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// Waits for processes to be gone; they are named, a line each, in a file.
fn assert_gone(pids: &Path) {
    let pids = fs::read_to_string(pids).unwrap();
    assert!(!pids.is_empty());
    let end = Instant::now() + Duration::from_secs(5);
    while pids.lines().any(lives) {
        assert!(Instant::now() < end, "still there: {pids}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn brief() -> Limits {
    Limits { deadline: Duration::from_millis(500), ..Limits::default() }
}

#[tokio::test]
async fn what_it_prints_is_the_secret_without_one_line_break() {
    let scripts = Scripts::new();
    let longest = "x".repeat(65_536);
    for (script, expected) in [
        ("echo abc", "abc"),
        ("printf abc", "abc"),
        (r"printf 'a b \r\n'", "a b "),
        ("echo noise >&2; echo abc", "abc"),
        ("head -c 65536 /dev/zero | tr '\\0' x; echo", &longest),
    ] {
        assert_eq!(scripts.printed(script, Limits::default()).await.as_deref(), Ok(expected), "{script}");
    }
}

#[tokio::test]
async fn arguments_arrive_as_they_are_written() {
    let scripts = Scripts::new();
    let program = scripts.add("program", r#"printf '%s|' "$@""#);
    let place = place(&format!("exec://{} $HOME; *", program.display()));
    assert_eq!(fetched(&Vault::new(Limits::default()), &place).await.as_deref(), Ok("$HOME;|*|"));
}

#[tokio::test]
async fn n17_it_gets_no_environment_no_input_and_no_terminal() {
    let vault = Vault::new(Limits::default());
    assert_eq!(fetched(&vault, &place("exec:///usr/bin/env")).await, Err(Fault::Empty));
    let scripts = Scripts::new();
    let script = "echo $$ $(cut -d' ' -f6,7 /proc/$$/stat) $(readlink /proc/$$/fd/0 /proc/$$/fd/2 /proc/$$/cwd)";
    let printed = scripts.printed(script, Limits::default()).await.unwrap();
    let words: Vec<&str> = printed.split(' ').collect();
    assert_eq!(words[0], words[1], "it leads a session of its own");
    assert_eq!(words[2..], ["0", "/dev/null", "/dev/null", "/"]);
}

#[tokio::test]
async fn n17_what_cannot_be_a_secret_is_refused() {
    let scripts = Scripts::new();
    let cases = [
        ("exit 0", Fault::Empty),
        ("echo", Fault::Empty),
        (r"printf '\033[1mCANARY\033[0m\n'", Fault::Byte),
        (r"printf 'warning: update\nCANARY\n'", Fault::Byte),
        ("yes CANARY", Fault::TooLong(65_536)),
        ("head -c 65537 /dev/zero | tr '\\0' x", Fault::TooLong(65_536)),
    ];
    for (script, expected) in cases {
        assert_eq!(scripts.printed(script, Limits::default()).await, Err(expected), "{script}");
    }
    for (script, expected) in [("echo CANARY >&2; echo CANARY; exit 3", "exit status: 3"), ("kill -9 $$", "signal: 9")]
    {
        let fault = scripts.printed(script, Limits::default()).await.unwrap_err();
        assert!(matches!(&fault, Fault::Command { status, .. } if status.starts_with(expected)), "{fault:?}");
    }
}

#[tokio::test]
async fn n17_a_program_that_hangs_is_killed_with_all_it_started() {
    let scripts = Scripts::new();
    let pids = scripts.path("pids");
    let script = format!("sleep 1000 & echo $! > {0}; echo $$ >> {0}; read answer < /dev/tty; wait", pids.display());
    let started = Instant::now();
    let fault = scripts.printed(&script, brief()).await.unwrap_err();
    assert_eq!(fault, Fault::Deadline(Duration::from_millis(500)));
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_gone(&pids);
}

#[tokio::test]
async fn what_it_leaves_behind_is_killed_and_not_waited_for() {
    let scripts = Scripts::new();
    let pids = scripts.path("pids");
    let script = format!("sleep 1000 & echo $! > {}; echo abc", pids.display());
    assert_eq!(scripts.printed(&script, Limits::default()).await.as_deref(), Ok("abc"));
    assert_gone(&pids);
    // Out of reach in a session of its own, and with the output still open: what was printed counts all the same.
    assert_eq!(scripts.printed("setsid sleep 5 & echo abc", brief()).await.as_deref(), Ok("abc"));
}

#[tokio::test]
async fn n18_a_program_that_others_could_replace_is_not_run() {
    let scripts = Scripts::new();
    let program = scripts.add("program", "echo CANARY");
    let vault = Vault::new(Limits::default());
    let chmod = |mode: &str, path: &Path| {
        assert!(Command::new("chmod").arg(mode).arg(path).status().unwrap().success());
    };
    let at = |path: &Path| place(&format!("exec://{}", path.display()));
    for mode in ["g+w", "o+w"] {
        chmod(mode, &program);
        assert_eq!(fetched(&vault, &at(&program)).await, Err(Fault::Unsafe(program.display().to_string())));
        chmod("go-w", &program);
    }
    chmod("o+w", scripts.0.path());
    assert_eq!(fetched(&vault, &at(&program)).await, Err(Fault::Unsafe(scripts.0.path().display().to_string())));
    chmod("o-w", scripts.0.path());
    chmod("a-x", &program);
    for path in [&program, &scripts.path("missing")] {
        let fault = fetched(&vault, &at(path)).await.unwrap_err();
        assert!(matches!(fault, Fault::NotStarted { .. }), "{fault:?}");
    }
}

#[tokio::test]
async fn at_most_four_run_at_once() {
    let scripts = Scripts::new();
    let (now, log) = (scripts.path("now"), scripts.path("log"));
    fs::create_dir(&now).unwrap();
    let (now, log) = (now.display(), log.display());
    let script = format!("mkdir {now}/$$; ls {now} | wc -l >> {log}; sleep 0.2; rmdir {now}/$$; echo abc");
    let program = scripts.add("program", &script);
    let vault = std::sync::Arc::new(Vault::new(Limits::default()));
    let fetches: Vec<_> = (0..10)
        .map(|each| {
            let (vault, place) = (vault.clone(), place(&format!("exec://{} {each}", program.display())));
            tokio::spawn(async move { fetched(&vault, &place).await })
        })
        .collect();
    for fetch in fetches {
        assert_eq!(fetch.await.unwrap().as_deref(), Ok("abc"));
    }
    let most = fs::read_to_string(scripts.path("log")).unwrap();
    assert_eq!(most.lines().map(|line| line.trim().parse::<u32>().unwrap()).max(), Some(4));
}
