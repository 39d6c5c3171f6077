//! `writ-verify`: checks evidence on a machine that has nothing of the gate. Reads files, prints a verdict, does nothing else.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use ledger::evidence::{self, Trust, Verdict};
use ledger::note::{Note, Verifier};

/// What the command line asks for.
struct Asked {
    file: PathBuf,
    trust: Trust,
    as_json: bool,
}

fn main() -> ExitCode {
    let verdict = asked(std::env::args().skip(1)).and_then(|asked| {
        let verdict = evidence::verify(&asked.file, &asked.trust);
        verdict.map(|verdict| (verdict, asked.as_json)).map_err(|error| format!("`{}`: {error}", asked.file.display()))
    });
    match verdict {
        Ok((verdict, as_json)) => {
            print(&if as_json { verdict.to_json().to_string() } else { verdict.to_string() });
            ExitCode::from(verdict.exit_code())
        }
        Err(why) => {
            drop(writeln!(std::io::stderr(), "writ-verify: {why}"));
            ExitCode::from(Verdict::UNREADABLE)
        }
    }
}

fn asked(mut arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let (mut file, mut trust, mut as_json) = (None, Trust::default(), false);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("`{argument}` needs a value\n{USAGE}"));
        match argument.as_str() {
            "--checkpoint" => trust.checkpoint = Some(note(&value()?)?),
            "--help" | "-h" => return Err(USAGE.to_owned()),
            "--json" => as_json = true,
            "--key" => trust.key = Some(key(&value()?)?),
            "--witness" => trust.witnesses.push(key(&value()?)?),
            name if file.is_none() && !name.starts_with('-') => file = Some(PathBuf::from(name)),
            name => return Err(format!("`{name}` is not understood\n{USAGE}")),
        }
    }
    Ok(Asked { file: file.ok_or(USAGE)?, trust, as_json })
}

fn key(text: &str) -> Result<Verifier, String> {
    Verifier::parse(text).map_err(|error| error.to_string())
}

fn note(path: &str) -> Result<Note, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("`{path}`: {error}"))?;
    Note::parse(&bytes).map_err(|error| format!("`{path}`: {error}"))
}

/// A closed pipe ends the output quietly.
fn print(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

const USAGE: &str = "usage: writ-verify FILE [--key KEY] [--witness KEY]... [--checkpoint FILE] [--json]
exit codes: 0 verified, 4 refused, 5 consistent but nobody says whose key it is, 1 not readable";
