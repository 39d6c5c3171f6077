//! The archive, the manifest, the files and their signatures.

use std::process::Command;

use data_encoding::BASE64;
use ledger::checkpoint::Checkpoint;
use ledger::note::{Note, Purpose, Signer};
use ledger::tree::Hash;
use serde_json::{Value, json};

use super::Maker;
use crate::forge::{Forge, archive, sha256};

pub(super) fn make(maker: &mut Maker) {
    archives(maker);
    contents(maker);
    manifests(maker);
    signatures(maker);
    checkpoints(maker);
    covers(maker);
    texts(maker);
    summaries(maker);
}

fn archives(maker: &mut Maker) {
    let bytes = maker.part(1).bytes();
    for at in 0..25 {
        let offset = (at * 7919 + 13) % bytes.len();
        let mut flipped = bytes.clone();
        flipped[offset] ^= 1 << (at % 8);
        // A flip in the first signature leaves nothing that looks like an archive; anywhere else a checksum shows it.
        maker.refused("archive.flip", format!("bit {} of byte {offset}", at % 8), flipped, "archive", None);
    }
    for at in 0..15 {
        let end = bytes.len() * at / 15;
        maker.refused("archive.cut", format!("the first {end} bytes"), bytes[..end].to_vec(), "archive", None);
    }
    let junk = [
        ("a byte behind", [bytes.as_slice(), b"\n"].concat()),
        ("a byte before", [b"\n", bytes.as_slice()].concat()),
        ("a second archive behind", [bytes.as_slice(), &bytes].concat()),
        ("an empty archive", archive(std::iter::empty())),
        ("a comment", with_comment(&bytes)),
        ("a gap between members", with_gap(&bytes)),
    ];
    for (what, bytes) in junk {
        maker.refused("archive.junk", what, bytes, "archive", None);
    }
    let forge = maker.part(1);
    let members: Vec<(&str, &[u8])> =
        forge.members.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    let reversed = archive(members.iter().rev().copied());
    let twice = archive(members.iter().flat_map(|member| [*member, *member]));
    let events_twice = archive(members.iter().copied().chain([("events.jsonl", b"".as_slice())]));
    maker.refused("archive.order", "members in reverse order", reversed, "archive", None);
    maker.refused("archive.order", "every member twice", twice, "archive", None);
    maker.refused("archive.order", "a second events.jsonl at the end", events_twice, "archive", None);
    for method in ["ZIP_STORED", "ZIP_DEFLATED"] {
        maker.refused(
            "archive.order",
            format!("packed anew by Python as {method}"),
            repacked(&bytes, method),
            "archive",
            None,
        );
    }
}

fn contents(maker: &mut Maker) {
    let forge = maker.whole();
    let unlisted = ["checksums.sha256", "manifest.json", "manifest.sig"];
    for name in forge.members.keys() {
        let is_listed = !unlisted.contains(&name.as_str());
        let mut changed = forge.clone();
        changed.members.get_mut(name).unwrap().push(b'\n');
        let code = match name.as_str() {
            "checksums.sha256" | "manifest.sig" => "checksums",
            "manifest.json" => "manifest",
            _ => "files",
        };
        maker.refused("files.content", format!("a newline more in {name}"), changed.bytes(), code, None);
        if !forge.members[name].is_empty() {
            let mut emptied = forge.clone();
            emptied.members.insert(name.clone(), Vec::new());
            maker.refused("files.content", format!("nothing in {name}"), emptied.bytes(), code, None);
        }
        let mut removed = forge.clone();
        removed.members.remove(name);
        let code = if name == "manifest.json" { "manifest" } else { "files" };
        maker.refused("files.missing", format!("no {name}"), removed.bytes(), code, None);
        if is_listed && !name.ends_with(".yaml") {
            let mut unlisted = removed.clone();
            unlisted.redigest();
            unlisted.resign();
            maker.refused(
                "files.missing",
                format!("no {name}, and the manifest signed so"),
                unlisted.bytes(),
                "files",
                None,
            );
        }
    }
    for name in ["extra", "events.jsonl.bak", "policies/extra.yaml", "proofs/other", "manifest.json.sig"] {
        let mut extra = forge.clone();
        extra.set(name, "more");
        maker.refused("files.extra", format!("{name}, not in the manifest"), extra.bytes(), "files", None);
        maker.refused("files.extra", format!("{name}, listed and signed"), extra.sealed(), "manifest", None);
    }
    let mut extra = forge.clone();
    extra.set("proofs/consistency", "old 3\n");
    maker.refused("files.extra", "proofs/consistency, not in the manifest", extra.bytes(), "files", None);
    let sums = forge.text("checksums.sha256");
    let lines: Vec<&str> = sums.lines().collect();
    let reversed: String = lines.iter().rev().map(|line| format!("{line}\n")).collect();
    for (what, text) in [
        ("in another order", reversed),
        ("with one line less", sums.replacen(&format!("{}\n", lines[2]), "", 1)),
        ("with a comment", format!("# sums\n{sums}")),
        ("with one space", sums.replace("  ", " ")),
        ("with a wrong digest", sums.replacen(&lines[0][..4], "0000", 1)),
    ] {
        let mut changed = forge.clone();
        changed.set("checksums.sha256", text);
        maker.refused("checksums", format!("checksums {what}"), changed.bytes(), "checksums", None);
    }
}

fn manifests(maker: &mut Maker) {
    let forge = maker.part(1);
    let text = forge.text("manifest.json");
    let spellings = [
        ("with a space", text.replacen(':', ": ", 1)),
        ("with a newline", format!("{text}\n")),
        ("with an escaped letter", text.replacen("\"origin\"", "\"\\u006frigin\"", 1)),
        ("with a member twice", text.replacen("\"schema\"", "\"root\":\"\",\"schema\"", 1)),
        ("that is no JSON", "manifest".to_owned()),
        ("that is an array", "[]".to_owned()),
        ("that is a string", "\"manifest\"".to_owned()),
        ("cut", text[..text.len() - 1].to_owned()),
        ("with a fraction", text.replacen("\"size\":", "\"size\":1.0e", 1)),
        ("with a byte order mark", format!("\u{feff}{text}")),
    ];
    for (what, text) in spellings {
        let mut changed = forge.clone();
        changed.set("manifest.json", text);
        changed.resign();
        maker.refused("manifest.form", format!("a manifest {what}"), changed.bytes(), "manifest", None);
    }
    let edits: [(&str, fn(&mut Value)); 18] = [
        ("of another schema", |m| m["schema"] = "writ-evidence-2".into()),
        ("without a schema", |m| drop(m.as_object_mut().unwrap().remove("schema"))),
        ("with a member more", |m| m["note"] = "trust me".into()),
        ("without `open`", |m| drop(m.as_object_mut().unwrap().remove("open"))),
        ("with `open` unsorted", |m| m["open"] = json!(["b", "a"])),
        ("with `open` twice the same", |m| m["open"] = json!(["a", "a"])),
        ("with `missing` that names no text", |m| m["missing"] = json!(["events.jsonl"])),
        ("with a negative size", |m| m["size"] = (-1).into()),
        ("with a size that is a string", |m| m["size"] = "23".into()),
        ("with a root that is no hash", |m| m["root"] = "AAAA".into()),
        ("with a key that is none", |m| m["key"] = "example.com/gate".into()),
        ("with `null` for the origin", |m| m["origin"] = Value::Null),
        ("with a scope of something else", |m| m["scope"]["colour"] = "red".into()),
        ("with a scope that is a number", |m| m["scope"]["agent"] = 7.into()),
        ("with a count more", |m| m["entries"]["left_out"] = 0.into()),
        ("with a digest in capitals", |m| upper(&mut m["files"]["events.jsonl"]["sha256"])),
        ("with itself among the files", |m| {
            m["files"]["manifest.json"] = json!({"bytes": 1, "sha256": "0".repeat(64)})
        }),
        ("with a file without a size", |m| drop(m["files"]["VERIFY.md"].as_object_mut().unwrap().remove("bytes"))),
    ];
    for (what, edit) in edits {
        let mut changed = forge.clone();
        changed.manifest(edit);
        changed.resign();
        maker.refused("manifest.content", format!("a manifest {what}"), changed.bytes(), "manifest", None);
    }
}

fn signatures(maker: &mut Maker) {
    let forge = maker.part(1);
    let signature = forge.members["manifest.sig"].clone();
    let other = Signer::from_seed("example.com/gate", Purpose::Sign, &[9; 32]);
    let cases: [(&str, Vec<u8>); 7] = [
        ("of another key", other.sign_bytes(&forge.members["manifest.json"]).to_vec()),
        ("of the checkpoint", maker.signer.sign_bytes(forge.text("checkpoint").as_bytes()).to_vec()),
        ("with a flipped bit", signature.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 40)).collect()),
        ("of 63 bytes", signature[..63].to_vec()),
        ("of 65 bytes", [signature.as_slice(), &[0]].concat()),
        ("of nothing", Vec::new()),
        ("of zeros", vec![0; 64]),
    ];
    for (what, signature) in cases {
        let mut changed = forge.clone();
        changed.set("manifest.sig", signature);
        changed.resum();
        maker.refused("signature", format!("a signature {what}"), changed.bytes(), "signature", None);
    }
    let mut malleable = forge.clone();
    malleable.set("manifest.sig", plus_order(&signature));
    malleable.resum();
    maker.refused("signature", "a signature with the group order added", malleable.bytes(), "signature", None);
    for (what, size) in [("one entry more", 1), ("a thousand entries more", 1000)] {
        let mut changed = forge.clone();
        changed.manifest(|manifest| manifest["size"] = (manifest["size"].as_u64().unwrap() + size).into());
        maker.refused(
            "signature",
            format!("a manifest of {what}, not signed anew"),
            resummed(changed),
            "signature",
            None,
        );
    }
    let mut foreign = forge.clone();
    foreign.manifest(|manifest| manifest["origin"] = "example.com/other".into());
    foreign.resign();
    maker.refused("signature", "a manifest of another ledger", foreign.bytes(), "signature", None);
}

fn checkpoints(maker: &mut Maker) {
    let forge = maker.part(1);
    let note = Note::parse(&forge.members["checkpoint"]).unwrap();
    let own = Checkpoint::of(&note).unwrap();
    let signed = |checkpoint: &Checkpoint| Note::signed(checkpoint.text(), &maker.signer, 0).to_string();
    let text = note.to_string();
    let line = text.lines().last().unwrap().to_owned();
    let other = Signer::from_seed("example.com/gate", Purpose::Sign, &[9; 32]);
    let cosigned = Signer::from_seed("example.com/gate", Purpose::Cosign, &[7; 32]);
    let cases = [
        ("of one entry less", signed(&Checkpoint { size: own.size - 1, ..own.clone() })),
        ("of one entry more", signed(&Checkpoint { size: own.size + 1, ..own.clone() })),
        ("of another root", signed(&Checkpoint { root: Hash::of_nothing(), ..own.clone() })),
        ("of another origin", signed(&Checkpoint { origin: "example.com/other".to_owned(), ..own.clone() })),
        ("of another key", Note::signed(own.text(), &other, 0).to_string()),
        ("of a witness alone", Note::signed(own.text(), &cosigned, 1).to_string()),
        ("with its signature changed", text.replace(&line[line.len() - 8..], "AAAAAAA=")),
        ("without signatures", format!("{}\n", own.text())),
        ("without an empty line", text.replace("\n\n", "\n")),
        (
            "with its size in another spelling",
            Note::signed(own.text().replace("\n23\n", "\n023\n"), &maker.signer, 0).to_string(),
        ),
        ("without a root", Note::signed(format!("{}\n{}\n", own.origin, own.size), &maker.signer, 0).to_string()),
        ("with Windows line ends", text.replace('\n', "\r\n")),
        ("that is not UTF-8", String::new()),
        ("with 65 signatures", text.clone() + &format!("{line}\n").repeat(64)),
    ];
    for (what, text) in cases {
        let mut changed = forge.clone();
        let bytes = if what == "that is not UTF-8" { b"\xff\n\n\xff\n".to_vec() } else { text.into_bytes() };
        changed.set("checkpoint", bytes);
        maker.refused("checkpoint", format!("a checkpoint {what}"), changed.sealed(), "checkpoint", None);
    }
    let mut doubled = forge.clone();
    let blob = BASE64.decode(line.rsplit_once(' ').unwrap().1.as_bytes()).unwrap();
    let false_one = BASE64.encode(&[&blob[..4], &[7; 64]].concat());
    doubled.set("checkpoint", format!("{text}— example.com/gate {false_one}\n"));
    maker.refused(
        "checkpoint",
        "a false signature of the same key beside the true one",
        doubled.sealed(),
        "checkpoint",
        None,
    );
    let mut unknown = forge.clone();
    unknown.set("checkpoint", format!("{text}— somebody.example {false_one}\n"));
    let (bundle, known) = (unknown.sealed(), maker.known());
    maker.add("valid", "a signature of an unknown key beside the ledger's", bundle, &known, (0, None, None));
}

fn covers(maker: &mut Maker) {
    for scope in [1, 3, 7] {
        let forge = maker.part(scope);
        let cover = forge.text("proofs/cover");
        let lines: Vec<&str> = cover.lines().collect();
        let join = |lines: Vec<&str>| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let nothing = Hash::of_nothing().to_string();
        for (what, text) in [
            ("with one hash less", join(lines[1..].to_vec())),
            ("with one hash more", format!("{cover}{nothing}\n")),
            ("with another hash", cover.replacen(lines[0], &nothing, 1)),
            ("in another order", join(lines.iter().rev().copied().collect())),
            ("that is empty", String::new()),
            ("without its last newline", cover.trim_end().to_owned()),
            ("with an empty line", format!("\n{cover}")),
            ("of no hashes", "cover\n".to_owned()),
        ] {
            let mut changed = forge.clone();
            changed.set("proofs/cover", text);
            maker.refused("proof", format!("a cover {what} (scope {scope})"), changed.sealed(), "proof", None);
        }
    }
    let mut changed = maker.whole();
    changed.set("proofs/cover", format!("{}\n", Hash::of_nothing()));
    maker.refused("proof", "a cover where there is nothing to cover", changed.sealed(), "proof", None);
}

fn texts(maker: &mut Maker) {
    let forge = maker.part(1);
    let [policy, destinations] = maker.story.texts.clone();
    let (policy, destinations) = (format!("policies/{policy}.yaml"), format!("destinations/{destinations}.yaml"));
    let extra = format!("policies/{}.yaml", sha256(b"id: extra\n"));
    let edits: Vec<(&str, Box<dyn Fn(&mut Forge)>)> = vec![
        ("a policy changed", Box::new(|forge| forge.set(&policy, "id: refunds\nrules: []\n"))),
        ("destinations changed", Box::new(|forge| forge.set(&destinations, ""))),
        ("a policy left out", Box::new(|forge| drop(forge.members.remove(&policy)))),
        ("destinations left out", Box::new(|forge| drop(forge.members.remove(&destinations)))),
        ("a policy that no line names", Box::new(|forge| forge.set(&extra, "id: extra\n"))),
        ("a policy said to be missing and there", Box::new(|forge| forge.manifest(|m| m["missing"] = json!([policy])))),
        ("a policy missing that no line names", Box::new(|forge| forge.manifest(|m| m["missing"] = json!([extra])))),
        (
            "a policy in the wrong folder",
            Box::new(|forge| {
                let text = forge.members.remove(&policy).unwrap();
                forge.members.insert(policy.replace("policies", "destinations"), text);
            }),
        ),
    ];
    for (what, edit) in edits {
        let mut changed = forge.clone();
        edit(&mut changed);
        maker.refused("texts", what, changed.sealed(), "texts", None);
    }
    let mut gone = forge.clone();
    gone.members.remove(&policy);
    gone.manifest(|manifest| manifest["missing"] = json!([policy]));
    let (bundle, known) = (gone.sealed(), maker.known());
    maker.add("valid", "a policy that is gone, and said to be", bundle, &known, (0, None, None));
}

fn summaries(maker: &mut Maker) {
    let edits: [(&str, fn(&mut Value)); 9] = [
        ("counting one denial less", |s| s["types"]["decision.denied"] = 0.into()),
        ("counting one type more", |s| s["types"]["violation"] = 1.into()),
        ("with another outcome", |s| s["requests"][0]["outcome"] = "action.failed".into()),
        ("with another status", |s| s["requests"][0]["status"] = 500.into()),
        ("with a vote more", |s| s["requests"][0]["votes"] = json!(["ann approve"])),
        ("with a request less", |s| drop(s["requests"].as_array_mut().unwrap().remove(1))),
        ("with another total", |s| s["requests_total"] = 1.into()),
        ("with another target", |s| s["requests"][0]["target"] = "GET https://api.stripe.com/".into()),
        ("of another scope", |s| s["scope"]["agent"] = "crawler".into()),
    ];
    for (what, edit) in edits {
        let mut changed = maker.whole();
        changed.json("summary.json", edit);
        maker.refused("summary", format!("a summary {what}"), changed.sealed(), "summary", None);
    }
    let page = maker.whole().text("summary.html");
    for (what, text) in [
        ("with a denied request allowed", page.replace("decision.denied", "decision.allowed")),
        ("with a script", page.replace("</body>", "<script>alert(1)</script></body>")),
        ("with a value not escaped", page.replace("&lt;", "<")),
        ("with white space at its end", format!("{page}\n")),
    ] {
        let mut changed = maker.whole();
        changed.set("summary.html", text);
        maker.refused("summary", format!("a page {what}"), changed.sealed(), "summary", None);
    }
}

fn resummed(mut forge: Forge) -> Vec<u8> {
    forge.resum();
    forge.bytes()
}

fn upper(value: &mut Value) {
    *value = value.as_str().unwrap().to_uppercase().into();
}

/// The same signature to a verifier that does not look at the size of `S`.
fn plus_order(signature: &[u8]) -> Vec<u8> {
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut changed = signature.to_vec();
    let mut carry = 0;
    for (byte, add) in changed[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    changed
}

fn with_comment(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.len() - 2;
    [&bytes[..end], &[2, 0], b"hi"].concat()
}

fn with_gap(bytes: &[u8]) -> Vec<u8> {
    let second = 4 + bytes[4..].windows(4).position(|four| four == b"PK\x03\x04").unwrap();
    [&bytes[..second], b"gap", &bytes[second..]].concat()
}

fn repacked(bytes: &[u8], method: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from.zip"), dir.path().join("to.zip"));
    std::fs::write(&from, bytes).unwrap();
    let script = format!(
        "import sys, zipfile\na = zipfile.ZipFile(sys.argv[1])\nb = zipfile.ZipFile(sys.argv[2], 'w', zipfile.{method})\n\
         [b.writestr(n, a.read(n)) for n in a.namelist()]\nb.close()"
    );
    assert!(Command::new("python3").args(["-c", &script]).args([&from, &to]).status().unwrap().success());
    std::fs::read(to).unwrap()
}
