//! Access tokens that are kept until shortly before they expire, in memory only.
//!
//! However many requests want a token at once, one of them fetches it and the others take what it got, a failure too.
//! Nothing here knows how a token is fetched.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vault::Fault;
use zeroize::Zeroizing;

use crate::refusal::Refusal;
use crate::scrub::Needles;

/// Every token in use, by what it is for.
#[derive(Debug, Default)]
pub struct Tokens {
    slots: Mutex<HashMap<String, Slot>>,
}

/// Held by the one that fetches; the others wait for it.
type Slot = Arc<tokio::sync::Mutex<State>>;

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    /// When another is fetched.
    until: Option<Instant>,
    /// The refresh token to use in place of the configured one: some services give a new one each time.
    refresh: Option<Zeroizing<String>>,
    failed: Option<(Instant, Missing)>,
}

/// An access token, wiped when nobody uses it any more.
pub struct Token {
    text: Zeroizing<String>,
    needles: Arc<Needles>,
}

/// Why there is no token. Never holds one, nor what it is fetched with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The endpoint answered, and gave none.
    Refused(String),
    /// A secret to ask with could not be fetched.
    Unfetched(Fault, String),
    /// The endpoint could not be reached.
    Unreachable(String),
}

/// A token as it was fetched.
pub struct Fresh {
    /// The token.
    pub token: Token,
    /// How long it can be used.
    pub lasts: Duration,
    /// The refresh token for the next time, when it is another than before.
    pub refresh: Option<Zeroizing<String>>,
}

// === impl Tokens ===

impl Tokens {
    /// The token called `name`: the one that is kept, or what `fetch` gets, which is given the refresh token to use.
    ///
    /// # Errors
    /// Why there is none, from this call or from one that ended while this one waited.
    pub async fn get<F>(
        &self,
        name: &str,
        fetch: impl FnOnce(Option<Zeroizing<String>>) -> F,
    ) -> Result<Arc<Token>, Missing>
    where
        F: Future<Output = Result<Fresh, Missing>>,
    {
        let asked = Instant::now();
        let slot = Arc::clone(self.slots().entry(name.to_owned()).or_default());
        let mut state = slot.lock().await;
        if let (Some(token), true) = (&state.token, state.is_usable()) {
            return Ok(Arc::clone(token));
        }
        if let Some((_, why)) = state.failed.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(why.clone());
        }
        match fetch(state.refresh.clone()).await {
            Ok(Fresh { token, lasts, refresh }) => {
                let token = Arc::new(token);
                let refresh = refresh.or_else(|| state.refresh.take());
                let until = Instant::now().checked_add(lasts);
                *state = State { token: Some(Arc::clone(&token)), until, refresh, failed: None };
                Ok(token)
            }
            Err(why) => {
                state.failed = Some((Instant::now(), why.clone()));
                Err(why)
            }
        }
    }

    /// Keeps the token called `name` no longer: an upstream did not take it, and the next request fetches another.
    pub async fn expire(&self, name: &str) {
        let slot = self.slots().get(name).cloned();
        if let Some(slot) = slot {
            slot.lock().await.until = None;
        }
    }

    /// Wipes what has expired.
    pub fn sweep(&self) {
        self.slots().retain(|_, slot| {
            let Ok(mut state) = slot.try_lock() else { return true };
            if !state.is_usable() {
                state.token = None;
            }
            state.token.is_some() || state.refresh.is_some()
        });
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn is_usable(&self) -> bool {
        self.until.is_some_and(|until| until > Instant::now())
    }
}

impl fmt::Debug for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("State").field("until", &self.until).finish_non_exhaustive()
    }
}

// === impl Token ===

impl Token {
    /// A token that can stand in a header.
    ///
    /// # Errors
    /// When it cannot.
    pub fn new(value: Zeroizing<String>) -> Result<Token, String> {
        let fit = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
        let needles = Arc::new(Needles::new(&[value.as_bytes()]));
        if fit { Ok(Token { text: value, needles }) } else { Err("the access token is not printable text".to_owned()) }
    }

    /// Lends the text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it is found by in a reply.
    pub fn needles(&self) -> Arc<Needles> {
        Arc::clone(&self.needles)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Token(redacted)")
    }
}

// === impl Missing ===

impl From<Missing> for Refusal {
    fn from(missing: Missing) -> Refusal {
        match missing {
            Missing::Refused(why) => Refusal::TokenRefused(why),
            Missing::Unfetched(fault, why) => Refusal::Unfetched(fault, why),
            Missing::Unreachable(why) => Refusal::TokenUnreachable(why),
        }
    }
}

// === impl Fresh ===

impl fmt::Debug for Fresh {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Fresh").field("lasts", &self.lasts).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn fresh(value: &str, seconds: u64, refresh: Option<&str>) -> Fresh {
        Fresh {
            token: Token::new(value.to_owned().into()).unwrap(),
            lasts: Duration::from_secs(seconds),
            refresh: refresh.map(|text| text.to_owned().into()),
        }
    }

    /// An endpoint that counts its calls, and takes a while for each.
    async fn answer(calls: Arc<AtomicUsize>, good: bool) -> Result<Fresh, Missing> {
        calls.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(50)).await;
        if good { Ok(fresh("t", 60, None)) } else { Err(Missing::Refused("down".to_owned())) }
    }

    async fn ask(tokens: Arc<Tokens>, calls: Arc<AtomicUsize>, good: bool) -> Result<String, Missing> {
        tokens.get("x", |_| answer(calls, good)).await.map(|token| token.as_str().to_owned())
    }

    /// What 64 tasks that ask at once get, and how often the endpoint is called.
    async fn asked_at_once(good: bool) -> (Vec<Result<String, Missing>>, usize) {
        let (tokens, calls) = (Arc::new(Tokens::default()), Arc::new(AtomicUsize::new(0)));
        let ask = |_| tokio::spawn(ask(Arc::clone(&tokens), Arc::clone(&calls), good));
        let mut got = Vec::new();
        for one in (0..64).map(ask).collect::<Vec<_>>() {
            got.push(one.await.unwrap());
        }
        (got, calls.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn many_at_once_take_what_one_fetched_a_failure_too() {
        assert_eq!(asked_at_once(true).await, (vec![Ok("t".to_owned()); 64], 1));
        assert_eq!(asked_at_once(false).await, (vec![Err(Missing::Refused("down".to_owned())); 64], 1));
    }

    /// What the endpoint gives next, which expects this refresh token.
    async fn get(tokens: &Tokens, (value, lasts): (&str, u64), gives: Option<&str>, expects: Option<&str>) -> String {
        let fetch = async |refresh: Option<Zeroizing<String>>| {
            assert_eq!(refresh.as_deref().map(String::as_str), expects);
            Ok(fresh(value, lasts, gives))
        };
        tokens.get("x", fetch).await.unwrap().as_str().to_owned()
    }

    #[tokio::test]
    async fn a_token_is_fetched_again_when_it_expired_with_the_newest_refresh_token() {
        let tokens = Tokens::default();
        assert_eq!(get(&tokens, ("one", 60), Some("r1"), None).await, "one");
        assert_eq!(get(&tokens, ("two", 60), None, None).await, "one");
        tokens.expire("x").await;
        assert_eq!(get(&tokens, ("three", 0), None, Some("r1")).await, "three");
        tokens.sweep();
        assert_eq!(get(&tokens, ("four", 60), Some("r2"), Some("r1")).await, "four");
        assert!(!format!("{tokens:?}").contains("four"));
    }

    #[test]
    fn a_token_that_could_end_a_header_is_refused() {
        for value in ["", "a b", "a\r\nb", "é"] {
            assert!(Token::new(value.to_owned().into()).is_err(), "{value:?}");
        }
    }
}
