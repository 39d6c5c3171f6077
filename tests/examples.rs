//! Every configuration that is shown to users is loaded by the program itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use writ::setup;

use crate::harness::gate::Plan;
use crate::harness::world;

#[test]
fn the_examples_in_deploy_are_valid() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let homes: Vec<PathBuf> =
        folders(&deploy).into_iter().filter(|dir| dir.join("destinations.yaml").is_file()).collect();
    assert!(!homes.is_empty(), "no example with a destinations.yaml under {}", deploy.display());
    for example in homes {
        let copy = empty();
        copy_yaml(&example, &copy.home());
        let checked = copy.writ(&["check"]);
        assert_eq!(checked.code, 0, "{}: {}", example.display(), checked.out);
        assert_cases_hold(&copy);
    }
}

#[test]
fn the_starter_files_are_valid() {
    let plan = setup::starter_files().fold(empty(), |plan, (path, text)| plan.file(path.to_str().unwrap(), text));
    let checked = plan.writ(&["check"]);
    assert_eq!((checked.code, checked.out.starts_with("valid: ")), (0, true), "{checked:?}");
    assert_cases_hold(&plan);
}

#[test]
fn the_weights_of_risk_are_in_the_readme_as_they_are_in_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
    let (code, readme) = (read("policy/src/risk.rs"), read("README.md"));
    let rows: Vec<&str> =
        code.lines().filter_map(|line| line.strip_prefix("/// ")).filter(|row| row.starts_with("| ")).collect();
    assert!(rows.len() >= 8, "{rows:?}");
    let missing: Vec<_> = rows.iter().filter(|row| !readme.contains(*row)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The cases that are shipped with policies say what these do.
fn assert_cases_hold(plan: &Plan) {
    let tested = plan.writ(&["policy", "test"]);
    assert_eq!(tested.code, 0, "{}{}", tested.out, tested.err);
}

/// A home without any configuration.
fn empty() -> Plan {
    let policies = world::POLICIES.iter().map(|(id, _)| format!("policies/{id}.yaml"));
    let files = policies.chain(["destinations.yaml".to_owned(), "credentials.yaml".to_owned()]);
    files.fold(Plan::new(), |plan, file| plan.without(&file))
}

/// A folder and everything below it that is a folder.
fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let below = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut found: Vec<PathBuf> = below.flat_map(|path| folders(&path)).collect();
    found.push(dir.to_owned());
    found
}

/// Copies what the program would read, with the modes it wants: a checkout has those of the checkout.
fn copy_yaml(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let (source, target) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if source.is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_yaml(&source, &target);
        } else if source.extension().is_some_and(|extension| extension == "yaml") {
            fs::copy(&source, &target).unwrap();
            fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}
