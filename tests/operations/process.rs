//! What the gate does for its own protection when it starts.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::harness::gate::{PATIENCE, Plan, within};
use crate::harness::origin::Origin;
use crate::harness::world::API;

#[test]
fn k03_no_core_dump_no_debugger_of_its_own_user_and_k08_no_file_for_others() {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).start();
    assert_eq!(gate.agent().get("https://api.example/a").status, 200);
    gate.agent().held("https://api.example/change/1", "x");
    let process = format!("/proc/{}", gate.pid());
    let limits = fs::read_to_string(format!("{process}/limits")).unwrap();
    let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(cores.split_whitespace().nth(4), Some("0"), "{cores}");
    // The kernel gives the memory of a process that is not dumpable to root (proc(5)).
    let owner = fs::metadata(format!("{process}/mem")).unwrap().uid();
    assert_eq!(owner, 0);
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    assert!(status.contains("Umask:\t0077"), "{status}");
    // The certificate of the authority is for everybody; its key is not.
    let is_public = |path: &Path| path.ends_with("ca/root.pem");
    for_all(&gate.home().join("data"), &|path, mode| {
        assert!(mode & 0o077 == 0 || is_public(path), "{}: {mode:o}", path.display());
    });
}

#[test]
fn the_service_manager_is_told_when_the_gate_serves_and_when_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    };
    let gate = Plan::new().variable("NOTIFY_SOCKET", path.to_str().unwrap()).start();
    assert_eq!(told(), "READY=1");
    gate.stop();
    assert_eq!(told(), "STOPPING=1");
}

#[test]
fn k16_an_agent_of_the_gates_own_user_is_warned_of_once() {
    let gate = Plan::new().start();
    for _ in 0..3 {
        assert_eq!(gate.agent().get("http://writ.internal/health").status, 200);
    }
    let warning = "runs as the gate's own user";
    let warned = within(PATIENCE, || gate.log().contains(warning).then_some(()));
    assert!(warned.is_some(), "{}", gate.log());
    assert_eq!(gate.log().matches(warning).count(), 1);
}

fn for_all(path: &Path, check: &impl Fn(&Path, u32)) {
    let found = fs::symlink_metadata(path).unwrap();
    check(path, found.permissions().mode());
    if found.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| for_all(&entry.unwrap().path(), check));
    }
}
