//! Which agent speaks: from `Proxy-Authorization` (RFC 9110 section 11.7.2), Basic `agent:token` or Bearer; at the reverse
//! door from the headers in which clients send a key to an API.

use data_encoding::BASE64;
use memchr::memmem;

use crate::canonical::Asked;
use crate::principal::{Kind, Principal, Principals, Standing};
use crate::refusal::{Challenge, Refusal};
use crate::routes::Reverse;

/// The agent that holds the credential in a `Proxy-Authorization` value.
///
/// # Errors
/// [`Refusal::NotIdentified`] without a credential, [`Refusal::WrongCredential`] with a wrong one,
/// [`Refusal::AgentSuspended`] for one that is known and not served now.
pub fn identify(principals: &Principals, value: Option<&str>) -> Result<Principal, Refusal> {
    let Some(value) = value else { return Err(Refusal::NotIdentified(Challenge::Proxy)) };
    let (scheme, credential) = value.split_once(' ').ok_or(WRONG)?;
    let credential = credential.trim_start_matches(' ');
    // The scheme is case-insensitive (RFC 9110 section 11.1); httplib2 writes it in lower case.
    let agent = if scheme.eq_ignore_ascii_case("bearer") {
        principals.holder(Kind::Agent, credential)
    } else if scheme.eq_ignore_ascii_case("basic") {
        basic(principals, credential)
    } else {
        None
    };
    let agent = agent.ok_or(WRONG)?;
    standing(&agent).map(|()| agent)
}

/// Who speaks at the reverse door: whose token the request carries, or the agent that the door is bound to. The token is
/// taken out of the headers: what says who speaks goes no further.
///
/// # Errors
/// As [`identify`]; [`Refusal::NotMarked`] for a request that a page in a browser could have sent to a bound door.
pub fn identify_at(principals: &Principals, door: &Reverse, asked: &mut Asked) -> Result<String, Refusal> {
    if let Some(at) = asked.headers.iter().position(|(name, value)| carried(name, value).is_some()) {
        let (name, value) = asked.headers.remove(at);
        return identify(principals, carried(&name, &value).as_deref()).map(|agent| agent.name);
    }
    let bound = door.agent.as_deref().ok_or(Refusal::NotIdentified(Challenge::Proxy))?;
    check_mark(asked, bound)?;
    still_served(principals, bound).map(|()| bound.to_owned())
}

/// The credential in a header, as `Proxy-Authorization` would carry it. Clients of an API send their key in a header of
/// that API's choice: a whole value that is a token of ours is meant for us.
fn carried(name: &str, value: &str) -> Option<String> {
    let prefix = Kind::Agent.prefix();
    let (scheme, credential) = value.split_once(' ').unwrap_or_default();
    let basic = || {
        BASE64.decode(credential.trim().as_bytes()).is_ok_and(|pair| memmem::find(&pair, prefix.as_bytes()).is_some())
    };
    match name {
        "writ-agent-token" => Some(format!("Bearer {value}")),
        "authorization" if scheme.eq_ignore_ascii_case("bearer") && credential.trim().starts_with(prefix) => {
            Some(value.to_owned())
        }
        "authorization" if scheme.eq_ignore_ascii_case("basic") && basic() => Some(value.to_owned()),
        _ if value.starts_with(prefix) => Some(format!("Bearer {value}")),
        _ => None,
    }
}

/// Any page in a browser on this machine can send to a loopback door, though not with a header of its own choice, nor
/// without saying where it comes from.
fn check_mark(asked: &Asked, bound: &str) -> Result<(), Refusal> {
    let elsewhere = asked.headers.iter().any(|(name, value)| name == "sec-fetch-site" && value != "none");
    if asked.header("origin").is_some() || elsewhere {
        return Err(Refusal::NotMarked("the request comes from a page in a browser".to_owned()));
    }
    let reads = ["GET", "HEAD", "OPTIONS"].contains(&asked.method.as_str());
    if reads || asked.header("writ-agent") == Some(bound) {
        return Ok(());
    }
    Err(Refusal::NotMarked(format!("a change at this door has to carry `Writ-Agent: {bound}`")))
}

/// Whether an agent identified earlier is still served: a tunnel keeps its identity, not its standing.
///
/// # Errors
/// As [`identify`].
pub fn still_served(principals: &Principals, name: &str) -> Result<(), Refusal> {
    standing(&principals.named(Kind::Agent, name).ok_or(WRONG)?)
}

fn standing(agent: &Principal) -> Result<(), Refusal> {
    match agent.standing {
        Standing::Active => Ok(()),
        Standing::Suspended => Err(Refusal::AgentSuspended),
        Standing::Revoked => Err(WRONG),
    }
}

fn basic(principals: &Principals, credential: &str) -> Option<Principal> {
    let decoded = BASE64.decode(credential.as_bytes()).ok()?;
    let (name, token) = str::from_utf8(&decoded).ok()?.split_once(':')?;
    principals.holder(Kind::Agent, token).filter(|agent| agent.name == name)
}

const WRONG: Refusal = Refusal::WrongCredential(Challenge::Proxy);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::Newcomer;

    #[test]
    fn basic_and_bearer_in_any_case_name_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let principals = Principals::open(&dir.path().join("p.json")).unwrap();
        let token = principals.add(Newcomer::agent("bot", "")).unwrap();
        let basic = BASE64.encode(format!("bot:{token}").as_bytes());
        for good in
            [format!("Basic {basic}"), format!("basic {basic}"), format!("Bearer {token}"), format!("BEARER  {token}")]
        {
            assert_eq!(identify(&principals, Some(&good)).unwrap().name, "bot", "{good}");
        }
        let other = BASE64.encode(format!("other:{token}").as_bytes());
        for bad in [
            "",
            "Basic",
            "Basic !",
            "Digest x",
            &format!("Basic {other}"),
            "Bearer writ_agt_x",
            &format!("Bearer {token} "),
        ] {
            assert!(matches!(identify(&principals, Some(bad)), Err(Refusal::WrongCredential(_))), "{bad}");
        }
        assert!(matches!(identify(&principals, None), Err(Refusal::NotIdentified(_))));
        principals.set_standing(Kind::Agent, "bot", Standing::Suspended).unwrap();
        assert!(matches!(identify(&principals, Some(&format!("Bearer {token}"))), Err(Refusal::AgentSuspended)));
        assert!(matches!(still_served(&principals, "bot"), Err(Refusal::AgentSuspended)));
    }
}
