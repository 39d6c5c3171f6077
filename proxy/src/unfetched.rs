//! What an agent is told when its destination's credential could not be fetched: one row for each fault of a source.
//!
//! Must never tell it where the secret is kept; the ledger and the log do.

use vault::Fault;

use crate::answer::{Answer, row};

/// 503 when the source may be back by itself, 502 when somebody has to mend it.
pub(crate) fn answer(fault: &Fault) -> Answer {
    let (status, code, why) = match fault {
        Fault::Byte => (502, "credential_unfit", "it has a byte that no request may carry"),
        Fault::Certificate(_) => (502, "credential_untrusted", "its vault's certificate is not trusted"),
        Fault::Command { .. } => (502, "credential_command_failed", "the program that prints it failed"),
        Fault::Deadline(_) => (503, "credential_timeout", "its source did not answer in time"),
        Fault::Denied => (502, "credential_forbidden", "its vault does not let the gate read it"),
        Fault::Empty => (502, "credential_empty", "it is empty"),
        Fault::Expired(_) => (502, "credential_lease_expired", "what it was lent for is over"),
        Fault::Garbled => (502, "credential_garbled", "what answered is no vault"),
        Fault::Io(_) => (503, "credential_unreadable", "its source could not be read"),
        Fault::Login(_) => (502, "credential_login_failed", "its source could not be logged in to"),
        Fault::Missing => (502, "credential_missing", "it is not in its vault"),
        Fault::NoField(_) => (502, "credential_field_missing", "it has no such field"),
        Fault::NotRegular => (502, "credential_not_a_file", "its source is not a regular file"),
        Fault::NotStarted { .. } => (502, "credential_command_missing", "the program that prints it did not start"),
        Fault::NotText(_) => (502, "credential_not_text", "its field holds something else than a text"),
        Fault::Redirected => (502, "credential_redirected", "its vault points elsewhere"),
        Fault::Refused(_) => (502, "credential_refused", "its vault refused the request"),
        Fault::Sealed => (503, "credential_sealed", "its vault is sealed"),
        Fault::Throttled => (503, "credential_throttled", "its vault takes no more requests for now"),
        Fault::TooLong(_) => (502, "credential_too_long", "it is longer than a secret may be"),
        Fault::Unsafe(_) => (502, "credential_command_unsafe", "others could replace the program that prints it"),
        Fault::Unavailable(_) => (503, "credential_vault_failed", "its vault failed"),
        Fault::Unreachable(_) => (503, "credential_unreachable", "its vault could not be reached"),
        Fault::Unset => (502, "credential_unset", "it is not set"),
        Fault::Writable(_) => (502, "credential_writable", "others could have written it"),
    };
    let detail = format!("the destination's credential could not be fetched, so nothing was sent: {why}");
    let title = "credential not fetched";
    if status == 503 {
        row(status, code, title, detail, "try again later; the gate's ledger and log show the cause").retryable()
    } else {
        row(status, code, title, detail, "an operator has to mend it; `writ credentials test NAME` shows the cause")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_fault_has_a_code_of_its_own_that_the_readme_lists() {
        let text = String::new;
        let faults = [
            Fault::Byte,
            Fault::Certificate(text()),
            Fault::Command { program: text(), status: text() },
            Fault::Deadline(Duration::ZERO),
            Fault::Denied,
            Fault::Empty,
            Fault::Expired(""),
            Fault::Garbled,
            Fault::Io(text()),
            Fault::Login(text()),
            Fault::Missing,
            Fault::NoField(text()),
            Fault::NotRegular,
            Fault::NotStarted { program: text(), why: text() },
            Fault::NotText(text()),
            Fault::Redirected,
            Fault::Refused(400),
            Fault::Sealed,
            Fault::Throttled,
            Fault::TooLong(1),
            Fault::Unavailable(500),
            Fault::Unreachable(text()),
            Fault::Unsafe(text()),
            Fault::Unset,
            Fault::Writable(0),
        ];
        let readme = include_str!("../../README.md");
        let mut codes = BTreeSet::new();
        for fault in &faults {
            let answer = answer(fault);
            assert_eq!(answer.retryable, answer.status == 503, "{fault:?}");
            let row = format!("| {} | `{}` |", answer.status.as_u16(), answer.code);
            assert!(readme.contains(&row), "the README has no `{row}`");
            assert!(codes.insert(answer.code), "{} stands for two faults", answer.code);
        }
    }
}
