//! `writ witness`: cosigns the checkpoints of ledgers elsewhere. On another machine than the gate, run by somebody else.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Args;
use jiff::Timestamp;
use ledger::note::Verifier;
use ledger::witness::{Refused, Witness};
use tokio::net::TcpListener;

use super::{Exit, say};

/// What to witness, and where.
#[derive(Args, Debug)]
pub(super) struct Serve {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:4005")]
    listen: SocketAddr,
    /// Folder for its key and for what it has seen; made if it is not there
    #[arg(long)]
    dir: PathBuf,
    /// Its name, such as example.com/witness
    #[arg(long)]
    name: String,
    /// Public key of a ledger it knows; may be given more than once
    #[arg(long = "log", required = true)]
    logs: Vec<String>,
}

/// Serves until it is stopped.
pub(super) async fn serve(what: &Serve) -> Result<Exit> {
    let logs = what.logs.iter().map(|key| Verifier::parse(key)).collect::<Result<_, _>>()?;
    let witness = Arc::new(Witness::open(&what.dir, &what.name, logs)?);
    let listener = TcpListener::bind(what.listen).await.with_context(|| format!("cannot listen at {}", what.listen))?;
    say(&format!("witness at http://{}", listener.local_addr()?));
    say(&format!("key {}", witness.key()));
    let door = Router::new()
        .route("/add-checkpoint", post(add))
        .route("/health", get(|| async { "ok\n" }))
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(witness);
    axum::serve(listener, door).with_graceful_shutdown(stopped()).await?;
    Ok(Exit::Ok)
}

async fn add(State(witness): State<Arc<Witness>>, request: Bytes) -> Response {
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
    let answer = tokio::task::spawn_blocking(move || witness.add(&request, now)).await;
    let refused = match answer {
        Ok(Ok(lines)) => return ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], lines).into_response(),
        Ok(Err(refused)) => refused,
        Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    };
    tracing::warn!(%refused, "not cosigned");
    let status = match &refused {
        Refused::Conflict(size) => {
            let kind = [(header::CONTENT_TYPE, "text/x.tlog.size")];
            return (StatusCode::CONFLICT, kind, format!("{size}\n")).into_response();
        }
        Refused::Forbidden => StatusCode::FORBIDDEN,
        Refused::Malformed(_) => StatusCode::BAD_REQUEST,
        Refused::Storage(_) => StatusCode::INTERNAL_SERVER_ERROR,
        Refused::Unknown => StatusCode::NOT_FOUND,
        Refused::Unproved => StatusCode::UNPROCESSABLE_ENTITY,
    };
    (status, format!("{refused}\n")).into_response()
}

async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

/// A checkpoint and 63 hashes are far below this.
const MAX_REQUEST: usize = 128 * 1024;
