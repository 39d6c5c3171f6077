//! The strict reading of YAML files.
//!
//! YAML has many spellings that read as one thing and mean another. They are refused before any type sees the document.
//! Everything that is wrong is found at once. Messages name keys and positions and must never repeat a value, which may
//! be a secret.

use serde::de::DeserializeOwned;

use crate::document::Source;
use crate::fault::{Code, Fault, Invalid};

mod constructs;
mod place;
mod shape;

pub(crate) use place::locate;

/// One step from a node of a document to a node inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step<'a> {
    /// The item of a list, from 0.
    Item(usize),
    /// The value of a key.
    Key(&'a str),
}

/// Reads one YAML document into `T`; unknown keys are up to `T` (`deny_unknown_fields`).
///
/// # Errors
///
/// Everything wrong with the document's form, each with line and column. What an error raised by `T` says after a `; `
/// is taken for the remedy.
pub fn read<T: DeserializeOwned>(source: &Source) -> Result<T, Invalid> {
    match survey(source) {
        (Some(read), faults) if faults.is_empty() => Ok(read),
        (_, faults) => Err(Invalid(faults)),
    }
}

/// What a document says, and everything wrong with its form. What says something in spite of faults, because only keys
/// in it are unknown, is for finding more faults and never to be put in force.
pub fn survey<T: DeserializeOwned>(source: &Source) -> (Option<T>, Vec<Fault>) {
    let faults = refuse_text(source).map_or_else(|| constructs::refused(source), |fault| vec![fault]);
    if !faults.is_empty() {
        return (None, faults);
    }
    match serde_yaml::from_str(&source.text) {
        Ok(read) => (Some(read), faults),
        Err(first) => survey_shape(source, &first),
    }
}

/// The steps of `base`, then those of `path`.
pub(crate) fn below<'a>(base: &[Step<'a>], path: &[Step<'a>]) -> Vec<Step<'a>> {
    base.iter().chain(path).copied().collect()
}

/// What cannot even be given to a parser.
fn refuse_text(source: &Source) -> Option<Fault> {
    let start = |code, message: &str, remedy: &str| Some(Fault::new(source, Some((1, 1)), code, message, remedy));
    if source.text.len() > MAX_BYTES {
        return start(Code::TooLong, "the file is longer than 1 MiB", "split it or remove what is not configuration");
    }
    if source.text.starts_with('\u{feff}') {
        return start(Code::ByteOrderMark, "the file begins with a byte order mark", "save it as UTF-8 without one");
    }
    if opens_deeply(&source.text) {
        return start(Code::TooDeep, "brackets are nested too deeply", "close the brackets that are open");
    }
    None
}

/// Whether more brackets are open at once than any configuration needs; the parser's time grows with their square.
fn opens_deeply(text: &str) -> bool {
    let mut open = 0usize;
    text.bytes().any(|byte| {
        match byte {
            b'[' | b'{' => open = open.saturating_add(1),
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        open > MAX_OPEN
    })
}

fn survey_shape<T: DeserializeOwned>(source: &Source, first: &serde_yaml::Error) -> (Option<T>, Vec<Fault>) {
    let mut faults = Vec::new();
    let document = serde_yaml::from_str(&source.text).ok();
    let read = document.and_then(|document| {
        shape::survey(document, |wrong| {
            let path = wrong.path.as_deref().unwrap_or_default();
            let locate = if wrong.code == Code::UnknownKey { place::locate_key } else { place::locate };
            faults.push(Fault::new(source, locate(source, path), wrong.code, &wrong.message, &wrong.remedy));
        })
    });
    if faults.is_empty() {
        // What only the parser itself refuses, such as text where it must decide what is a number.
        faults.push(explain(source, first, Code::BadValue));
    }
    (read, faults)
}

/// An error of the parser. A `; ` in it separates a remedy.
fn explain(source: &Source, error: &serde_yaml::Error, code: Code) -> Fault {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    // The parser names a second place, which only where nothing is repeated can be told from a value.
    let text = without_value(text);
    let text = text.split_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    let (message, remedy) = text.split_once("; ").unwrap_or((text, "correct it; the documentation shows the shape"));
    Fault::new(source, place::of(error), code, message, remedy)
}

/// Takes the value out of the messages in which serde repeats one: ``invalid type: string "s3cret", expected u16``.
fn without_value(text: &str) -> String {
    for opening in ["invalid type: ", "invalid value: ", "unknown variant "] {
        let parts = text.split_once(opening).zip(text.rsplit_once(", expected "));
        let Some(((before, found), (_, expected))) = parts else { continue };
        let kind = found.split(['"', '`', ',']).next().unwrap_or_default().trim_end();
        let said = format!("{}{kind}", opening);
        return format!("{before}{}, expected {expected}", said.trim_end());
    }
    text.to_owned()
}

const MAX_BYTES: usize = 1024 * 1024;

/// Brackets inside quotes are counted too, hence far above the parser's own limit of 128 levels.
const MAX_OPEN: usize = 1_000;

/// Nobody corrects more than this at a time.
const MAX_FAULTS: usize = 50;

#[cfg(test)]
mod tests;
