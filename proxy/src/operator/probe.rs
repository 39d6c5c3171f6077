//! What probes, load balancers and Prometheus ask. None of it says anything about a request.
//!
//! These pages answer under any name: a kubelet or a scraper asks the address it found. Without a token they tell no
//! more than whether the gate serves and why not.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus::TEXT_FORMAT;
use serde_json::{Value, json};

use super::{Fault, internal};
use crate::gate::Gate;
use crate::health::{self, Ailment};
use crate::metrics;

/// Whether a restart would help: it would when the ledger is closed.
pub(super) async fn health(Shared(gate): Shared<Arc<Gate>>) -> Result<Json<Value>, Fault> {
    match gate.ledger.latched() {
        None => Ok(Json(json!({"status": "ok"}))),
        Some(why) => Err(Fault(StatusCode::SERVICE_UNAVAILABLE, why)),
    }
}

/// Whether requests should be sent here, and everything that is wrong.
pub(super) async fn ready(Shared(gate): Shared<Arc<Gate>>) -> Response {
    let ailments = health::ailments(&gate);
    let stops = ailments.iter().any(Ailment::stops);
    let status = if stops { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(health::document(&ailments))).into_response()
}

/// One scrape, for any operator.
pub(super) async fn scrape(Shared(gate): Shared<Arc<Gate>>) -> Result<Response, Fault> {
    let text = tokio::task::spawn_blocking(move || metrics::text(&gate)).await;
    let text = text.map_err(|error| internal(&error))?.map_err(|error| internal(&error))?;
    Ok(([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response())
}
