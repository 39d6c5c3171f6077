//! `writ.yaml` and its variables as texts, and what becomes of them.

use super::*;

fn config(text: &str, variables: &[(&str, &str)]) -> Result<RawConfig, Invalid> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("writ.yaml");
    fs::write(&path, text).unwrap();
    let variable = |name: &str| variables.iter().find(|(each, _)| *each == name).map(|(_, value)| (*value).to_owned());
    let mut faults = Vec::new();
    let (_, raw) = read_config(&path, variable, &mut faults);
    if faults.is_empty() { Ok(raw) } else { Err(Invalid(faults)) }
}

#[test]
fn an_empty_file_means_defaults_and_variables_win() {
    assert_eq!(config("# nothing\n", &[]).unwrap().doors.forward.port(), 4001);
    let raw =
        config("doors:\n  forward: 127.0.0.1:1\nlimits:\n  body_bytes: 7\n", &[("WRIT_DOORS_FORWARD", "127.0.0.1:2")])
            .unwrap();
    assert_eq!((raw.doors.forward.port(), raw.limits.body_bytes), (2, 7));
}

#[test]
fn every_limit_can_be_set_in_the_file_and_by_a_variable() {
    for (name, default) in Limits::TABLE {
        let set = default + 1;
        let mut from_file = config(&format!("limits:\n  {name}: {set}\n"), &[]).unwrap();
        assert_eq!(from_file.limits.field(name).copied(), Some(set), "{name}");
        let key = format!("WRIT_LIMITS_{}", name.to_ascii_uppercase());
        let mut from_variable = config("", &[(&key, &set.to_string())]).unwrap();
        assert_eq!(from_variable.limits.field(name).copied(), Some(set), "{key}");
    }
}

#[test]
fn unknown_and_duplicate_keys_name_file_and_line() {
    for text in ["doors:\n  forwad: 127.0.0.1:1\n", "limits:\n  headers: 1\n  headers: 2\n", "limits:\n  x: 1\n"] {
        let error = config(text, &[]).unwrap_err().to_string();
        assert!(error.contains("writ.yaml:2") || error.contains("writ.yaml:3"), "{text}: {error}");
    }
    let error = config("", &[("WRIT_LIMITS_HEADERS", "many")]).unwrap_err().to_string();
    assert!(error.contains("WRIT_LIMITS_HEADERS"), "{error}");
}

#[test]
fn everything_wrong_is_said_at_once_and_no_value_with_it() {
    let text = "doors: {forward: s3cret}\nanswers: {hold_status: 301}\nlimits: {x: 1}\n";
    let invalid = config(text, &[("WRIT_LIMITS_HEADERS", "s3cret")]).unwrap_err();
    let lines: Vec<Option<usize>> = invalid.0.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [Some(1), Some(3), None], "{invalid}");
    assert!(!format!("{invalid:?}").contains("s3cret"), "{invalid:?}");
    assert_eq!(config("answers: {hold_status: 301}\n", &[]).unwrap_err().0[0].line, Some(1));
}
