//! Who may come in at the operator door, and from which pages.
//!
//! A token in a header proves itself. A browser sends its cookie for whatever page asks, so a session may change
//! something only from a page of this door. Never reads an agent's token as anything.

use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::Fault;
use super::chart::Counts;
use super::session::Sessions;
use crate::gate::Gate;
use crate::principal::{Kind, Principal, Role, Standing};

/// What the door needs to know about itself.
#[derive(Debug)]
pub(super) struct Guard {
    /// The gate, for its operators.
    pub(super) gate: Arc<Gate>,
    /// The names it is reached by: a page elsewhere whose name was pointed here sends another (DNS rebinding).
    pub(super) names: Vec<String>,
    /// Browser sessions.
    pub(super) sessions: Sessions,
    /// What past hours had, for the chart.
    pub(super) counts: Counts,
}

/// The cookie of the session that a request came with, so that it can be ended.
#[derive(Clone, Debug)]
pub(super) struct Cookie(pub(super) String);

/// Refuses other names than the door's own, and pages of other origins; puts what browsers must know on every answer.
pub(super) async fn enter(Shared(guard): Shared<Arc<Guard>>, request: Request, next: Next) -> Response {
    let host = text(request.headers(), header::HOST);
    if !guard.names.iter().any(|name| *name == host) {
        return Fault(StatusCode::MISDIRECTED_REQUEST, format!("`{host}` is not this door")).into_response();
    }
    let foreign = request.headers().get(header::ORIGIN).is_some_and(|origin| *origin != *format!("http://{host}"));
    if foreign {
        return Fault(StatusCode::FORBIDDEN, "this door answers to its own pages only".to_owned()).into_response();
    }
    let mut response = next.run(request).await;
    for (name, value) in ON_EVERY_ANSWER {
        response.headers_mut().entry(*name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Lets in an operator: by token, or by the cookie of a session.
pub(super) async fn identify(Shared(guard): Shared<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let token = text(request.headers(), header::AUTHORIZATION).strip_prefix("Bearer ").map(str::to_owned);
    let operator = match (token, cookie(request.headers())) {
        (Some(token), _) => guard.gate.principals.holder(Kind::Operator, &token),
        (None, Some(cookie)) => {
            if !is_look(request.method()) && !is_from_own_page(request.headers()) {
                let why = "a browser session changes things from the pages of this door only";
                return Fault(StatusCode::FORBIDDEN, why.to_owned()).into_response();
            }
            let operator = guard.sessions.operator(&cookie);
            request.extensions_mut().insert(Cookie(cookie));
            operator.and_then(|name| guard.gate.principals.named(Kind::Operator, &name))
        }
        (None, None) => None,
    };
    match operator.filter(|operator: &Principal| operator.standing == Standing::Active) {
        Some(operator) if operator.role == Some(Role::Scraper) && request.uri().path() != METRICS => {
            Fault(StatusCode::FORBIDDEN, "this token is for the metrics only".to_owned()).into_response()
        }
        Some(operator) => {
            request.extensions_mut().insert(operator);
            next.run(request).await
        }
        None if request.uri().path().starts_with("/ui") && is_look(request.method()) => {
            Redirect::to("/ui/login").into_response()
        }
        None => {
            let why = "an operator token is needed: `Authorization: Bearer writ_op_…`";
            Fault(StatusCode::UNAUTHORIZED, why.to_owned()).into_response()
        }
    }
}

/// Whether a change was asked for by a page of this door: a form elsewhere can neither set this header nor send JSON,
/// and `enter` has compared the origin.
pub(super) fn is_from_own_page(headers: &HeaderMap) -> bool {
    let json = text(headers, header::CONTENT_TYPE).split(';').next().is_some_and(|kind| kind == "application/json");
    json && headers.contains_key(OWN_PAGE) && headers.contains_key(header::ORIGIN)
}

fn is_look(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value.to_owned())
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The page with the metrics.
const METRICS: &str = "/metrics";

/// Name of the session's cookie.
pub(super) const COOKIE: &str = "writ_session";

/// What the pages of this door send with every change.
const OWN_PAGE: &str = "writ-page";

/// No script, style, frame or form from anywhere but here; nothing kept, nothing told to others.
const ON_EVERY_ANSWER: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'",
    ),
    ("cache-control", "no-store"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];
