//! Bundles as they are exported.

use std::process::Command;
use std::rc::Rc;

use ledger::Draft;
use ledger::EventType;
use ledger::checkpoint::Checkpoint;
use ledger::evidence::{ExportError, Order, Scope};
use ledger::note::{Note, Purpose, Signer};

use crate::forge::Forge;
use crate::story::{Story, journal, scopes};
use crate::verifiers::{Given, both};

#[test]
fn every_scope_verifies_with_the_key_and_is_unauthenticated_without() {
    let story = Story::whole();
    let known = Given { key: Some(story.key()), ..Given::default() };
    for scope in scopes(&story) {
        let bundle = story.bundle(scope.clone());
        assert_eq!(both(&bundle, &known), (0, None, None), "{scope:?}");
        assert_eq!(both(&bundle, &Given::default()), (5, None, None), "{scope:?}");
        assert_eq!(story.bundle(scope), bundle, "the same scope twice, the same bytes");
    }
}

#[test]
fn another_key_is_refused() {
    let story = Story::whole();
    let other = Signer::from_seed("example.com/gate", Purpose::Sign, &[9; 32]).verifier().to_string();
    let given = Given { key: Some(other), ..Given::default() };
    assert_eq!(both(&story.bundle(Scope::default()), &given), (4, Some("trust.key".to_owned()), None));
}

#[test]
fn exporting_writes_nothing_and_a_scope_without_entries_is_an_error() {
    let story = Story::whole();
    let before = journal(&story.dir);
    drop(story.bundle(Scope::default()));
    let scope = Scope { correlation: Some("corr_nobody".to_owned()), ..Scope::default() };
    let error = story.export(&Order { scope, held: None }).unwrap_err();
    assert!(matches!(error, ExportError::Nothing), "{error}");
    assert_eq!(journal(&story.dir), before);
}

#[test]
fn a_whole_ledger_is_exported_line_by_line_as_it_is_on_disk() {
    let story = Story::whole();
    let dir = unpacked(&story.bundle(Scope::default()));
    assert_eq!(std::fs::read(dir.path().join("events.jsonl")).unwrap(), journal(&story.dir));
}

#[test]
fn unzip_and_sha256sum_agree_with_a_bundle() {
    let story = Story::whole();
    let dir = unpacked(&story.bundle(Scope::default()));
    let sums = Command::new("sha256sum").args(["-c", "checksums.sha256"]).current_dir(dir.path()).output().unwrap();
    assert!(sums.status.success(), "{}", String::from_utf8_lossy(&sums.stdout));
    assert!(String::from_utf8_lossy(&sums.stdout).contains("manifest.sig: OK"));
    let policy = dir.path().join(format!("policies/{}.yaml", story.texts[0]));
    assert_eq!(std::fs::read(policy).unwrap(), b"id: refunds\n");
}

#[test]
fn a_text_that_is_gone_is_said_to_be_missing() {
    let story = Story::whole();
    std::fs::remove_file(story.dir.join("texts").join(&story.texts[0])).unwrap();
    let bundle = story.bundle(Scope::default());
    assert_eq!(both(&bundle, &Given { key: Some(story.key()), ..Given::default() }), (0, None, None));
    assert!(String::from_utf8_lossy(&bundle).contains(&format!("\"missing\":[\"policies/{}.yaml\"]", story.texts[0])));
}

#[test]
fn a_send_that_is_under_way_is_listed_as_open() {
    let story = Story::whole();
    story.tell(story.request(EventType::DecisionAllowed, "corr_open"));
    let bundle = story.bundle(Scope::default());
    assert_eq!(both(&bundle, &Given { key: Some(story.key()), ..Given::default() }), (0, None, None));
    assert!(String::from_utf8_lossy(&bundle).contains("\"open\":[\"corr_open\"]"));
}

#[test]
fn a_bundle_continues_a_checkpoint_that_the_auditor_kept_and_no_other() {
    let story = Story::begin();
    let held = checkpoint_of(&story.bundle(Scope::default()));
    story.live("corr_later");
    let bundle = |held: &Note| story.export(&Order { scope: Scope::default(), held: Some(held.clone()) });
    let given = |note: &Note| Given { key: Some(story.key()), checkpoint: Some(note.to_string()), ..Given::default() };
    let refused = (4, Some("trust.checkpoint".to_owned()), None);
    assert_eq!(both(&bundle(&held).unwrap(), &given(&held)), (0, None, None));
    // Without the proof nothing follows; with the proof for another history it does not follow either.
    assert_eq!(both(&story.bundle(Scope::default()), &given(&held)), refused);
    let mut forked = Checkpoint::of(&held).unwrap();
    forked.root = ledger::tree::Hash::of_leaf(b"another history");
    let forked = Note::signed(forked.text(), &story.signer, 0);
    assert_eq!(both(&bundle(&forked).unwrap(), &given(&forked)), refused);
    // A newer one cannot be continued, an equal one is.
    let now = checkpoint_of(&story.bundle(Scope::default()));
    assert_eq!(both(&story.bundle(Scope::default()), &given(&now)), (0, None, None));
    let before = bundle(&held).unwrap();
    story.live("corr_latest");
    let newer = checkpoint_of(&story.bundle(Scope::default()));
    assert_eq!(both(&before, &given(&newer)), refused);
    let other = Signer::from_seed("example.com/gate", Purpose::Sign, &[9; 32]);
    let foreign = Note::signed(held.text().to_owned(), &other, 0);
    assert_eq!(both(&bundle(&held).unwrap(), &given(&foreign)), refused);
    let mut too_new = Checkpoint::of(&held).unwrap();
    too_new.size = 1_000_000;
    let too_new = Note::signed(too_new.text(), &story.signer, 0);
    assert!(matches!(bundle(&too_new), Err(ExportError::Newer { held: 1_000_000, .. })));
}

#[test]
fn what_happened_while_it_was_told_by_somebody_else_is_opaque() {
    let story = Story::begin();
    story.tell(
        Draft::new(EventType::Violation).agent("crawler").with("kind", "secret_echoed").with("severity", "critical"),
    );
    let bundle = story.bundle(Scope { agent: Some("crawler".to_owned()), ..Scope::default() });
    assert_eq!(both(&bundle, &Given { key: Some(story.key()), ..Given::default() }), (0, None, None));
}

#[test]
fn a_member_of_more_than_8_mib_is_refused() {
    let story = Story::whole();
    let signer = Rc::new(Signer::parse(&std::fs::read_to_string(story.dir.join("keys/ledger.key")).unwrap()).unwrap());
    let mut forge = Forge::open(&story.bundle(Scope::default()), signer);
    let known = Given { key: Some(story.key()), ..Given::default() };
    forge.set("VERIFY.md", vec![0; 8 << 20]);
    assert_eq!(both(&forge.clone().sealed(), &known), (0, None, None));
    forge.set("VERIFY.md", vec![0; (8 << 20) + 1]);
    assert_eq!(both(&forge.sealed(), &known), (4, Some("files".to_owned()), None));
}

fn checkpoint_of(bundle: &[u8]) -> Note {
    Note::parse(&std::fs::read(unpacked(bundle).path().join("checkpoint")).unwrap()).unwrap()
}

/// What Python's `zipfile` makes of a bundle.
fn unpacked(bundle: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bundle.zip");
    std::fs::write(&file, bundle).unwrap();
    let status = Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&file).arg(dir.path()).status().unwrap();
    assert!(status.success());
    dir
}
