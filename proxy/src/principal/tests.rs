//! Names, tokens and groups, as they are kept.

use super::*;

fn principals() -> (tempfile::TempDir, Principals) {
    let dir = tempfile::tempdir().unwrap();
    let principals = Principals::open(&dir.path().join("principals.json")).unwrap();
    (dir, principals)
}

#[test]
fn a_token_is_found_again_after_reopening_and_is_not_in_the_file() {
    let (dir, principals) = principals();
    let token = principals.add(Newcomer::agent("bot", "ops")).unwrap();
    let file = dir.path().join("principals.json");
    assert!(!fs::read_to_string(&file).unwrap().contains(&token));
    let again = Principals::open(&file).unwrap();
    assert_eq!(again.holder(Kind::Agent, &token).unwrap().name, "bot");
    assert!(again.holder(Kind::Operator, &token).is_none(), "an agent's token is no operator's");
    assert!(again.holder(Kind::Agent, token.trim_end_matches(char::is_alphanumeric)).is_none());
}

#[test]
fn a_pass_is_good_until_it_ends_and_outlives_a_restart() {
    let (dir, principals) = principals();
    let own = principals.add(Newcomer::agent("bot", "")).unwrap();
    let later = |seconds| Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    let pass = principals.issue_pass("bot", later(60)).unwrap();
    let over = principals.issue_pass("bot", later(-1)).unwrap();
    let again = Principals::open(&dir.path().join("principals.json")).unwrap();
    let held = |token: &str| again.holder(Kind::Agent, token).map(|agent| agent.name);
    assert_eq!((held(&pass), held(&own), held(&over)), (Some("bot".to_owned()), Some("bot".to_owned()), None));
    again.end_pass("bot", &pass).unwrap();
    assert_eq!((held(&pass), held(&own)), (None, Some("bot".to_owned())));
    assert!(!fs::read_to_string(dir.path().join("principals.json")).unwrap().contains("passes"));
    assert!(principals.issue_pass("nobody", later(60)).is_err());
}

#[test]
fn names_are_plain_and_taken_once() {
    let (_dir, principals) = principals();
    principals.add(Newcomer::agent("bot", "")).unwrap();
    assert!(principals.add(Newcomer::agent("bot", "")).is_err());
    for name in ["", "Bot", "a b", "../x", ".a", "a\n", "é", &"a".repeat(65)] {
        assert!(principals.add(Newcomer::agent(name, "")).is_err(), "{name:?}");
    }
}

#[test]
fn revoking_is_final() {
    let (_dir, principals) = principals();
    principals.add(Newcomer::agent("bot", "")).unwrap();
    principals.set_standing(Kind::Agent, "bot", Standing::Suspended).unwrap();
    principals.set_standing(Kind::Agent, "bot", Standing::Active).unwrap();
    principals.set_standing(Kind::Agent, "bot", Standing::Revoked).unwrap();
    assert!(principals.set_standing(Kind::Agent, "bot", Standing::Active).is_err());
}
