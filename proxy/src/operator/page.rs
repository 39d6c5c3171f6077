//! The pages of the operator door. Everything they show is read here; everything they change goes through the same
//! calls as the command line.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::Router;
use axum::extract::{Path, State as Shared};
use axum::http::header;
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;
use jiff::Timestamp;
use ledger::{Head, State};

use super::card::{Card, Content};
use super::frame::{Frame, shown};
use super::{Fault, known, runs, standings, switches};
use crate::gate::Gate;
use crate::principal::{Kind, Principal, Role, Standing};

#[derive(Template)]
#[template(path = "approvals.html")]
struct ApprovalsPage {
    frame: Frame,
    cards: Vec<Card>,
    more: usize,
}

#[derive(Template)]
#[template(path = "cards.html")]
struct CardsPage {
    cards: Vec<Card>,
    more: usize,
}

#[derive(Template)]
#[template(path = "intent.html")]
struct IntentPage {
    frame: Frame,
    card: Card,
}

#[derive(Template)]
#[template(path = "agents.html")]
struct AgentsPage {
    frame: Frame,
    agents: Vec<Principal>,
    operators: Vec<Principal>,
    admin: bool,
}

#[derive(Template)]
#[template(path = "rules.html")]
struct RulesPage {
    frame: Frame,
    title: &'static str,
    tried: Vec<Tried>,
    destinations: Vec<Row>,
    files: Vec<RuleFile>,
}

/// A policy that is not enforced for the time being.
struct Tried {
    policy: String,
    until: Timestamp,
}

/// A destination in short.
struct Row {
    key: String,
    effect: String,
    hosts: String,
    policy: String,
    credential: String,
}

/// A configuration file in force.
struct RuleFile {
    name: String,
    hash: String,
    text: String,
}

#[derive(Template)]
#[template(path = "credentials.html")]
struct CredentialsPage {
    frame: Frame,
    credentials: Vec<Use>,
}

/// A credential: where its secret is, where it may go, and for which destinations.
struct Use {
    name: String,
    reference: String,
    hosts: String,
    users: String,
}

#[derive(Template)]
#[template(path = "ledger.html")]
struct LedgerPage {
    frame: Frame,
    head: Head,
    latched: Option<String>,
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage;

/// The pages for operators.
pub(super) fn routes() -> Router<Arc<Gate>> {
    Router::new()
        .route("/ui", get(Redirect::to("/ui/approvals")))
        .route("/ui/approvals", get(approvals))
        .route("/ui/approvals/cards", get(cards))
        .route("/ui/approvals/{id}", get(intent))
        .route("/ui/runs", get(runs::list))
        .route("/ui/runs/{correlation}", get(runs::one))
        .route("/ui/standings", get(standings::page))
        .route("/ui/switches", get(switches::page))
        .route("/ui/agents", get(agents))
        .route("/ui/destinations", get(destinations))
        .route("/ui/policies", get(policies))
        .route("/ui/credentials", get(credentials))
        .route("/ui/ledger", get(ledger))
}

/// What a browser needs before anybody has logged in.
pub(super) fn public() -> Router<Arc<Gate>> {
    let asset =
        |kind: &'static str, text: &'static str| get(move || async move { ([(header::CONTENT_TYPE, kind)], text) });
    Router::new()
        .route("/", get(Redirect::to("/ui/approvals")))
        .route("/ui/login", get(login))
        .route("/ui/style.css", asset("text/css; charset=utf-8", include_str!("../../pages/style.css")))
        .route("/ui/writ.js", asset("text/javascript; charset=utf-8", include_str!("../../pages/writ.js")))
        .route("/ui/icon.svg", asset("image/svg+xml", include_str!("../../pages/icon.svg")))
}

async fn login() -> Result<impl IntoResponse, Fault> {
    shown(&LoginPage)
}

async fn approvals(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
) -> Result<impl IntoResponse, Fault> {
    let (cards, more) = waiting(&gate, &operator).await;
    shown(&ApprovalsPage { frame: Frame::of(&gate, &operator, "approvals"), cards, more })
}

async fn cards(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
) -> Result<impl IntoResponse, Fault> {
    let (cards, more) = waiting(&gate, &operator).await;
    shown(&CardsPage { cards, more })
}

/// What waits, the one that expires first on top, and how many more there are than are shown.
async fn waiting(gate: &Gate, operator: &Principal) -> (Vec<Card>, usize) {
    let mut intents = gate.ledger.intents(&[State::Held, State::Approved, State::Unknown], usize::MAX);
    intents.sort_by_key(|intent| crate::hold::text(&intent.opened.data, "expires_at"));
    let more = intents.len().saturating_sub(CARDS);
    intents.truncate(CARDS);
    let mut cards = Vec::with_capacity(intents.len());
    for intent in &intents {
        cards.push(Card::of(gate, operator, intent, CARD_BODY_BYTES).await);
    }
    (cards, more)
}

async fn intent(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Fault> {
    let card = Card::of(&gate, &operator, &known(&gate, &id)?, PAGE_BODY_BYTES).await;
    shown(&IntentPage { frame: Frame::of(&gate, &operator, "approvals"), card })
}

async fn agents(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
) -> Result<impl IntoResponse, Fault> {
    shown(&AgentsPage {
        frame: Frame::of(&gate, &operator, "agents"),
        agents: gate.principals.list(Kind::Agent),
        operators: gate.principals.list(Kind::Operator),
        admin: operator.role >= Some(Role::Admin),
    })
}

async fn destinations(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
) -> Result<impl IntoResponse, Fault> {
    let rulebook = gate.rulebook();
    let destinations = rulebook.rules.destinations().map(|destination| Row {
        key: destination.key.clone(),
        effect: destination.effect.to_string().replace('_', " "),
        hosts: destination.hosts().collect::<Vec<_>>().join(", "),
        policy: destination.policy.clone(),
        credential: destination.credential.clone().unwrap_or_default(),
    });
    shown(&RulesPage {
        frame: Frame::of(&gate, &operator, "destinations"),
        title: "Destinations",
        tried: tried(&gate),
        destinations: destinations.collect(),
        files: files(&gate).into_iter().take(1).collect(),
    })
}

async fn policies(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
) -> Result<impl IntoResponse, Fault> {
    shown(&RulesPage {
        frame: Frame::of(&gate, &operator, "policies"),
        title: "Policies",
        tried: tried(&gate),
        destinations: Vec::new(),
        files: files(&gate).into_iter().skip(1).collect(),
    })
}

async fn credentials(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
) -> Result<impl IntoResponse, Fault> {
    let rulebook = gate.rulebook();
    let users = |name: &str| {
        let users = rulebook.rules.destinations().filter(|each| each.credential.as_deref() == Some(name));
        users.map(|each| each.key.as_str()).collect::<Vec<_>>().join(", ")
    };
    let credentials = rulebook.credentials.iter().map(|(name, credential)| Use {
        name: name.clone(),
        reference: credential.place.reference().to_string(),
        hosts: credential.hosts().join(", "),
        users: users(name),
    });
    shown(&CredentialsPage { frame: Frame::of(&gate, &operator, "credentials"), credentials: credentials.collect() })
}

/// The policies whose holds and denials are sent all the same.
fn tried(gate: &Gate) -> Vec<Tried> {
    let rulebook = gate.rulebook();
    let tried = rulebook.rules.not_enforced(Timestamp::now());
    tried.map(|(policy, until)| Tried { policy: policy.to_owned(), until }).collect()
}

/// The files in force, destinations first.
fn files(gate: &Gate) -> Vec<RuleFile> {
    let short = |name: &str| std::path::Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let rulebook = gate.rulebook();
    let texts = rulebook.rules.texts();
    texts
        .map(|(hash, text, name)| RuleFile { name: short(name), hash: hash.to_owned(), text: text.to_owned() })
        .collect()
}

async fn ledger(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
) -> Result<impl IntoResponse, Fault> {
    shown(&LedgerPage {
        frame: Frame::of(&gate, &operator, "ledger"),
        head: gate.ledger.head(),
        latched: gate.ledger.latched(),
    })
}

/// Cards on one page.
const CARDS: usize = 50;

/// Bytes of a body on a card.
const CARD_BODY_BYTES: usize = 4 * 1024;

/// Bytes of a body on the page of its intent.
const PAGE_BODY_BYTES: usize = 256 * 1024;
