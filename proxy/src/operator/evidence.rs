//! Evidence over the operator door: bundles as they are made, never held in memory whole.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use ledger::evidence::{Bundle, ExportError, Order, Scope};
use ledger::note::Note;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::{Fault, internal, require};
use crate::gate::Gate;
use crate::principal::{Principal, Role};

/// Scope of a bundle, and a checkpoint that the auditor has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportQuery {
    agent: Option<String>,
    correlation: Option<String>,
    destination: Option<String>,
    intent: Option<String>,
    since: Option<String>,
    until: Option<String>,
    checkpoint: Option<String>,
}

/// Where a bundle is written to: pieces for the body of an answer.
struct Pipe(mpsc::Sender<io::Result<Bytes>>);

/// A bundle of what was recorded so far.
pub(super) async fn export(
    Shared(gate): Shared<Arc<Gate>>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, Fault> {
    let order = query.order()?;
    let (pieces, body) = mpsc::channel(4);
    let (begun, begins) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let bundle = match Bundle::gather(&gate.ledger, &order) {
            Ok(bundle) => bundle,
            Err(error) => return drop(begun.send(Err(fault(&error)))),
        };
        // Whoever asked may be gone by now; then the first piece finds nobody.
        drop(begun.send(Ok(())));
        let written = bundle.write(BufWriter::with_capacity(PIECE_BYTES, Pipe(pieces.clone())));
        if let Err(error) = written {
            tracing::warn!(%error, "a bundle was not written to its end");
            // An error instead of an end: the reader must not take a part for the whole.
            drop(pieces.blocking_send(Err(io::Error::other("the bundle broke off"))));
        }
    });
    begins.await.map_err(|error| internal(&error))??;
    let headers = [
        (header::CONTENT_TYPE, "application/zip"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"evidence.zip\""),
    ];
    Ok((headers, Body::from_stream(ReceiverStream::new(body))).into_response())
}

/// What was recorded inside a scope, as one JSON file.
pub(super) async fn capsule(
    Shared(gate): Shared<Arc<Gate>>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, Fault> {
    let scope = query.order()?.scope;
    let capsule = blocking(move || gate.ledger.capsule(&scope)).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"capsule.json\""),
    ];
    Ok((headers, capsule).into_response())
}

/// The proof that one entry is in the ledger.
pub(super) async fn proof(Shared(gate): Shared<Arc<Gate>>, Path(seq): Path<u64>) -> Result<Response, Fault> {
    let proof = blocking(move || gate.ledger.proof(seq)).await?;
    proof
        .map(|proof| ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], proof).into_response())
        .ok_or_else(|| Fault(StatusCode::NOT_FOUND, format!("there is no entry {seq} yet")))
}

/// The newest checkpoint, with its cosignatures.
pub(super) async fn checkpoint(Shared(gate): Shared<Arc<Gate>>) -> Result<Response, Fault> {
    gate.ledger.checkpointed().await.map_err(|error| fault(&ExportError::Closed(error)))?;
    let note = gate.ledger.checkpoint().to_string();
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], note).into_response())
}

/// Signs with a new key from now on.
pub(super) async fn rotate_key(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
) -> Result<Json<Value>, Fault> {
    require(&operator, Role::Admin)?;
    let rotate = move || gate.ledger.rotate_key().map_err(ExportError::Closed);
    Ok(Json(json!({"key": blocking(rotate).await?.to_string()})))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ExportError> + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| internal(&error))?;
    done.map_err(|error| fault(&error))
}

// === impl ExportQuery ===

impl ExportQuery {
    fn order(self) -> Result<Order, Fault> {
        let bad = |why: String| Fault(StatusCode::BAD_REQUEST, why);
        let time = |text: Option<String>| text.map(|text| Scope::time(&text)).transpose();
        let scope = Scope {
            agent: self.agent,
            correlation: self.correlation,
            destination: self.destination,
            intent: self.intent,
            since: time(self.since).map_err(|why| bad(why.to_string()))?,
            until: time(self.until).map_err(|why| bad(why.to_string()))?,
        };
        let held = self.checkpoint.map(|note| Note::parse(note.as_bytes())).transpose();
        Ok(Order { scope, held: held.map_err(|why| bad(why.to_string()))? })
    }
}

// === impl Pipe ===

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn fault(error: &ExportError) -> Fault {
    let status = match error {
        ExportError::Held(_) | ExportError::Newer { .. } | ExportError::TooLarge(_) => StatusCode::BAD_REQUEST,
        ExportError::Nothing => StatusCode::NOT_FOUND,
        ExportError::Closed(_) => StatusCode::SERVICE_UNAVAILABLE,
        ExportError::Entry { .. } | ExportError::Make(_) | ExportError::Read(_) | ExportError::Write(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    Fault(status, error.to_string())
}

/// Bytes handed on at once.
const PIECE_BYTES: usize = 64 * 1024;
