//! A request that nobody sends: read and decided exactly as if an agent had sent it.
//!
//! What is canonical, what stays behind and what the decision looks at come from the functions that live requests go
//! through; nothing is read in a second way here.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http::{Method, Request};
use policy::{Authority, Facts, Scheme};

use crate::canonical::{self, Entry, Way};
use crate::exchange;
use crate::limits::Limits;
use crate::rulebook::Rulebook;

/// What an agent would ask.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The agent.
    pub agent: String,
    /// The method, upper case.
    pub method: String,
    /// The whole URL.
    pub url: String,
    /// Names and values of headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

// === impl Trial ===

impl Trial {
    /// The facts that a decision about it would look at.
    ///
    /// # Errors
    /// When it is no request, or one that the gate would refuse to read.
    pub fn facts(&self, rulebook: &Rulebook, limits: &Limits) -> Result<Facts> {
        let (scheme, rest) = match self.url.split_once("://") {
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(_) | None => bail!("`{}` is not a URL; write https://host/path", self.url),
        };
        let (host, target) = rest.find(['/', '?']).and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, "/"));
        let authority = Authority::parse(scheme, host).map_err(|error| anyhow!("{error}"))?;
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let mut request = Request::builder()
            .method(Method::from_str(&self.method).with_context(|| format!("`{}` is no method", self.method))?)
            .uri(target.as_str())
            .header("host", authority.host_header());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let (parts, ()) = request.body(()).with_context(|| format!("`{}` is no request", self.url))?.into_parts();
        let way = Way { door: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), entry: Entry::Tunnel(authority) };
        let asked = canonical::read(&parts, &way, limits).map_err(|refusal| refused(&refusal))?;
        let credential = rulebook.destination(&asked).and_then(|destination| rulebook.credential_of(destination));
        let facts = exchange::facts(asked, self.agent.clone(), self.body.clone(), (rulebook, credential));
        facts.map_err(|refusal| refused(&refusal))
    }
}

fn refused(refusal: &crate::refusal::Refusal) -> anyhow::Error {
    let answer = refusal.answer();
    anyhow!("the gate refuses to read this: {} ({}); {}", answer.detail, answer.code, answer.remedy)
}
