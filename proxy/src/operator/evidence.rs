//! Evidence over the operator door: bundles as they are made, never held in memory whole.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use ledger::evidence::{Bundle, ExportError, Order, Scope};
use ledger::note::Note;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::{Fault, internal};
use crate::gate::Gate;

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
        let signer = match ledger::signing_key(&gate.config.home.data()) {
            Ok(signer) => signer,
            Err(error) => return drop(begun.send(Err(internal(&error)))),
        };
        let bundle = match Bundle::gather(&gate.ledger, &signer, &order) {
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
        ExportError::Entry { .. } | ExportError::Read(_) | ExportError::Write(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Fault(status, error.to_string())
}

/// Bytes handed on at once.
const PIECE_BYTES: usize = 64 * 1024;
