//! What only knowledge from elsewhere shows: another key, a history rewritten and signed with the stolen key.

use ledger::checkpoint::Checkpoint;
use ledger::evidence::{Order, Scope};
use ledger::note::{Note, Purpose, Signer};
use ledger::tree::Hash;
use serde_json::Value;

use super::Maker;
use crate::forge::Forge;
use crate::story::scopes;
use crate::verifiers::Given;

pub(super) fn make(maker: &mut Maker) {
    keys(maker);
    witnesses(maker);
    rewrites(maker);
    checkpoints(maker);
}

fn keys(maker: &mut Maker) {
    for scope in 0..scopes(&maker.story).len() {
        let seed = [scope.to_le_bytes()[0] + 20; 32];
        let other = Signer::from_seed("example.com/gate", Purpose::Sign, &seed).verifier().to_string();
        let given = Given { key: Some(other), ..Given::default() };
        let bundle = maker.part(scope).bytes();
        let answer = (4, Some("trust.key".to_owned()), None);
        maker.add("trust.key", format!("scope {scope}, and another key known"), bundle, &given, answer);
    }
    let named = Signer::from_seed("example.com/other", Purpose::Sign, &[1; 32]).verifier().to_string();
    let given = Given { key: Some(named), ..Given::default() };
    let bundle = maker.whole().bytes();
    maker.add("trust.key", "the key of another ledger known", bundle, &given, (4, Some("trust.key".to_owned()), None));
}

fn witnesses(maker: &mut Maker) {
    let witness = |seed| Signer::from_seed("witness.example/w", Purpose::Cosign, &[seed; 32]);
    let (one, two) = (witness(31), Signer::from_seed("witness.example/two", Purpose::Cosign, &[32; 32]));
    let given = |witnesses: &[&Signer], maker: &Maker| Given {
        witnesses: witnesses.iter().map(|witness| witness.verifier().to_string()).collect(),
        ..maker.known()
    };
    let cosigned = |forge: &Forge, signers: &[&Signer]| {
        let mut note = Note::parse(&forge.members["checkpoint"]).unwrap();
        let lines: Vec<_> = signers.iter().map(|signer| signer.sign(note.text(), 1_700_000_000)).collect();
        note.extend(lines);
        let mut forge = forge.clone();
        forge.set("checkpoint", note.to_string());
        forge
    };
    let refused = || (4, Some("trust.witness".to_owned()), None);
    for scope in [0, 1, 7] {
        let forge = maker.part(scope);
        let both = cosigned(&forge, &[&one, &two]).sealed();
        for (what, witnesses) in [("one witness", vec![&one]), ("two witnesses", vec![&two, &one])] {
            let given = given(&witnesses, maker);
            maker.add("valid", format!("cosigned by {what} that is known"), both.clone(), &given, (0, None, None));
        }
        let known = given(&[&one], maker);
        maker.add("trust.witness", "no cosignature", forge.bytes(), &known, refused());
        let stranger = cosigned(&forge, &[&two]).sealed();
        maker.add("trust.witness", "the cosignature of somebody else", stranger, &known, refused());
        let imposter = cosigned(&forge, &[&witness(33)]).sealed();
        maker.add("trust.witness", "another key under the name of the witness", imposter, &known, refused());
        let half = given(&[&one, &two], maker);
        maker.add("trust.witness", "one of two known witnesses", cosigned(&forge, &[&one]).sealed(), &half, refused());
        let text = cosigned(&forge, &[&one]).text("checkpoint");
        let line = text.lines().last().unwrap();
        let mut stale = forge.clone();
        stale.set("checkpoint", text.replace(&line[line.len() - 12..], "AAAAAAAAAAA="));
        maker.add("trust.witness", "a cosignature that is false", stale.sealed(), &known, refused());
        let mut moved = forge.clone();
        let other = Checkpoint { origin: "example.com/gate".to_owned(), size: 5, root: Hash::of_nothing() };
        let line = one.sign(&other.text(), 1_700_000_000);
        moved.set("checkpoint", format!("{}{line}\n", forge.text("checkpoint")));
        maker.add("trust.witness", "a cosignature of another checkpoint", moved.sealed(), &known, refused());
        let plain = Signer::from_seed("witness.example/w", Purpose::Sign, &[31; 32]);
        let given = given(&[&plain], maker);
        maker.add(
            "trust.witness",
            "a key that is no witness's",
            cosigned(&forge, &[&plain]).sealed(),
            &given,
            refused(),
        );
    }
}

/// A forger with the stolen key makes everything anew. In itself it is right; a checkpoint or a witness shows it.
fn rewrites(maker: &mut Maker) {
    let own = maker.whole();
    let held = own.text("checkpoint");
    let witness = Signer::from_seed("witness.example/w", Purpose::Cosign, &[31; 32]);
    let refused = |code: &str| (4, Some(code.to_owned()), None);
    let edits: [(&str, fn(&mut Vec<Value>)); 8] = [
        ("a refusal told otherwise", |events| events[22]["data"]["code"] = "other".into()),
        ("a count changed", |events| events[22]["data"]["count"] = 2.into()),
        ("the gate's version changed", |events| events[5]["data"]["version"] = "0.0.0".into()),
        ("an operator renamed", |events| events[4]["data"]["operator"] = "eva".into()),
        ("a role changed", |events| events[3]["data"]["role"] = "viewer".into()),
        ("a rationale changed", |events| events[10]["data"]["rationale"] = "of course".into()),
        ("another approver", |events| events[16]["data"]["verdict"] = "approve".into()),
        ("a reason taken out", |events| drop(events[8]["data"].as_object_mut().unwrap().remove("rules"))),
    ];
    for (what, edit) in edits {
        let mut events = own.events();
        edit(&mut events);
        let mut forged = own.clone().rewritten(events);
        if forged.members["checkpoint"] == own.members["checkpoint"] {
            continue;
        }
        let root = Checkpoint::of(&Note::parse(&forged.members["checkpoint"]).unwrap()).unwrap().root.to_string();
        forged.json("summary.json", |summary| summary["root"] = root.into());
        let before = Checkpoint::of(&Note::parse(held.as_bytes()).unwrap()).unwrap().root.to_string();
        let after = serde_json::from_str::<Value>(&forged.text("summary.json")).unwrap()["root"].clone();
        let page = forged.text("summary.html").replace(&escaped(&before), &escaped(after.as_str().unwrap()));
        forged.set("summary.html", page);
        let bundle = forged.sealed();
        let known = maker.known();
        maker.add(
            "valid",
            format!("history rewritten with the stolen key: {what}"),
            bundle.clone(),
            &known,
            (0, None, None),
        );
        let given = Given { checkpoint: Some(held.clone()), ..maker.known() };
        let what = format!("{what}, everything signed anew with the stolen key");
        maker.add("trust.checkpoint", what.clone(), bundle.clone(), &given, refused("trust.checkpoint"));
        let given = Given { witnesses: vec![witness.verifier().to_string()], ..maker.known() };
        maker.add("trust.witness", what, bundle, &given, refused("trust.witness"));
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('\'', "&#x27;")
}

fn checkpoints(maker: &mut Maker) {
    let own = Checkpoint::of(&Note::parse(&maker.whole().members["checkpoint"]).unwrap()).unwrap();
    let sign = |checkpoint: &Checkpoint, signer: &Signer| Note::signed(checkpoint.text(), signer, 0);
    let other = Signer::from_seed("example.com/gate", Purpose::Sign, &[9; 32]);
    let smaller = smaller(maker, 12);
    let refused = || (4, Some("trust.checkpoint".to_owned()), None);
    let cases = [
        ("of another key", sign(&own, &other)),
        (
            "of another origin",
            sign(&Checkpoint { origin: "example.com/other".to_owned(), ..own.clone() }, &maker.signer),
        ),
        ("of another root", sign(&Checkpoint { root: Hash::of_nothing(), ..own.clone() }, &maker.signer)),
        ("of one entry more", sign(&Checkpoint { size: own.size + 1, ..own.clone() }, &maker.signer)),
        ("of a million entries", sign(&Checkpoint { size: 1_000_000, ..own.clone() }, &maker.signer)),
        ("of 12 entries, without a proof in the bundle", sign(&smaller, &maker.signer)),
    ];
    for (what, note) in cases {
        let given = Given { checkpoint: Some(note.to_string()), ..maker.known() };
        maker.add("trust.checkpoint", format!("a checkpoint {what}"), maker.whole().bytes(), &given, refused());
    }
    let held = sign(&smaller, &maker.signer);
    let order = Order { scope: Scope::default(), held: Some(held.clone()) };
    let bundle = maker.story.export(&order).unwrap();
    let given = |note: &Note, maker: &Maker| Given { checkpoint: Some(note.to_string()), ..maker.known() };
    let known = given(&held, maker);
    maker.add("valid", "continues a checkpoint of 12 entries", bundle.clone(), &known, (0, None, None));
    let forge = Forge::open(&bundle, std::rc::Rc::clone(&maker.signer));
    let proof = forge.text("proofs/consistency");
    let lines: Vec<&str> = proof.lines().collect();
    for (what, text) in [
        ("with a hash less", lines[..lines.len() - 1].iter().map(|line| format!("{line}\n")).collect()),
        ("with a hash more", format!("{proof}{}\n", Hash::of_nothing())),
        ("with another hash", proof.replace(lines[1], &Hash::of_nothing().to_string())),
        ("of another size", proof.replacen("old 12", "old 13", 1)),
        ("with a size in another spelling", proof.replacen("old 12", "old 012", 1)),
        ("that is empty", String::new()),
        ("without its last newline", proof.trim_end().to_owned()),
    ] {
        let mut changed = forge.clone();
        changed.set("proofs/consistency", text);
        let bundle = changed.sealed();
        maker.add("trust.checkpoint", format!("a consistency proof {what}"), bundle, &known, refused());
    }
    let forked = sign(&Checkpoint { root: Hash::of_leaf(b"fork"), ..smaller }, &maker.signer);
    let fork = given(&forked, maker);
    maker.add("trust.checkpoint", "a checkpoint of a fork of 12 entries", bundle, &fork, refused());
}

/// The checkpoint that the ledger had at a size.
fn smaller(maker: &Maker, size: usize) -> Checkpoint {
    let mut edge = ledger::tree::Edge::default();
    maker.whole().lines().iter().take(size).for_each(|line| edge.push(Hash::of_leaf(line.as_bytes())));
    Checkpoint { origin: "example.com/gate".to_owned(), size: edge.size(), root: edge.root() }
}
