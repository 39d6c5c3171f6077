//! Which agent speaks: from `Proxy-Authorization` (RFC 9110 section 11.7.2), Basic `agent:token` or Bearer.

use data_encoding::BASE64;

use crate::principal::{Kind, Principal, Principals, Standing};
use crate::refusal::Refusal;

/// The agent that holds the credential in a `Proxy-Authorization` value.
///
/// # Errors
/// [`Refusal::NotIdentified`] without a credential, [`Refusal::WrongCredential`] with a wrong one,
/// [`Refusal::AgentSuspended`] for one that is known and not served now.
pub fn identify(principals: &Principals, value: Option<&str>) -> Result<Principal, Refusal> {
    let Some(value) = value else { return Err(Refusal::NotIdentified) };
    let (scheme, credential) = value.split_once(' ').ok_or(Refusal::WrongCredential)?;
    let credential = credential.trim_start_matches(' ');
    // The scheme is case-insensitive (RFC 9110 section 11.1); httplib2 writes it in lower case.
    let agent = if scheme.eq_ignore_ascii_case("bearer") {
        principals.holder(Kind::Agent, credential)
    } else if scheme.eq_ignore_ascii_case("basic") {
        basic(principals, credential)
    } else {
        None
    };
    let agent = agent.ok_or(Refusal::WrongCredential)?;
    standing(&agent).map(|()| agent)
}

/// Whether an agent identified earlier is still served: a tunnel keeps its identity, not its standing.
///
/// # Errors
/// As [`identify`].
pub fn still_served(principals: &Principals, name: &str) -> Result<(), Refusal> {
    standing(&principals.named(Kind::Agent, name).ok_or(Refusal::WrongCredential)?)
}

fn standing(agent: &Principal) -> Result<(), Refusal> {
    match agent.standing {
        Standing::Active => Ok(()),
        Standing::Suspended => Err(Refusal::AgentSuspended),
        Standing::Revoked => Err(Refusal::WrongCredential),
    }
}

fn basic(principals: &Principals, credential: &str) -> Option<Principal> {
    let decoded = BASE64.decode(credential.as_bytes()).ok()?;
    let (name, token) = str::from_utf8(&decoded).ok()?.split_once(':')?;
    principals.holder(Kind::Agent, token).filter(|agent| agent.name == name)
}

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
            assert!(matches!(identify(&principals, Some(bad)), Err(Refusal::WrongCredential)), "{bad}");
        }
        assert!(matches!(identify(&principals, None), Err(Refusal::NotIdentified)));
        principals.set_standing(Kind::Agent, "bot", Standing::Suspended).unwrap();
        assert!(matches!(identify(&principals, Some(&format!("Bearer {token}"))), Err(Refusal::AgentSuspended)));
        assert!(matches!(still_served(&principals, "bot"), Err(Refusal::AgentSuspended)));
    }
}
