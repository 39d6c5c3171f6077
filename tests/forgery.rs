//! What only one crate may make cannot be made, copied or used twice by another: each file under `forge/` tries, and
//! must fail to compile for exactly the reason that its first line names.
//!
//! A file lies in the folder of the one crate it attacks. `control.rs` in each folder compiles: so a failure beside it
//! is due to the forgery, and not to a crate that could not be found.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One attempt.
struct Attempt {
    file: PathBuf,
    /// The crate it attacks.
    victim: String,
    /// What every error must say; none for a control.
    error: Option<String>,
}

#[test]
fn what_one_crate_owns_no_other_can_forge() {
    let attempts = attempts();
    for victim in CRATES {
        let of_it = || attempts.iter().filter(|attempt| attempt.victim == victim);
        assert_eq!(of_it().filter(|attempt| attempt.error.is_none()).count(), 1, "one control for {victim}");
        assert!(of_it().count() > 1, "nothing is tried on {victim}");
    }
    let faults: Vec<String> = attempts.iter().filter_map(|attempt| attempt.fault(&attempt.compile())).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

// === impl Attempt ===

impl Attempt {
    fn read(file: &Path) -> Attempt {
        let text = fs::read_to_string(file).unwrap();
        let first = text.lines().next().unwrap_or_default();
        let error = match first.strip_prefix("//@ ") {
            Some("compiles") => None,
            Some(other) => {
                Some(other.strip_prefix("error: ").unwrap_or_else(|| panic!("{file:?}: {first}")).to_owned())
            }
            None => panic!("{file:?} does not say what is expected of it"),
        };
        let victim = file.parent().and_then(Path::file_name).unwrap().to_string_lossy().into_owned();
        Attempt { file: file.to_owned(), victim, error }
    }

    /// The heads of the compiler's errors.
    fn compile(&self) -> Vec<String> {
        let out = tempfile::tempdir().unwrap();
        let library = newest_library(&self.victim);
        let output = Command::new("rustc")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args([
                "--edition",
                "2024",
                "--crate-type",
                "lib",
                "--emit",
                "metadata",
                "--color",
                "never",
                "--cap-lints",
                "allow",
            ])
            .arg("--out-dir")
            .arg(out.path())
            .arg("-L")
            .arg(format!("dependency={}", dependencies().display()))
            .arg("--extern")
            .arg(format!("{}={}", self.victim, library.display()))
            .arg(&self.file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let heads = said.lines().filter(|line| line.starts_with("error") && !line.starts_with("error: aborting"));
        let heads: Vec<String> = heads.map(str::to_owned).collect();
        assert_eq!(output.status.success(), heads.is_empty(), "{said}");
        heads
    }

    /// What is wrong with the compiler's answer.
    fn fault(&self, heads: &[String]) -> Option<String> {
        let as_expected = match &self.error {
            None => heads.is_empty(),
            Some(error) => !heads.is_empty() && heads.iter().all(|head| head.contains(error.as_str())),
        };
        (!as_expected)
            .then(|| format!("{}: expected {:?}, the compiler said {heads:#?}", self.file.display(), self.error))
    }
}

fn attempts() -> Vec<Attempt> {
    let forge = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/forge");
    let files = |dir: PathBuf| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = files(forge).flat_map(files).collect();
    cases.sort();
    cases.iter().map(|file| Attempt::read(file)).collect()
}

/// Where the libraries lie that this test was built with.
fn dependencies() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

/// The library of a crate, as last built. Those it depends on itself the compiler finds by their hashes.
fn newest_library(name: &str) -> PathBuf {
    let is_it = |path: &PathBuf| {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        file.strip_suffix(".rlib")
            .and_then(|file| file.rsplit_once('-'))
            .is_some_and(|(stem, _)| stem == format!("lib{name}"))
    };
    let found = fs::read_dir(dependencies()).unwrap().map(|entry| entry.unwrap().path()).filter(is_it);
    found.max_by_key(|path| path.metadata().unwrap().modified().unwrap()).unwrap_or_else(|| panic!("no library {name}"))
}

const CRATES: [&str; 5] = ["ca", "ledger", "policy", "vault", "writ"];
