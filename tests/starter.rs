//! The starter configuration, as `writ init` writes it, in front of the services it is made for: which request goes
//! out, which waits, which is refused, and whose credential arrives.

use data_encoding::BASE64;
use writ::setup;

use crate::harness::agent::{Agent, Response};
use crate::harness::gate::{Gate, PATIENCE, Plan, within};
use crate::harness::origin::{Hit, Origin};
use crate::harness::world;

/// One request of an agent, and what is meant to become of it.
struct Call {
    what: &'static str,
    method: &'static str,
    url: &'static str,
    kind: &'static str,
    body: String,
    meant: Meant,
    /// The header that must arrive, with the credential of the gate; none when nothing is to arrive.
    credential: Option<(&'static str, String)>,
}

/// What is meant to become of a request.
#[derive(Clone, Copy)]
enum Meant {
    Allow,
    Deny(&'static str),
    Hold,
}

#[test]
fn each_service_gets_what_the_starter_configuration_means_for_it() {
    let origin = Origin::https(HOSTS);
    let gate = starter(&origin).start();
    let agent = gate.agent();
    let mut held = Vec::new();
    for call in calls() {
        let before = origin.hits().len();
        let answer = call.send(&agent);
        let fresh = origin.hits().split_off(before);
        match call.meant {
            Meant::Allow => {
                assert_eq!((answer.status, fresh.len()), (200, 1), "{}: {answer:?}", call.what);
                call.assert_credential(&fresh[0]);
            }
            Meant::Deny(rule) => {
                assert_eq!((answer.status, fresh.len()), (403, 0), "{}: {answer:?}", call.what);
                assert_eq!(answer.text_at("/rule"), rule, "{}", call.what);
            }
            Meant::Hold => {
                // git is told in its own protocol, under another status.
                assert_eq!(
                    (answer.header("writ-decision"), fresh.len()),
                    (Some("hold"), 0),
                    "{}: {answer:?}",
                    call.what
                );
                held.push((answer.header("writ-intent-id").unwrap().to_owned(), call));
            }
        }
    }
    for (intent, call) in held {
        let before = origin.hits().len();
        gate.approve(&intent);
        assert_eq!(agent.settled(&intent), "succeeded", "{}", call.what);
        let fresh = origin.hits().split_off(before);
        assert_eq!(fresh.len(), 1, "{}", call.what);
        assert_eq!(fresh[0].body, call.body.as_bytes(), "{}", call.what);
        call.assert_credential(&fresh[0]);
    }
    assert!(!format!("{:?}{}", gate.events(), gate.log()).contains(CANARY), "a credential was recorded or logged");
    gate.assert_verifies();
}

#[test]
fn a_git_push_waits_on_its_connection_for_the_vote() {
    let origin = Origin::https(HOSTS);
    let gate = starter(&origin).start();
    let agent = gate.agent();
    let headers = [("content-type", "application/x-git-receive-pack-request")];
    let mut push = agent.begin("POST", "https://github.com/o/r.git/git-receive-pack", &headers, b"0000PACK\0\xff");
    let intent = waiting(&gate);
    assert_eq!(origin.hits().len(), 0);
    gate.approve(&intent);
    assert_eq!(push.answer().unwrap().status, 200);
    let hits = origin.hits();
    assert_eq!((hits.len(), hits[0].body.as_slice()), (1, b"0000PACK\0\xff".as_slice()));
}

// === impl Call ===

impl Call {
    /// Sends it as an agent that brings credentials of its own, none of which may arrive.
    fn send(&self, agent: &Agent) -> Response {
        let own = [
            ("content-type", self.kind),
            ("authorization", OWN),
            ("x-api-key", OWN),
            ("cookie", OWN),
            ("prefer", "wait=0"),
        ];
        agent.request(self.method, self.url, &own, self.body.as_bytes())
    }

    fn assert_credential(&self, hit: &Hit) {
        let (name, value) = self.credential.as_ref().unwrap();
        assert_eq!(hit.header(name), Some(value.as_str()), "{}", self.what);
        assert!(!String::from_utf8_lossy(&hit.raw).contains(OWN), "{}: the agent's own credential arrived", self.what);
    }
}

/// A home with the starter files, whose services are all played by `origin`.
fn starter(origin: &Origin) -> Plan {
    let plan = world::POLICIES.iter().fold(Plan::new(), |plan, (id, _)| plan.without(&format!("policies/{id}.yaml")));
    // The doors are those of the test; `writ.yaml` itself is checked with the other examples.
    let files = setup::starter_files().filter(|(path, _)| path.to_str() != Some("writ.yaml"));
    let plan = files.fold(plan, |plan, (path, text)| plan.file(path.to_str().unwrap(), text));
    let plan = HOSTS.iter().fold(plan, |plan, host| plan.origin(host, origin));
    VARIABLES.iter().fold(plan, |plan, name| plan.variable(name, &secret(name)))
}

/// The one intent that waits for a vote.
fn waiting(gate: &Gate) -> String {
    let find = || gate.events_called("decision.approval_required").pop();
    let held = within(PATIENCE, find).unwrap_or_else(|| panic!("nothing waits:\n{}", gate.log()));
    held["intent_id"].as_str().unwrap().to_owned()
}

fn secret(variable: &str) -> String {
    format!("{CANARY}-{}", variable.to_ascii_lowercase())
}

fn bearer(variable: &str) -> Option<(&'static str, String)> {
    Some(("authorization", format!("Bearer {}", secret(variable))))
}

fn basic(user: &str, password: &str) -> Option<(&'static str, String)> {
    Some(("authorization", format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes()))))
}

fn records(list: &str, count: usize) -> String {
    format!(r#"{{"{list}":[{}]}}"#, vec![r#"{"name":"Ada"}"#; count].join(","))
}

#[rustfmt::skip]
fn calls() -> Vec<Call> {
    use Meant::{Allow, Deny, Hold};
    let row = |what, method, url, kind, body: &str, meant, credential| {
        Call { what, method, url, kind, body: body.to_owned(), meant, credential }
    };
    let stripe = || basic(&secret("STRIPE_API_KEY"), "");
    let git = || basic("x-access-token", &secret("GITHUB_TOKEN"));
    vec![
        row("a completion", "POST", "https://api.openai.com/v1/chat/completions", JSON, r#"{"model":"m"}"#, Allow, bearer("OPENAI_API_KEY")),
        row("a fine-tuning job", "POST", "https://api.openai.com/v1/fine_tuning/jobs", JSON, "{}", Deny(UNKNOWN), None),
        row("a message", "POST", "https://api.anthropic.com/v1/messages", JSON, r#"{"model":"m"}"#, Allow, Some(("x-api-key", secret("ANTHROPIC_API_KEY")))),
        row("charges", "GET", "https://api.stripe.com/v1/charges?limit=3", FORM, "", Allow, stripe()),
        row("a small refund", "POST", "https://api.stripe.com/v1/refunds", FORM, "charge=ch_1&amount=5000", Allow, stripe()),
        row("a large refund", "POST", "https://api.stripe.com/v1/refunds", FORM, "charge=ch_1&amount=5001", Hold, stripe()),
        row("a refund of everything", "POST", "https://api.stripe.com/v1/refunds", FORM, "charge=ch_1", Hold, stripe()),
        row("a refund with two amounts", "POST", "https://api.stripe.com/v1/refunds", FORM, "amount=1&amount=990000", Hold, stripe()),
        row("a customer", "POST", "https://api.stripe.com/v1/customers", FORM, "name=Ada", Deny(UNKNOWN), None),
        row("a repository", "GET", "https://api.github.com/repos/o/r", JSON, "", Allow, bearer("GITHUB_TOKEN")),
        row("an issue", "POST", "https://api.github.com/repos/o/r/issues", JSON, r#"{"title":"t"}"#, Hold, bearer("GITHUB_TOKEN")),
        row("a merge", "PUT", "https://api.github.com/repos/o/r/pulls/1/merge", JSON, "{}", Hold, bearer("GITHUB_TOKEN")),
        row("a deletion", "DELETE", "https://api.github.com/repos/o/r", JSON, "", Deny(UNKNOWN), None),
        row("git asks what there is", "GET", "https://github.com/o/r.git/info/refs?service=git-upload-pack", JSON, "", Allow, git()),
        row("git fetches", "POST", "https://github.com/o/r.git/git-upload-pack", "application/x-git-upload-pack-request", "0032want", Allow, git()),
        row("git pushes", "POST", "https://github.com/o/r.git/git-receive-pack", "application/x-git-receive-pack-request", "0000PACK", Hold, git()),
        row("channels", "GET", "https://slack.com/api/conversations.list", FORM, "", Allow, bearer("SLACK_BOT_TOKEN")),
        row("a chat message", "POST", "https://slack.com/api/chat.postMessage", JSON, r#"{"channel":"c","text":"hi"}"#, Hold, bearer("SLACK_BOT_TOKEN")),
        row("a promise", "POST", "https://slack.com/api/chat.postMessage", JSON, r#"{"text":"Refund guaranteed!"}"#, Deny("messages/block_if_terms"), None),
        row("a mail", "POST", "https://api.sendgrid.com/v3/mail/send", JSON, r#"{"subject":"s"}"#, Hold, bearer("SENDGRID_API_KEY")),
        row("a contact list", "GET", "https://api.hubapi.com/crm/v3/objects/contacts", JSON, "", Allow, bearer("HUBSPOT_TOKEN")),
        row("a hundred contacts", "POST", HUBSPOT, JSON, &records("inputs", 100), Allow, bearer("HUBSPOT_TOKEN")),
        row("a contact too many", "POST", HUBSPOT, JSON, &records("inputs", 101), Hold, bearer("HUBSPOT_TOKEN")),
        row("contacts as text", "POST", HUBSPOT, "text/csv", "name\nAda\n", Deny("crm/allowed_types"), None),
        row("a query", "GET", "https://acme.my.salesforce.com/services/data/v61.0/query?q=SELECT+Id+FROM+Lead", JSON, "", Allow, bearer("SALESFORCE_TOKEN")),
        row("a few leads", "POST", SALESFORCE, JSON, &records("records", 2), Allow, bearer("SALESFORCE_TOKEN")),
        row("many leads", "POST", SALESFORCE, JSON, &records("records", 200), Hold, bearer("SALESFORCE_TOKEN")),
    ]
}

const HOSTS: &[&str] = &[
    "acme.my.salesforce.com",
    "api.anthropic.com",
    "api.github.com",
    "api.hubapi.com",
    "api.openai.com",
    "api.sendgrid.com",
    "api.stripe.com",
    "github.com",
    "slack.com",
];

const VARIABLES: &[&str] = &[
    "ANTHROPIC_API_KEY",
    "GITHUB_TOKEN",
    "HUBSPOT_TOKEN",
    "OPENAI_API_KEY",
    "SALESFORCE_TOKEN",
    "SENDGRID_API_KEY",
    "SLACK_BOT_TOKEN",
    "STRIPE_API_KEY",
];

const HUBSPOT: &str = "https://api.hubapi.com/crm/v3/objects/contacts/batch/create";
const SALESFORCE: &str = "https://acme.my.salesforce.com/services/data/v61.0/composite/sobjects";

/// Begins every secret of the gate.
const CANARY: &str = "canary-6021";

/// What the agent would authenticate with by itself.
const OWN: &str = "agents-own-3377";

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const UNKNOWN: &str = "destination.unknown";
