//! `writ demo`: the whole story in a few seconds, offline, in a home of its own that is gone afterwards.
//!
//! A local HTTPS upstream, a gate in front of it, and a real HTTP client process. Everything that is printed was
//! observed, and the command succeeds only if all of it was so.

use std::convert::Infallible;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

use crate::config::Config;
use crate::door::Door;
use crate::drain;
use crate::hold;
use crate::home::Home;
use crate::id;
use crate::setup::{self, FIRST_AGENT};
use crate::up::{self, Running};

/// A request as the upstream saw it.
#[derive(Clone, Debug)]
struct Hit {
    line: String,
    credential: String,
    body: String,
}

/// The upstream's memory.
type Hits = Arc<Mutex<Vec<Hit>>>;

/// The client's side: which proxy, which roots.
struct Client {
    proxy: String,
    bundle: PathBuf,
}

/// What the client got.
struct Got {
    status: u16,
    body: Value,
}

/// Runs the demonstration.
///
/// # Errors
/// The first thing that was not as it should be.
pub async fn run() -> Result<()> {
    let folder = std::env::temp_dir().join(id::fresh("writ-demo-")?);
    let result = play(&folder).await;
    let removed = fs::remove_dir_all(&folder);
    result?;
    removed.with_context(|| format!("cannot remove `{}`", folder.display()))
}

async fn play(folder: &Path) -> Result<()> {
    let home = Home::locate(Some(&folder.join("home")))?;
    let hits = Hits::default();
    setup::create(&home)?;
    let upstream = upstream(&folder.join("upstream-ca"), Arc::clone(&hits)).await?;
    configure(&home, &folder.join("upstream-ca").join("root.pem"), upstream)?;
    let running = up::start(Config::load(home.clone())?).await?;
    let token = fs::read_to_string(home.agent_token(FIRST_AGENT))?;
    let client = Client { proxy: setup::proxy_url(FIRST_AGENT, token.trim(), running.forward), bundle: home.bundle() };
    say("A payment API runs on this machine, a gate in front of it, and curl is the agent.\n")?;
    allowed(&client, &hits).await?;
    denied(&client, &hits).await?;
    held(&client, &hits, &running).await?;
    let gate = running.gate;
    drain::shut_down(gate, std::future::pending()).await;
    let verified = ledger::verify(&home.data())?;
    say(&format!(
        "5. The ledger verifies: {} entries, head {}…",
        verified.entries,
        verified.head_hash.get(..16).unwrap_or_default()
    ))?;
    say("\nNo writ, no write. `writ up` starts a gate of your own.")
}

async fn allowed(client: &Client, hits: &Hits) -> Result<()> {
    let got = client.request(&["-d", "amount=1200&charge=ch_1", REFUNDS]).await?;
    let hit = last(hits, 1)?;
    ensure!(got.status == 200 && hit.line == "POST /v1/refunds", "the small refund was answered {}", got.status);
    ensure!(hit.credential == format!("Bearer {SECRET}"), "the upstream did not see the credential");
    ensure!(!got.body.to_string().contains(SECRET), "the agent saw the credential");
    say("1. A refund of 12.00 → 200. The policy allows up to 50.00.")?;
    say("   The API saw one request, with a key that the agent has never seen.\n")
}

async fn denied(client: &Client, hits: &Hits) -> Result<()> {
    let got = client.request(&["-X", "DELETE", "https://payments.example/v1/customers/7"]).await?;
    last(hits, 1)?;
    ensure!(got.status == 403, "the deletion was answered {}", got.status);
    say("2. Delete a customer → 403. No destination allows it; the API saw nothing.")?;
    say(&format!("   The agent reads: {}\n", text(&got.body, "detail")))
}

async fn held(client: &Client, hits: &Hits, running: &Running) -> Result<()> {
    let got = client.request(&["-d", "amount=990000&charge=ch_1", REFUNDS]).await?;
    last(hits, 1)?;
    let intent = text(&got.body, "intentId");
    ensure!(got.status == 202 && id::is_intent(&intent), "the large refund was answered {}", got.status);
    say(&format!("3. A refund of 9,900.00 → 202, held as {intent}. The API saw nothing."))?;
    say(&format!("   The agent reads: {}\n", text(&got.body, "reason")))?;

    approve(running, &intent).await?;
    let settled = hold::wait(&running.gate, &intent, 20).await.context("the intent is gone")?;
    ensure!(settled.state == ledger::State::Succeeded, "after the approval the intent is {:?}", settled.state);
    let hit = last(hits, 2)?;
    ensure!(hit.body == "amount=990000&charge=ch_1", "the API saw another body than the one approved");
    let again = client.request(&[&format!("http://writ.internal/v1/intents/{intent}/response")]).await?;
    ensure!(
        again.status == 200 && text(&again.body, "refund") == "re_2",
        "the stored reply was {} {}",
        again.status,
        again.body
    );
    last(hits, 2)?;
    say("4. A person approves: the stored request is sent, once, byte for byte.")?;
    say(&format!("   The agent fetches the reply that waited for it: {}\n", again.body))
}

/// As `writ approve` does it, over the operator door.
async fn approve(running: &Running, intent: &str) -> Result<()> {
    let token = fs::read_to_string(running.gate.config.home.operator_token())?;
    let door = Door::at(running.operator, token.trim());
    let page = format!("/v1/intents/{intent}");
    let shown = door.ask(Method::GET, &page, None).await?;
    let field = |key: &str| shown.pointer(&format!("/request/{key}")).cloned().unwrap_or_default();
    let vote = json!({"rationale": "the customer returned everything", "digest": field("digest"), "reasons": field("reasons")});
    door.ask(Method::POST, &format!("{page}/approve"), Some(&vote)).await.map(|_| ())
}

// === impl Client ===

impl Client {
    /// Runs curl and reads its answer.
    async fn request(&self, arguments: &[&str]) -> Result<Got> {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20", "--noproxy", "", "--proxy", &self.proxy, "--cacert"])
            .arg(&self.bundle)
            .args(["--write-out", "\n%{http_code}"])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .await
            .context("cannot run curl; install it to see the demonstration")?;
        if !output.status.success() {
            bail!("curl failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').context("curl printed nothing")?;
        Ok(Got { status: status.parse()?, body: serde_json::from_str(body).context("the answer is not JSON")? })
    }
}

/// A small HTTPS API with a certificate of its own authority.
async fn upstream(ca: &Path, hits: Hits) -> Result<SocketAddr> {
    let issuer = ca::Issuer::new(ca::Root::create(ca, "Demo upstream")?, 4);
    let mut config = issuer.server_config(&ca::Name::dns(HOST)?)?.as_ref().clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(acceptor.clone(), stream, Arc::clone(&hits)));
        }
    });
    Ok(address)
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, hits: Hits) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(move |request| reply(request, Arc::clone(&hits)));
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "the demonstration's upstream lost a connection");
    }
}

async fn reply(request: Request<Incoming>, hits: Hits) -> Result<Response<Full<Bytes>>, Infallible> {
    let line = format!("{} {}", request.method(), request.uri().path());
    let credential =
        request.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut seen = hits.lock().unwrap_or_else(PoisonError::into_inner);
    seen.push(Hit { line, credential, body: String::from_utf8_lossy(&body).into_owned() });
    let refund = json!({"refund": format!("re_{}", seen.len()), "status": "succeeded"});
    Ok(Response::new(Full::new(Bytes::from(refund.to_string()))))
}

/// Replaces the starter files by the demonstration's own.
fn configure(home: &Home, roots: &Path, upstream: SocketAddr) -> Result<()> {
    let secret = home.path().join("payments.key");
    crate::principal::write_private(&secret, SECRET.as_bytes())?;
    for file in home.policy_files()? {
        fs::remove_file(file)?;
    }
    let files = [
        (
            home.config(),
            format!(
                "doors: {{ forward: '127.0.0.1:0', operator: '127.0.0.1:0' }}\nupstream:\n  connect_to: {{ '{HOST}:443': '{upstream}' }}\n"
            ),
        ),
        (home.destinations(), DESTINATIONS.replace("ROOTS", &roots.display().to_string())),
        (home.credentials(), CREDENTIALS.replace("SECRET", &secret.display().to_string())),
        (home.policies().join("refunds.yaml"), POLICY.to_owned()),
    ];
    for (path, text) in files {
        crate::principal::write_private(&path, text.as_bytes())?;
    }
    Ok(())
}

/// The newest hit, when there were exactly `expected` so far.
fn last(hits: &Hits, expected: usize) -> Result<Hit> {
    let seen = hits.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(seen.len() == expected, "the upstream saw {} requests, {expected} were due", seen.len());
    seen.last().cloned().context("the upstream saw nothing")
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn say(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

const HOST: &str = "payments.example";
const REFUNDS: &str = "https://payments.example/v1/refunds";
const SECRET: &str = "sk_demo_4242";

const DESTINATIONS: &str = "destinations:
  - key: payments.refunds
    match: { host: payments.example, methods: [POST], path: /v1/refunds }
    effect: payment
    policy: refunds
    credential: payments
    roots: 'ROOTS'
    measure: { amount: 'form:amount' }
";

const CREDENTIALS: &str = "credentials:
  payments:
    secret: 'file://SECRET'
    hosts: [payments.example]
    inject: { bearer: '{secret}' }
";

const POLICY: &str = "id: refunds
destinations: [payments.refunds]
auto_approve_under: { amount: 5000 }
require_approval_over: { amount: 5000 }
";
