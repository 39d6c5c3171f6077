//! Makes the committed vectors anew: `cargo test -p ledger --test evidence make_vectors -- --ignored`.
//!
//! What a vector must get is said here, from the format, and not asked of a verifier.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use data_encoding::BASE64;
use ledger::evidence::{Order, Scope};
use ledger::note::{Note, Purpose, Signer};

use crate::forge::Forge;
use crate::story::{Story, scopes};
use crate::vectors::{Vector, folder};
use crate::verifiers::{Answer, Given};

mod files;
mod lines;
mod rules;
mod trust;

/// Vectors in the making.
pub(crate) struct Maker {
    pub(crate) story: Story,
    pub(crate) signer: Rc<Signer>,
    bases: BTreeMap<String, Vec<u8>>,
    classes: BTreeMap<String, Vec<Vector>>,
}

#[test]
#[ignore = "it makes the vectors anew"]
fn make_vectors() {
    let mut maker = Maker::begin();
    maker.valid();
    files::make(&mut maker);
    lines::make(&mut maker);
    rules::make(&mut maker);
    trust::make(&mut maker);
    maker.write_seeds();
    maker.write();
}

// === impl Maker ===

impl Maker {
    fn begin() -> Maker {
        let story = Story::whole();
        let signer = Signer::parse(&std::fs::read_to_string(story.dir.join("keys/ledger.key")).unwrap()).unwrap();
        let mut bases = BTreeMap::new();
        for (at, scope) in scopes(&story).into_iter().enumerate() {
            bases.insert(format!("scope-{at}.zip"), story.bundle(scope));
        }
        Maker { story, signer: Rc::new(signer), bases, classes: BTreeMap::new() }
    }

    /// What everybody knows from elsewhere.
    pub(crate) fn known(&self) -> Given {
        Given { key: Some(self.story.key()), ..Given::default() }
    }

    /// The bundle of the whole ledger, taken apart.
    pub(crate) fn whole(&self) -> Forge {
        self.part(0)
    }

    /// One of the bundles of [`scopes`], taken apart.
    pub(crate) fn part(&self, scope: usize) -> Forge {
        Forge::open(&self.bases[&format!("scope-{scope}.zip")], Rc::clone(&self.signer))
    }

    /// A vector that must be refused, made from the bundle of a scope.
    pub(crate) fn refused(
        &mut self,
        class: &str,
        what: impl Into<String>,
        bundle: Vec<u8>,
        code: &str,
        entry: Option<u64>,
    ) {
        let given = self.known();
        self.add(class, what, bundle, &given, (4, Some(code.to_owned()), entry));
    }

    pub(crate) fn add(&mut self, class: &str, what: impl Into<String>, bundle: Vec<u8>, given: &Given, answer: Answer) {
        let candidates = self.bases.iter().map(|(name, base)| (name.clone(), splices(base, &bundle)));
        let size =
            |splices: &Vec<(usize, usize, String)>| splices.iter().map(|splice| 8 + splice.2.len()).sum::<usize>();
        let (base, splices) = candidates.min_by_key(|(_, splices)| size(splices)).unwrap();
        let (exit, code, entry) = answer;
        let Given { key, witnesses, checkpoint } = given.clone();
        let vector = Vector { what: what.into(), base, splices, key, witnesses, checkpoint, exit, code, entry };
        self.classes.entry(class.to_owned()).or_default().push(vector);
    }

    fn valid(&mut self) {
        let known = self.known();
        for (name, base) in self.bases.clone() {
            self.add("valid", format!("{name} with the key"), base.clone(), &known, (0, None, None));
            self.add("valid", format!("{name} without a key"), base.clone(), &Given::default(), (5, None, None));
            let own = Forge::open(&base, Rc::clone(&self.signer)).text("checkpoint");
            let given = Given { checkpoint: Some(own), ..known.clone() };
            self.add("valid", format!("{name} with its own checkpoint"), base, &given, (0, None, None));
        }
        for scope in scopes(&self.story) {
            let held = Note::parse(&self.whole().members["checkpoint"]).unwrap();
            let bundle = self.story.export(&Order { scope, held: Some(held.clone()) }).unwrap();
            let given = Given { checkpoint: Some(held.to_string()), ..known.clone() };
            self.add("valid", "continues a checkpoint", bundle, &given, (0, None, None));
        }
        let empty = self.story.export(&Order { scope: Scope::default(), held: None }).unwrap();
        self.add("valid", "exported again", empty, &known, (0, None, None));
    }

    /// What the fuzzer begins with, of the same ledger.
    fn write_seeds(&self) {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz");
        std::fs::write(fuzz.join("ledger-key"), self.story.key()).unwrap();
        let lines = self.whole().lines();
        let seeds = |target: &str, seeds: Vec<(&str, Vec<u8>)>| {
            let folder = fuzz.join("corpus").join(target);
            drop(std::fs::remove_dir_all(&folder));
            std::fs::create_dir_all(&folder).unwrap();
            seeds.into_iter().for_each(|(name, seed)| std::fs::write(folder.join(name), seed).unwrap());
        };
        let line = |seq: usize| lines[seq].clone().into_bytes();
        seeds(
            "event",
            vec![
                ("created", line(0)),
                ("registered", line(1)),
                ("allowed", line(6)),
                ("executed", line(7)),
                ("vote", line(10)),
            ],
        );
        let proof = |seq| self.story.ledger.proof(seq).unwrap().unwrap().into_bytes();
        let capsule = |scope: &Scope| self.story.ledger.capsule(scope).unwrap().into_bytes();
        let one = Scope { correlation: Some("corr_denied".to_owned()), ..Scope::default() };
        let bundle = |scope: usize| self.bases[&format!("scope-{scope}.zip")].clone();
        seeds(
            "evidence",
            vec![
                ("bundle", bundle(2)),
                ("bundle-held", bundle(3)),
                ("capsule", capsule(&one)),
                ("proof", proof(0)),
                ("proof-later", proof(9)),
            ],
        );
        let own = self.whole().text("checkpoint");
        let checkpoint = Note::parse(own.as_bytes()).unwrap();
        let witness = Signer::from_seed("witness.example/w", Purpose::Cosign, &[31; 32]);
        let mut cosigned = checkpoint.clone();
        cosigned.extend([witness.sign(checkpoint.text(), 1_700_000_000)]);
        let extended = Note::signed(format!("{}an extension\n", checkpoint.text()), &self.signer, 0).to_string();
        let text = Note::signed("no checkpoint\n".to_owned(), &self.signer, 0).to_string();
        let large = own.replacen("\n23\n", "\n9007199254740992\n", 1);
        let notes = [
            ("checkpoint", own),
            ("cosigned", cosigned.to_string()),
            ("extended", extended),
            ("large", large),
            ("text", text),
        ];
        seeds("note", notes.map(|(name, note)| (name, note.into_bytes())).to_vec());
    }

    fn write(self) {
        let folder = folder();
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        for (name, base) in &self.bases {
            std::fs::write(folder.join(name), base).unwrap();
        }
        for (class, vectors) in &self.classes {
            let lines: Vec<String> = vectors.iter().map(|vector| serde_json::to_string(vector).unwrap()).collect();
            let text = format!("[\n{}\n]\n", lines.join(",\n"));
            std::fs::write(folder.join(format!("{class}.json")), text).unwrap();
        }
    }
}

/// What has to change in `base` to get `bundle`.
fn splices(base: &[u8], bundle: &[u8]) -> Vec<(usize, usize, String)> {
    let (old, new) = (pieces(base), pieces(bundle));
    let mut places: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
    for (at, piece) in old.windows(SYNC).enumerate() {
        places.entry(&base[piece[0].0..piece[SYNC - 1].1]).or_default().push(at);
    }
    let mut splices: Vec<(usize, usize, Vec<u8>)> = Vec::new();
    // Next piece of the base, end of what is kept of it, and what stands instead since then.
    let (mut next, mut kept, mut instead) = (0, 0, Vec::new());
    for (at, (start, end)) in new.iter().enumerate() {
        let same = |place: usize| old.get(place).is_some_and(|(a, b)| base[*a..*b] == bundle[*start..*end]);
        let ahead = new.get(at + SYNC - 1).and_then(|last| places.get(&bundle[*start..last.1]));
        let found = ahead.and_then(|ahead| ahead.iter().copied().find(|place| *place >= next));
        match found.or_else(|| same(next).then_some(next)) {
            None => instead.extend_from_slice(&bundle[*start..*end]),
            Some(place) => {
                let (from, to) = old[place];
                if from != kept || !instead.is_empty() {
                    splices.push((kept, from - kept, std::mem::take(&mut instead)));
                }
                (next, kept) = (place + 1, to);
            }
        }
    }
    if kept != base.len() || !instead.is_empty() {
        splices.push((kept, base.len() - kept, instead));
    }
    splices.into_iter().map(|(at, left_out, instead)| (at, left_out, BASE64.encode(&instead))).collect()
}

/// Where the bytes fall into pieces: behind each comma and line, and before each header.
fn pieces(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut ends: Vec<usize> =
        (1..bytes.len()).filter(|at| b",\n".contains(&bytes[at - 1]) || bytes[*at..].starts_with(b"PK")).collect();
    ends.push(bytes.len());
    let mut start = 0;
    ends.into_iter().map(|end| (std::mem::replace(&mut start, end), end)).collect()
}

/// So many equal pieces in a row count as found again.
const SYNC: usize = 4;
