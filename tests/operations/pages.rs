//! Completions and manual pages: they know every command, and shells and `man` can read them.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::gate::Plan;

#[test]
fn completions_know_every_command_and_bash_can_read_them() {
    let plan = Plan::new();
    let commands = commands(&plan);
    assert!(commands.len() > 20, "{commands:?}");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let printed = plan.writ(&["completions", shell]);
        assert_eq!(printed.code, 0, "{printed:?}");
        for command in &commands {
            assert!(printed.out.contains(command.as_str()), "{shell} does not know `{command}`");
        }
    }
    let script = plan.writ(&["completions", "bash"]).out
        + "\nCOMP_WORDS=(writ led); COMP_CWORD=1; _writ writ led writ; printf '%s\\n' \"${COMPREPLY[@]}\"\n";
    let mut bash = Command::new("bash").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(bash.wait_with_output().unwrap().stdout).unwrap(), "ledger\n");
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let plan = Plan::new();
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(plan.writ(&["man", "--dir", folder.path().to_str().unwrap()]).code, 0);
    for command in commands(&plan) {
        let page = fs::read_to_string(folder.path().join(format!("writ-{command}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{command}: {page}");
    }
    let main = plan.writ(&["man"]).out;
    assert!(main.starts_with(".ie") || main.starts_with(".TH"), "{main}");
}

/// What `writ help` lists.
fn commands(plan: &Plan) -> Vec<String> {
    let help = plan.writ(&["help"]).out;
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.map(|line| line.split_whitespace().next().unwrap().to_owned()).filter(|name| name != "help").collect()
}
