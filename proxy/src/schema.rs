//! JSON Schemas of every file an operator writes, and of the events on the ledger.
//!
//! Those of files come from the types they are read into. Data of an event only ever grows: what a schema does not
//! name may be there.

use ledger::EventType;
use policy::schema;
use serde_json::{Value, json};

use crate::cases::CasesFile;
use crate::config::RawConfig;
use crate::credential::RawCredentials;

/// Everything that has a schema, by the name it is asked for.
pub const NAMES: [&str; 7] = ["agent", "cases", "config", "credentials", "destinations", "event", "policy"];

/// The schema of this name; none where there is no such name.
pub fn named(name: &str) -> Option<Value> {
    Some(match name {
        "agent" => schema::manifest(),
        "cases" => schema::of::<CasesFile>("tests/*.yaml"),
        "config" => schema::of::<RawConfig>("writ.yaml"),
        "credentials" => schema::of::<RawCredentials>("credentials.yaml"),
        "destinations" => schema::destinations(),
        "event" => event(),
        "policy" => schema::policy(),
        _ => return None,
    })
}

/// An entry of the ledger. A type that this version does not know is one of a newer one.
fn event() -> Value {
    let types: Vec<&str> = EventType::ALL.iter().map(|kind| kind.as_str()).collect();
    let text = json!({ "type": "string" });
    let hash = json!({ "type": "string", "pattern": "^[0-9a-f]{64}$" });
    let count = json!({ "type": "integer", "minimum": 0 });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "an event of the ledger",
        "type": "object",
        "additionalProperties": false,
        "required": ["v", "seq", "ts", "type", "data", "prev_hash", "entry_hash"],
        "properties": {
            "v": { "const": 1 },
            "seq": count,
            "ts": { "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z$" },
            "type": { "anyOf": [{ "enum": types }, { "type": "string", "description": "of a newer version" }] },
            "correlation_id": { "type": "string", "pattern": "^corr_[a-z2-7]{26}$" },
            "intent_id": { "type": "string", "pattern": "^int_[a-z2-7]{26}$" },
            "run_id": text,
            "agent_id": text,
            "action": { "type": "string", "description": "`http.post` and so on" },
            "dest_key": text,
            "data": { "type": "object" },
            "prev_hash": hash,
            "entry_hash": hash,
        },
        "allOf": [
            of_types(&["decision.allowed", "decision.denied", "decision.approval_required", "action.executing"], &decision(&hash, &count)),
            of_types(&["action.executed", "action.failed", "action.unknown"], &json!({
                "properties": {
                    "sent": { "type": "boolean", "description": "false when no byte left" },
                    "status": { "type": "integer", "minimum": 100, "maximum": 999 },
                    "reply_bytes": count,
                    "reply_sha256": hash,
                    "millis": count,
                    "reason": text,
                },
            })),
            of_types(&["approval.vote"], &json!({
                "required": ["operator", "verdict", "rationale", "digest", "reasons"],
                "properties": { "verdict": { "enum": ["approve", "deny"] }, "digest": hash, "reasons": hash },
            })),
            of_types(&["config.loaded"], &json!({
                "required": ["destinations_hash", "files"],
                "properties": {
                    "destinations_hash": hash,
                    "files": { "type": "object", "additionalProperties": hash },
                    "not_enforced": { "type": "array", "items": text },
                },
            })),
            of_types(&["config.refused"], &json!({
                "required": ["reason", "fault_count", "faults"],
                "properties": { "fault_count": count, "faults": { "type": "array", "items": fault() } },
            })),
            of_types(&["request.refused"], &json!({ "required": ["code"], "properties": { "code": text, "count": count } })),
            of_types(&["violation"], &json!({
                "required": ["kind", "severity"],
                "properties": { "kind": text, "severity": { "enum": ["CRITICAL", "HIGH", "MEDIUM"] } },
            })),
        ],
    })
}

fn of_types(types: &[&str], data: &Value) -> Value {
    json!({
        "if": { "properties": { "type": { "enum": types } } },
        "then": { "properties": { "data": data } },
    })
}

/// What was decided about, and on which ground.
fn decision(hash: &Value, count: &Value) -> Value {
    let rule = json!({
        "type": "object",
        "required": ["rule", "verdict", "reason"],
        "properties": {
            "rule": { "type": "string" },
            "verdict": { "enum": ["allow", "hold", "deny"] },
            "reason": { "type": "string" },
        },
    });
    json!({
        "required": ["method", "authority", "path", "body_sha256", "body_bytes", "digest", "destinations_hash", "rules"],
        "properties": {
            "method": { "type": "string" },
            "authority": { "type": "string", "pattern": "^https?://" },
            "path": { "type": "string", "pattern": "^/" },
            "query_names": { "type": "array", "items": { "type": "string" } },
            "body_sha256": hash,
            "body_bytes": count,
            "digest": hash,
            "destinations_hash": hash,
            "manifest_hash": hash,
            "dlp_hash": hash,
            "policy": { "type": "string" },
            "policy_hash": hash,
            "environment": { "type": "string" },
            "effect": { "enum": ["external_mutation", "notification", "payment", "read", "write"] },
            "profile": { "type": "string" },
            "measured": { "type": "object", "additionalProperties": { "type": "string" } },
            "risk": { "type": "object", "required": ["score", "level"], "properties": { "score": { "maximum": 100 } } },
            "shadow": { "enum": ["hold", "deny"], "description": "what a policy that is not enforced would have decided" },
            "rules": { "type": "array", "items": rule, "minItems": 1, "description": "those that spoke, the strictest first" },
        },
    })
}

fn fault() -> Value {
    json!({
        "type": "object",
        "required": ["code", "file", "message"],
        "properties": {
            "code": { "enum": policy::Code::ALL.iter().map(|code| code.as_str()).collect::<Vec<_>>() },
            "file": { "type": "string" },
            "line": { "type": "integer", "minimum": 1 },
            "column": { "type": "integer", "minimum": 1 },
            "message": { "type": "string" },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_schema_and_none_speaks_of_null() {
        for name in NAMES {
            let schema = named(name).unwrap();
            assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
            assert_eq!((&schema["type"], &schema["additionalProperties"]), (&json!("object"), &json!(false)), "{name}");
            assert!(!schema.to_string().contains("\"null\""), "{name}: {schema}");
        }
        assert!(named("nothing").is_none());
    }
}
