//! A ledger with every kind of life in it, as the gate writes them.

use std::path::{Path, PathBuf};

use ledger::evidence::{Bundle, ExportError, Order, Scope};
use ledger::note::Signer;
use ledger::{Draft, EventType, Ledger, Options, signing_key};
use serde_json::json;

/// A ledger in a folder that goes with it.
pub(crate) struct Story {
    pub(crate) ledger: Ledger,
    pub(crate) signer: Signer,
    /// Digests of the texts in force.
    pub(crate) texts: [String; 2],
    _home: tempfile::TempDir,
    pub(crate) dir: PathBuf,
}

// === impl Story ===

impl Story {
    /// An agent `crawler` of `ann`, reviewers `ann`, `bob` and `eve`.
    pub(crate) fn begin() -> Story {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        Ledger::create(&dir, "example.com/gate").unwrap();
        let ledger = Ledger::open(Options { dir: dir.clone(), queue: 1024, reserve_bytes: 0 }).unwrap();
        let texts = [b"id: refunds\n".as_slice(), b"destinations: []\n"].map(|text| ledger.store_text(text).unwrap());
        let story = Story { signer: signing_key(&dir, None).unwrap(), ledger, texts, _home: home, dir };
        story.tell(Draft::new(EventType::AgentRegistered).agent("crawler").with("owner", "ann"));
        for operator in ["ann", "bob", "eve"] {
            story.tell(Draft::new(EventType::OperatorAdded).with("operator", operator).with("role", "reviewer"));
        }
        story.tell(Draft::new(EventType::GateStarted).with("version", "test"));
        story
    }

    /// [`Story::begin`] with a live request, a denied one, one that was held and run, one that waits, and one whose
    /// first try never left.
    pub(crate) fn whole() -> Story {
        let story = Story::begin();
        story.live("corr_live");
        story.tell(story.request(EventType::DecisionDenied, "corr_denied"));
        story.held("corr_held", "int_held");
        story.approved("corr_held", "int_held");
        story.executed("corr_held", "int_held");
        story.held("corr_waits", "int_waits");
        story.held("corr_again", "int_again");
        story.approved("corr_again", "int_again");
        story.tell(story.about(EventType::ActionExecuting, "corr_again", "int_again").with("digest", "d-corr_again"));
        story.tell(story.about(EventType::ActionFailed, "corr_again", "int_again").with("sent", false));
        story.executed("corr_again", "int_again");
        story.tell(Draft::new(EventType::RequestRefused).with("code", "ambiguous").with("count", 3));
        story
    }

    pub(crate) fn live(&self, correlation: &str) {
        self.tell(self.request(EventType::DecisionAllowed, correlation));
        let executed = Draft::new(EventType::ActionExecuted).correlation(correlation).agent("crawler");
        self.tell(executed.destination("stripe.refunds").with("sent", true).with("status", 200));
    }

    pub(crate) fn held(&self, correlation: &str, intent: &str) {
        self.tell(self.request(EventType::DecisionApprovalRequired, correlation).intent(intent).with("approvals", 1));
    }

    pub(crate) fn approved(&self, correlation: &str, intent: &str) {
        let vote = self.about(EventType::ApprovalVote, correlation, intent).with("operator", "bob");
        self.tell(
            vote.with("verdict", "approve").with("digest", format!("d-{correlation}")).with("rationale", "<seen>"),
        );
        self.tell(self.about(EventType::ApprovalGranted, correlation, intent));
    }

    pub(crate) fn executed(&self, correlation: &str, intent: &str) {
        let executing = self.about(EventType::ActionExecuting, correlation, intent);
        self.tell(executing.with("digest", format!("d-{correlation}")));
        self.tell(self.about(EventType::ActionExecuted, correlation, intent).with("sent", true).with("status", 201));
    }

    pub(crate) fn about(&self, kind: EventType, correlation: &str, intent: &str) -> Draft {
        Draft::new(kind).correlation(correlation).intent(intent).agent("crawler").destination("stripe.refunds")
    }

    pub(crate) fn request(&self, kind: EventType, correlation: &str) -> Draft {
        let draft = Draft::new(kind).correlation(correlation).agent("crawler").action("http.post").run("run_1");
        let draft =
            draft.destination("stripe.refunds").with("method", "POST").with("path", "/v1/refunds?&\"<é\u{1f600}");
        let draft = draft.with("authority", "https://api.stripe.com").with("digest", format!("d-{correlation}"));
        let draft = draft.with("rules", json!([{"rule": "refunds/over", "verdict": "hold", "reason": "1 \u{7} > 0"}]));
        draft.with("policy_hash", self.texts[0].as_str()).with("destinations_hash", self.texts[1].as_str())
    }

    pub(crate) fn tell(&self, draft: Draft) {
        drop(self.ledger.append_blocking(vec![draft]).unwrap());
    }

    pub(crate) fn bundle(&self, scope: Scope) -> Vec<u8> {
        self.export(&Order { scope, held: None }).unwrap()
    }

    pub(crate) fn export(&self, order: &Order) -> Result<Vec<u8>, ExportError> {
        let mut bytes = Vec::new();
        Bundle::gather(&self.ledger, order)?.write(&mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn key(&self) -> String {
        self.signer.verifier().to_string()
    }
}

/// Scopes of every kind that select something of [`Story::whole`].
pub(crate) fn scopes(story: &Story) -> Vec<Scope> {
    let lines = story.ledger.events(&ledger::Query::default()).unwrap();
    let ts = |seq: usize| {
        let event: serde_json::Value = serde_json::from_str(&lines[seq]).unwrap();
        Some(event["ts"].as_str().unwrap().to_owned())
    };
    let text = |text: &str| Some(text.to_owned());
    vec![
        Scope::default(),
        Scope { correlation: text("corr_live"), ..Scope::default() },
        Scope { correlation: text("corr_denied"), ..Scope::default() },
        Scope { intent: text("int_held"), ..Scope::default() },
        Scope { agent: text("crawler"), destination: text("stripe.refunds"), ..Scope::default() },
        Scope { since: ts(7), ..Scope::default() },
        Scope { until: ts(9), ..Scope::default() },
        Scope { since: ts(7), until: ts(14), ..Scope::default() },
        Scope { since: ts(7), until: ts(14), agent: text("crawler"), ..Scope::default() },
    ]
}

/// The journal's files, joined.
pub(crate) fn journal(dir: &Path) -> Vec<u8> {
    let mut files: Vec<PathBuf> = dir.join("events").read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().flat_map(|file| std::fs::read(file).unwrap()).collect()
}
