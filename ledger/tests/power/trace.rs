//! Reads what strace wrote: the calls that change files below a folder, in order of their ends.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// One call.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    /// The program said that this entry is durable.
    Acknowledged(usize),
    /// The disk was told something.
    Told(Told),
}

/// What a disk is told. Paths are relative to the folder.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Append { file: PathBuf, bytes: Vec<u8> },
    Create { file: PathBuf },
    MakeDir { dir: PathBuf },
    Remove { file: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
    Resize { file: PathBuf, size: usize },
    Sync { path: PathBuf },
    Write { file: PathBuf, at: usize, bytes: Vec<u8> },
}

/// What the program begins a line with when it says so.
pub(crate) const ACKNOWLEDGED: &str = "acknowledged ";

/// The calls of a trace that succeeded.
pub(crate) fn read(trace: &str, dir: &Path) -> Vec<Call> {
    let mut unfinished: HashMap<&str, &str> = HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let (process, text) = line.split_once(' ').unwrap();
        let text = text.trim_start();
        if let Some(begun) = text.strip_suffix(" <unfinished ...>") {
            unfinished.insert(process, begun);
            continue;
        }
        let whole = match text.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            None => text.to_owned(),
            Some((_, rest)) => format!("{}{rest}", unfinished.remove(process).unwrap_or_default()),
        };
        calls.extend(call(&whole, dir));
    }
    calls
}

fn call(text: &str, dir: &Path) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    if result.starts_with('-') {
        return None;
    }
    let arguments: Vec<&str> = arguments.trim_end().strip_suffix(')')?.split(", ").collect();
    let path = |text: &str| {
        let path = match text.split_once('<') {
            Some((_, named)) => PathBuf::from(String::from_utf8(unescaped(named.strip_suffix('>')?)).ok()?),
            None => PathBuf::from(String::from_utf8(string(text)?).ok()?),
        };
        path.strip_prefix(dir).ok().map(Path::to_owned)
    };
    let number = |text: &str| text.parse::<usize>().ok();
    let first = *arguments.first()?;
    let told = match name {
        "write" if first.starts_with("1<") => {
            let said = String::from_utf8(string(arguments.get(1)?)?).ok()?;
            return said.strip_prefix(ACKNOWLEDGED)?.trim().parse().ok().map(Call::Acknowledged);
        }
        "write" => Told::Append { file: path(first)?, bytes: string(arguments.get(1)?)? },
        "pwrite64" => {
            Told::Write { file: path(first)?, at: number(arguments.get(3)?)?, bytes: string(arguments.get(1)?)? }
        }
        "fdatasync" | "fsync" => Told::Sync { path: path(first)? },
        "ftruncate" => Told::Resize { file: path(first)?, size: number(arguments.get(1)?)? },
        "rename" => Told::Rename { from: path(first)?, to: path(arguments.get(1)?)? },
        "unlink" => Told::Remove { file: path(first)? },
        "mkdir" => Told::MakeDir { dir: path(first)? },
        "openat" if arguments.get(2)?.contains("O_CREAT") => Told::Create { file: path(arguments.get(1)?)? },
        _ => return None,
    };
    Some(Call::Told(told))
}

/// A quoted argument.
fn string(text: &str) -> Option<Vec<u8>> {
    assert!(!text.ends_with("..."), "strace cut an argument short");
    Some(unescaped(text.strip_prefix('"')?.strip_suffix('"')?))
}

/// Text in which bytes may stand as `\xHH`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match rest.strip_prefix("\\x") {
            Some(hex) => {
                bytes.push(u8::from_str_radix(&hex[..2], 16).unwrap());
                rest = &hex[2..];
            }
            None => {
                bytes.extend_from_slice(first.to_string().as_bytes());
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    bytes
}
