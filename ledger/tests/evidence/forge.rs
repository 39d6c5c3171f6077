//! What a forger with the ledger's key could make of a bundle: members and lines changed at will, then hashes, tree and
//! signatures made anew as far as the forger cares to go.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use ledger::checkpoint::Checkpoint;
use ledger::note::{Note, Signer};
use ledger::tree::{Edge, Hash};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// A bundle taken apart.
#[derive(Clone)]
pub(crate) struct Forge {
    pub(crate) members: BTreeMap<String, Vec<u8>>,
    pub(crate) signer: std::rc::Rc<Signer>,
}

// === impl Forge ===

impl Forge {
    /// Takes a bundle apart.
    pub(crate) fn open(bundle: &[u8], signer: std::rc::Rc<Signer>) -> Forge {
        let mut members = BTreeMap::new();
        let mut rest = bundle;
        while rest.starts_with(b"PK\x03\x04") {
            let size = u32::from_le_bytes(rest[18..22].try_into().unwrap()) as usize;
            let name = 30 + usize::from(u16::from_le_bytes(rest[26..28].try_into().unwrap()));
            members.insert(String::from_utf8(rest[30..name].to_vec()).unwrap(), rest[name..name + size].to_vec());
            rest = &rest[name + size..];
        }
        Forge { members, signer }
    }

    /// The archive, with what is in it as it is.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        archive(self.members.iter().map(|(name, content)| (name.as_str(), content.as_slice())))
    }

    /// The archive, with digests, checksums and the manifest's signature made anew.
    pub(crate) fn sealed(mut self) -> Vec<u8> {
        self.redigest();
        self.resign();
        self.bytes()
    }

    /// Makes the manifest's list of files anew.
    pub(crate) fn redigest(&mut self) {
        let unlisted = ["checksums.sha256", "manifest.json", "manifest.sig"];
        let files: Map<String, Value> = (self.members.iter())
            .filter(|(name, _)| !unlisted.contains(&name.as_str()))
            .map(|(name, content)| (name.clone(), json!({"bytes": content.len(), "sha256": sha256(content)})))
            .collect();
        self.manifest(|manifest| manifest["files"] = Value::Object(files));
    }

    /// Makes the manifest's signature and the checksums anew.
    pub(crate) fn resign(&mut self) {
        let signature = self.signer.sign_bytes(&self.members["manifest.json"]);
        self.members.insert("manifest.sig".to_owned(), signature.to_vec());
        self.resum();
    }

    /// Makes the checksums anew.
    pub(crate) fn resum(&mut self) {
        self.members.remove("checksums.sha256");
        let sums: String =
            self.members.iter().map(|(name, content)| format!("{}  {name}\n", sha256(content))).collect();
        self.members.insert("checksums.sha256".to_owned(), sums.into_bytes());
    }

    /// Changes the manifest, which stays canonical.
    pub(crate) fn manifest(&mut self, change: impl FnOnce(&mut Value)) {
        self.json("manifest.json", change);
    }

    /// Changes a member that is JSON, which stays canonical.
    pub(crate) fn json(&mut self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut value: Value = serde_json::from_slice(&self.members[name]).unwrap();
        change(&mut value);
        self.members.insert(name.to_owned(), serde_json_canonicalizer::to_vec(&value).unwrap());
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.members[name].clone()).unwrap()
    }

    pub(crate) fn set(&mut self, name: &str, text: impl AsRef<[u8]>) {
        self.members.insert(name.to_owned(), text.as_ref().to_vec());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.text("events.jsonl").lines().map(str::to_owned).collect()
    }

    pub(crate) fn set_lines(&mut self, lines: &[String]) {
        self.set("events.jsonl", lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        self.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The lines that these events are, numbered and chained from the first of them on, as a writer of them would.
    pub(crate) fn set_events(&mut self, events: Vec<Value>) {
        let mut previous = "0".repeat(64);
        let mut lines = Vec::new();
        for (seq, mut event) in events.into_iter().enumerate() {
            event["seq"] = seq.into();
            event["prev_hash"] = previous.into();
            rehash(&mut event);
            previous = event["entry_hash"].as_str().unwrap().to_owned();
            lines.push(canonical(&event));
        }
        self.set_lines(&lines);
    }

    /// Makes tree and checkpoint anew, for a bundle of the whole ledger.
    pub(crate) fn regrow(&mut self) {
        let mut edge = Edge::default();
        self.lines().iter().for_each(|line| edge.push(Hash::of_leaf(line.as_bytes())));
        let origin = self.signer.verifier().name().to_owned();
        let checkpoint = Checkpoint { origin, size: edge.size(), root: edge.root() };
        self.set("checkpoint", Note::signed(checkpoint.text(), &self.signer, 0).to_string());
        let lines = self.lines().len();
        self.manifest(|manifest| {
            manifest["size"] = checkpoint.size.into();
            manifest["root"] = checkpoint.root.to_string().into();
            manifest["entries"] = json!({"count": lines, "selected": lines});
        });
    }

    /// A bundle of the whole ledger with these events, everything made anew but the summaries.
    pub(crate) fn rewritten(mut self, events: Vec<Value>) -> Forge {
        self.set_events(events);
        self.regrow();
        self
    }
}

pub(crate) fn canonical(value: &Value) -> String {
    serde_json_canonicalizer::to_string(value).unwrap()
}

/// Makes the hash of an event anew.
pub(crate) fn rehash(event: &mut Value) {
    event.as_object_mut().unwrap().remove("entry_hash");
    event["entry_hash"] = sha256(canonical(event).as_bytes()).into();
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// An archive of any members in any order.
pub(crate) fn archive<'a>(members: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let (mut bytes, mut directory, mut count) = (Vec::new(), Vec::new(), 0_u16);
    for (name, content) in members {
        let sizes =
            [crc32fast::hash(content), content.len() as u32, content.len() as u32].map(u32::to_le_bytes).concat();
        let head = [&[10, 0, 0, 0, 0, 0, 0, 0, 0x21, 0], sizes.as_slice(), &(name.len() as u16).to_le_bytes(), &[0, 0]]
            .concat();
        let place = (bytes.len() as u32).to_le_bytes();
        let central = [b"PK\x01\x02\x14\x03", head.as_slice(), &[0; 6], &[0, 0, 0xa4, 0x81], &place, name.as_bytes()];
        directory.extend(central.concat());
        bytes.extend([b"PK\x03\x04", head.as_slice(), name.as_bytes(), content].concat());
        count += 1;
    }
    let sizes = [directory.len() as u32, bytes.len() as u32].map(u32::to_le_bytes).concat();
    let counts = [0, 0, count, count].map(u16::to_le_bytes).concat();
    [bytes, directory, [b"PK\x05\x06", counts.as_slice(), &sizes, &[0, 0]].concat()].concat()
}
