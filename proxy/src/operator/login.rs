//! Coming in with a browser: a token buys a code in the terminal, the code buys a session in the browser.
//!
//! No token is ever in a URL, a page or a cookie.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse};
use axum::{Extension, Json};
use ledger::{Draft, EventType};
use serde::Deserialize;
use serde_json::{Value, json};

use super::guard::{self, Cookie, Guard};
use super::session::Closed;
use super::{Fault, append, internal};
use crate::principal::{Kind, Principal, Standing};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Code {
    code: String,
}

/// A code for the operator who asks.
pub(super) async fn invite(
    Extension(guard): Extension<Arc<Guard>>,
    Extension(operator): Extension<Principal>,
) -> Result<Json<Value>, Fault> {
    let code = guard.sessions.invite(&operator.name).map_err(|error| internal(&error))?;
    let url = guard.names.first().map(|name| format!("http://{name}/ui/login"));
    Ok(Json(json!({"code": code, "url": url, "operator": operator.name})))
}

/// A session for whoever brings a code. It is on the ledger before it exists.
pub(super) async fn open(
    Shared(guard): Shared<Arc<Guard>>,
    headers: HeaderMap,
    Json(given): Json<Code>,
) -> Result<impl IntoResponse, Fault> {
    if !guard::is_from_own_page(&headers) {
        return Err(Fault(StatusCode::FORBIDDEN, "log in on the page of this door".to_owned()));
    }
    let opened = guard.sessions.open(&given.code).map_err(|error| internal(&error))?;
    let (operator, cookie) = opened.map_err(|closed| match closed {
        Closed::TooMany => Fault(
            StatusCode::TOO_MANY_REQUESTS,
            "too many wrong codes; wait a minute, then take a fresh one".to_owned(),
        ),
        Closed::Wrong => {
            let why = "this code opens nothing; `writ login` prints one that works once within two minutes";
            Fault(StatusCode::UNAUTHORIZED, why.to_owned())
        }
    })?;
    let known = guard.gate.principals.named(Kind::Operator, &operator);
    let login = Draft::new(EventType::OperatorLogin).with("operator", operator.as_str());
    let recorded = match known.filter(|operator| operator.standing == Standing::Active) {
        Some(_) => append(&guard.gate, vec![login]).await,
        None => Err(Fault(StatusCode::UNAUTHORIZED, "this operator was revoked".to_owned())),
    };
    if let Err(fault) = recorded {
        guard.sessions.end(&cookie);
        return Err(fault);
    }
    let cookie = format!("{}={cookie}; HttpOnly; SameSite=Strict; Path=/; Max-Age=28800", guard::COOKIE);
    Ok((AppendHeaders([(header::SET_COOKIE, cookie)]), Json(json!({"operator": operator}))))
}

/// Ends the session that asks.
pub(super) async fn end(
    Extension(guard): Extension<Arc<Guard>>,
    cookie: Option<Extension<Cookie>>,
) -> impl IntoResponse {
    if let Some(Extension(Cookie(cookie))) = cookie {
        guard.sessions.end(&cookie);
    }
    let gone = format!("{}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0", guard::COOKIE);
    (AppendHeaders([(header::SET_COOKIE, gone)]), Json(json!({"status": "ended"})))
}
