//! Browser sessions: a code from the terminal becomes a cookie, once. In memory only; a restart ends them all.
//!
//! Never holds a code or a cookie itself, only what they hash to, and never says whether a wrong code was close.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use data_encoding::BASE32_NOPAD;

use crate::id;

/// The codes that wait and the sessions that run.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<Desk>);

#[derive(Debug, Default)]
struct Desk {
    /// By digest of the code.
    codes: HashMap<String, Pass>,
    /// By digest of the cookie.
    sessions: HashMap<String, Pass>,
    /// When wrong codes came.
    wrong: VecDeque<Instant>,
}

/// Whom it stands for, until when.
#[derive(Debug)]
struct Pass {
    operator: String,
    until: Instant,
}

/// Why a code opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// Too many wrong codes lately, from wherever.
    TooMany,
    /// Unknown, used or too old.
    Wrong,
}

// === impl Sessions ===

impl Sessions {
    /// A code that opens one session of `operator` within two minutes. Codes before it open nothing any more.
    ///
    /// # Errors
    /// When there is no randomness.
    pub(super) fn invite(&self, operator: &str) -> Result<String, getrandom::Error> {
        let mut bytes = [0_u8; CODE_BYTES];
        getrandom::fill(&mut bytes)?;
        let code = BASE32_NOPAD.encode(&bytes);
        let pass = Pass { operator: operator.to_owned(), until: Instant::now() + CODE_TIME };
        let mut desk = self.desk();
        desk.codes.retain(|_, pass| pass.operator != operator);
        desk.codes.insert(id::digest(code.as_bytes()), pass);
        Ok(code)
    }

    /// Takes a code and gives its operator with the cookie of a new session.
    ///
    /// # Errors
    /// [`Closed`]; outer: when there is no randomness.
    pub(super) fn open(&self, code: &str) -> Result<Result<(String, String), Closed>, getrandom::Error> {
        let cookie = id::token("")?;
        let plain: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
        let mut desk = self.desk();
        let now = Instant::now();
        while desk.wrong.front().is_some_and(|since| now.duration_since(*since) > WRONG_TIME) {
            desk.wrong.pop_front();
        }
        if desk.wrong.len() >= WRONG_CODES {
            return Ok(Err(Closed::TooMany));
        }
        let pass = desk.codes.remove(&id::digest(plain.to_ascii_uppercase().as_bytes()));
        let Some(pass) = pass.filter(|pass| pass.until > now) else {
            desk.wrong.push_back(now);
            return Ok(Err(Closed::Wrong));
        };
        let session = Pass { operator: pass.operator.clone(), until: now + SESSION_TIME };
        desk.sessions.insert(id::digest(cookie.as_bytes()), session);
        Ok(Ok((pass.operator, cookie)))
    }

    /// Whose session a cookie belongs to.
    pub(super) fn operator(&self, cookie: &str) -> Option<String> {
        let now = Instant::now();
        let mut desk = self.desk();
        desk.sessions.retain(|_, session| session.until > now);
        desk.sessions.get(&id::digest(cookie.as_bytes())).map(|session| session.operator.clone())
    }

    /// Ends the session of a cookie.
    pub(super) fn end(&self, cookie: &str) {
        self.desk().sessions.remove(&id::digest(cookie.as_bytes()));
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Random bytes of a code: 80 bits, 16 characters to type.
const CODE_BYTES: usize = 10;

/// How long a code waits.
const CODE_TIME: Duration = Duration::from_secs(120);

/// How long a session lasts.
const SESSION_TIME: Duration = Duration::from_secs(8 * 3600);

/// Wrong codes within [`WRONG_TIME`] after which no code is taken.
const WRONG_CODES: usize = 5;

/// See [`WRONG_CODES`].
const WRONG_TIME: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_opens_one_session() {
        let sessions = Sessions::default();
        let code = sessions.invite("ada").unwrap();
        let (operator, cookie) = sessions.open(&code).unwrap().unwrap();
        assert_eq!(operator, "ada");
        assert_eq!(sessions.operator(&cookie).as_deref(), Some("ada"));
        assert_eq!(sessions.open(&code).unwrap(), Err(Closed::Wrong));
        sessions.end(&cookie);
        assert_eq!(sessions.operator(&cookie), None);
    }

    #[test]
    fn a_later_code_replaces_the_one_before() {
        let sessions = Sessions::default();
        let first = sessions.invite("ada").unwrap();
        let second = sessions.invite("ada").unwrap();
        assert_eq!(sessions.open(&first).unwrap(), Err(Closed::Wrong));
        // As people type it.
        let (start, end) = second.split_at(8);
        let typed = format!(" {}-{end} ", start.to_lowercase());
        assert!(sessions.open(&typed).unwrap().is_ok());
    }

    #[test]
    fn wrong_codes_close_the_way_in_for_right_ones_too() {
        let sessions = Sessions::default();
        let code = sessions.invite("ada").unwrap();
        for _ in 0..WRONG_CODES {
            assert_eq!(sessions.open("AAAA").unwrap(), Err(Closed::Wrong));
        }
        assert_eq!(sessions.open(&code).unwrap(), Err(Closed::TooMany));
    }
}
