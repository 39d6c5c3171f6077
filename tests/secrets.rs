//! Where secrets are: what the operator is told about it, and never the secret. The vaults are tested in `tests/vaults`.

use serde_json::Value;

use crate::harness::gate::Plan;
use crate::harness::world::{CREDENTIALS, DESTINATIONS, SECRET};

#[test]
fn credentials_are_listed_and_tried_without_being_shown() {
    let plan = Plan::new();
    plan.configure();
    let file = plan.home().join("api.key");
    let reference = format!("file://{}", file.display());

    let listed = plan.writ(&["credentials", "list"]);
    assert_eq!((listed.code, listed.out.trim()), (0, format!("api  {reference}  → api.example").as_str()));
    let listed: Value = serde_json::from_str(&plan.writ(&["credentials", "list", "--json"]).out).unwrap();
    assert_eq!((&listed["name"], &listed["provider"]), (&Value::from("api"), &Value::from("file")));

    let tried = plan.writ(&["credentials", "test", "api"]);
    let length = SECRET.len();
    assert!(tried.out.starts_with(&format!("`{reference}`: {length} bytes, version ")), "{tried:?}");
    let as_json = plan.writ(&["credentials", "test", "api", "--json"]);
    let found: Value = serde_json::from_str(&as_json.out).unwrap();
    assert_eq!((as_json.code, &found["readable"], &found["length"]), (0, &Value::from(true), &Value::from(length)));

    let plan = plan.file("api.key", "");
    let empty = plan.writ(&["credentials", "test", "api"]);
    assert_eq!((empty.code, empty.out.as_str()), (1, ""));
    assert!(empty.err.contains("is empty") && empty.err.contains("credential_empty"), "{empty:?}");
    let found: Value = serde_json::from_str(&plan.writ(&["credentials", "test", "api", "--json"]).out).unwrap();
    assert_eq!((&found["readable"], &found["code"]), (&Value::from(false), &Value::from("credential_empty")));

    assert_eq!(plan.writ(&["credentials", "test", "nobody"]).code, 1);
    let plan = plan.file("credentials.yaml", &CREDENTIALS.replace("FILE", "/nowhere").replace("hosts:", "host:"));
    assert_eq!(plan.writ(&["credentials", "list"]).code, 3);
    assert!(!format!("{listed:?}{tried:?}{as_json:?}").contains(SECRET));
}

#[test]
fn g09_g10_a_credential_that_could_go_astray_does_not_load() {
    let entry = |host: &str| CREDENTIALS.replace("FILE", "/key").replace("[api.example]", host);
    let plain = DESTINATIONS.replacen("    credential: api\n", "    credential: api\n    schemes: [https, http]\n", 1);
    let table = [
        (entry("[other.example]"), DESTINATIONS, "which its `hosts:` do not list"),
        (entry("['*.example']"), DESTINATIONS, "anybody can have a name"),
        (entry("['*.s3.eu-central-1.amazonaws.com']"), DESTINATIONS, "anybody can have a name"),
        (entry("['*.github.io']"), DESTINATIONS, "anybody can have a name"),
        (entry("[api.example]"), plain.as_str(), "over plain http"),
    ];
    for (credentials, destinations, expected) in table {
        let plan = Plan::new().file("credentials.yaml", &credentials).file("destinations.yaml", destinations);
        plan.configure();
        let printed = plan.writ(&["check"]);
        assert_eq!(printed.code, 3, "{expected}: {printed:?}");
        assert!(format!("{printed:?}").contains(expected), "{expected}: {printed:?}");
    }
}
