//! Who may review the requests of an agent. Asked when a vote is given and again whenever one is counted.

use crate::gate::Gate;
use crate::principal::{Kind, Principal, Role, Standing};

/// The operator of this name, if they may review requests of the agent now.
pub fn named(gate: &Gate, name: &str, agent: &str) -> Option<Principal> {
    let operator = gate.principals.named(Kind::Operator, name)?;
    let may = operator.standing == Standing::Active && operator.role >= Some(Role::Reviewer);
    (may && !answers_for(gate, name, agent)).then_some(operator)
}

/// Whether an operator is the owner of an agent, as it was registered or as its manifest says.
pub fn answers_for(gate: &Gate, operator: &str, agent: &str) -> bool {
    let registered = gate.principals.named(Kind::Agent, agent).map(|agent| agent.owner);
    let described = gate.rulebook().rules.manifest(agent).and_then(|manifest| manifest.owner.clone());
    // An operator of the agent's own name is the agent, as far as anyone who reads the ledger can tell.
    let own = Some(agent.to_owned());
    own.into_iter().chain(registered).chain(described).any(|owner| owner.trim().eq_ignore_ascii_case(operator))
}
