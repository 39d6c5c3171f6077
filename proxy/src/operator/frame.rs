//! What stands around every page, and how a page is made.

use askama::Template;
use axum::response::Html;
use ledger::{KillSwitch, State};

use super::{Fault, internal};
use crate::gate::Gate;
use crate::principal::{Principal, Role};

/// Who looks at which page, and how much waits.
pub(super) struct Frame {
    pub(super) page: &'static str,
    pub(super) operator: String,
    pub(super) role: &'static str,
    pub(super) waiting: usize,
    /// What kill switches are on for; empty when none is.
    pub(super) stopped: String,
}

// === impl Frame ===

impl Frame {
    /// The frame of a page for an operator.
    pub(super) fn of(gate: &Gate, operator: &Principal, page: &'static str) -> Frame {
        let role = match operator.role {
            Some(Role::Admin) => "admin",
            Some(Role::Reviewer) => "reviewer",
            Some(Role::Scraper) => "scraper",
            Some(Role::Viewer) | None => "viewer",
        };
        let waiting = gate.ledger.intents(&[State::Held], usize::MAX).len();
        let stopped: Vec<String> = gate.ledger.kill_switches().iter().map(scope).collect();
        Frame { page, operator: operator.name.clone(), role, waiting, stopped: stopped.join(", ") }
    }
}

/// What a kill switch is on for; a page marks names in its own way.
pub(super) fn scope(switch: &KillSwitch) -> String {
    switch.scope().replace('`', "")
}

/// A page as an answer. Askama escapes every value in it for HTML.
pub(super) fn shown(page: &impl Template) -> Result<Html<String>, Fault> {
    page.render().map(Html).map_err(|error| internal(&error))
}
