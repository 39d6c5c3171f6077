//! Access tokens that are kept until shortly before they expire, in memory only.
//!
//! However many requests want a token at once, one of them fetches it and the others take what it got, a failure too.
//! Nothing here knows how a token is fetched.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

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
    failed: Option<(Instant, String)>,
}

/// An access token, wiped when nobody uses it any more.
pub struct Token(Zeroizing<String>);

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
    ) -> Result<Arc<Token>, String>
    where
        F: Future<Output = Result<Fresh, String>>,
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
        if fit { Ok(Token(value)) } else { Err("the access token is not printable text".to_owned()) }
    }

    /// Lends the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Token(redacted)")
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

    #[tokio::test]
    async fn many_at_once_take_what_one_fetched_a_failure_too() {
        let (tokens, calls) = (Arc::new(Tokens::default()), Arc::new(AtomicUsize::new(0)));
        for (name, good) in [("good", true), ("bad", false)] {
            calls.store(0, Ordering::SeqCst);
            let all: Vec<_> = (0..64)
                .map(|_| {
                    let (tokens, calls) = (Arc::clone(&tokens), Arc::clone(&calls));
                    tokio::spawn(async move {
                        let fetch = |_| async move {
                            calls.fetch_add(1, Ordering::SeqCst);
                            tokio::time::sleep(Duration::from_millis(50)).await;
                            if good { Ok(fresh("t", 60, None)) } else { Err("down".to_owned()) }
                        };
                        tokens.get(name, fetch).await.map(|token| token.as_str().to_owned())
                    })
                })
                .collect();
            for one in all {
                assert_eq!(one.await.unwrap(), if good { Ok("t".to_owned()) } else { Err("down".to_owned()) });
            }
            assert_eq!(calls.load(Ordering::SeqCst), 1, "{name}");
        }
    }

    #[tokio::test]
    async fn a_token_is_fetched_again_when_it_expired_with_the_newest_refresh_token() {
        let tokens = Tokens::default();
        let get = async |value: &'static str, lasts, gives: Option<&'static str>, expects: Option<&'static str>| {
            let fetch = |refresh: Option<Zeroizing<String>>| async move {
                assert_eq!(refresh.as_deref().map(String::as_str), expects);
                Ok(fresh(value, lasts, gives))
            };
            tokens.get("x", fetch).await.unwrap().as_str().to_owned()
        };
        assert_eq!(get("one", 60, Some("r1"), None).await, "one");
        assert_eq!(get("two", 60, None, None).await, "one");
        tokens.expire("x").await;
        assert_eq!(get("three", 0, None, Some("r1")).await, "three");
        tokens.sweep();
        assert_eq!(get("four", 60, Some("r2"), Some("r1")).await, "four");
        assert!(!format!("{tokens:?}").contains("four"));
    }

    #[test]
    fn a_token_that_could_end_a_header_is_refused() {
        for value in ["", "a b", "a\r\nb", "é"] {
            assert!(Token::new(value.to_owned().into()).is_err(), "{value:?}");
        }
    }
}
