//! Placeholders: what an agent's client sends as its key. In its one place it becomes the secret; anywhere else the
//! request is refused and recorded.

use std::io::Write;

use data_encoding::BASE64;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::Origin;
use crate::harness::world::{self, API, PLAIN, SECRET};

/// A request of the agent: target, a header, body.
type Request<'a> = (&'a str, (&'a str, &'a str), &'a str);

#[test]
fn in_its_place_a_placeholder_becomes_the_secret() {
    let bearer = format!("Bearer {PLACEHOLDER}");
    let basic = |pair: String| format!("Basic {}", BASE64.encode(pair.as_bytes()));
    let own = basic(format!("{PLACEHOLDER}:"));
    let (cookie, form) = (format!("a=1; sid={PLACEHOLDER}"), format!("a=1&token={PLACEHOLDER}"));
    let json = format!(r#"{{"a": 1, "auth": {{"token": "{PLACEHOLDER}"}}}}"#);
    let (query, path) = (format!("/send/x?key={PLACEHOLDER}"), format!("/send/bot{PLACEHOLDER}/x"));
    let (kind, in_form) = ("content-type", "application/x-www-form-urlencoded");
    let table: [(&str, Request<'_>, String); 7] = [
        ("{ bearer: '{secret}' }", ("/send/x", ("authorization", &bearer), ""), format!("Bearer {SECRET}\r\n")),
        ("{ basic: { user: '{secret}' } }", ("/send/x", ("authorization", &own), ""), basic(format!("{SECRET}:"))),
        ("{ cookie: { name: sid } }", ("/send/x", ("cookie", &cookie), ""), format!("cookie: sid={SECRET}\r\n")),
        ("{ query: { name: key } }", (&query, ("x", ""), ""), format!("?key={SECRET} HTTP")),
        ("{ path: '/send/bot{secret}' }", (&path, ("x", ""), ""), format!("/send/bot{SECRET}/x HTTP")),
        ("{ form: { field: token } }", ("/send/x", (kind, in_form), &form), format!("a=1&token={SECRET}")),
        ("{ json: { field: auth/token } }", ("/send/x", (kind, "application/json"), &json), format!(":\"{SECRET}\"}}")),
    ];
    for (inject, (target, header, body), expected) in table {
        let (origin, gate) = gate(inject, "    require_placeholder: true\n");
        let answer = gate.agent().request("POST", &url(target), &[header], body.as_bytes());
        assert_eq!(answer.status, 200, "{inject}: {answer:?}");
        let raw = String::from_utf8(origin.hits()[0].raw.clone()).unwrap();
        assert!(raw.contains(&expected) && !raw.contains("sk-writ"), "{inject}: {raw}");
    }
}

#[test]
fn g02_g03_elsewhere_a_placeholder_is_denied_and_recorded() {
    let plain = Origin::plain();
    let (origin, gate) = gate_with("{ bearer: '{secret}' }", "", Plan::new().origin(PLAIN, &plain));
    let key = format!("Bearer {PLACEHOLDER}");
    let in_base64 = format!("Basic {}", BASE64.encode(format!("user:{PLACEHOLDER}").as_bytes()));
    let escaped: String = PLACEHOLDER.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let partly = PLACEHOLDER.replace('r', "%72");
    let in_json = format!(r#"{{"a":"{}"}}"#, PLACEHOLDER.replace('w', "\\u0077"));
    let (query, escaped, partly) =
        (format!("/send/x?a={PLACEHOLDER}"), format!("/send/{escaped}"), format!("/send/{partly}"));
    let table: [Request<'_>; 9] = [
        ("/send/x", ("x-own", PLACEHOLDER), ""),
        ("/send/x", ("authorization", &in_base64), ""),
        (&query, ("authorization", &key), ""),
        (&escaped, ("x", ""), ""),
        (&partly, ("x", ""), ""),
        ("/send/x", ("authorization", &key), PLACEHOLDER),
        ("/send/x", ("content-type", "application/json"), &in_json),
        // Nobody put a credential on the other host.
        ("http://plain.example/send/x", ("authorization", &key), ""),
        ("http://plain.example/send/x", ("x", ""), PLACEHOLDER),
    ];
    for (target, header, body) in table {
        let answer = gate.agent().request("POST", &url(target), &[header], body.as_bytes());
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "placeholder_misplaced"),
            "{target} {header:?} {body}"
        );
        let told = gate.event("violation", &answer.correlation());
        assert_eq!(
            (&told["data"]["kind"], &told["data"]["severity"]),
            (&"placeholder_misplaced".into(), &"HIGH".into())
        );
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(PLACEHOLDER.as_bytes()).unwrap();
    let answer =
        gate.agent().request("POST", &url("/send/x"), &[("content-encoding", "gzip")], &gzip.finish().unwrap());
    assert_eq!(answer.code(), "placeholder_misplaced", "{answer:?}");
    assert_eq!((origin.connections(), plain.connections()), (0, 0));
    assert_eq!(gate.agent().request("POST", &url("/send/x"), &[("authorization", &key)], b"ok").status, 200);
}

#[test]
fn where_the_placeholder_is_required_no_other_key_passes() {
    let (origin, gate) = gate("{ bearer: '{secret}' }", "    require_placeholder: true\n");
    let key = format!("bearer {PLACEHOLDER}");
    let table: [(&str, &[(&str, &str)]); 6] = [
        ("/send/x", &[]),
        ("/send/x", &[("authorization", "Bearer own")]),
        ("/send/x", &[("authorization", PLACEHOLDER)]),
        ("/send/x", &[("authorization", &key), ("Authorization", "Bearer own")]),
        ("/send/x", &[("authorization", &key), ("x-api-key", "own")]),
        ("/send/x?access_token=own", &[("authorization", &key)]),
    ];
    for (target, headers) in table {
        let answer = gate.agent().request("POST", &url(target), headers, b"");
        assert_eq!((answer.status, answer.code().as_str()), (403, "placeholder_required"), "{target} {headers:?}");
        assert_eq!(gate.events_of(&answer.correlation())[0]["type"], "request.refused");
    }
    assert_eq!(origin.connections(), 0);
    assert_eq!(gate.agent().request("POST", &url("/send/x"), &[("authorization", &key)], b"").status, 200);
}

fn gate(inject: &str, more: &str) -> (Origin, Gate) {
    gate_with(inject, more, Plan::new())
}

fn gate_with(inject: &str, more: &str, plan: Plan) -> (Origin, Gate) {
    let origin = Origin::https(&[API]);
    let plan = plan.origin(API, &origin);
    let credentials = format!("{}    placeholder: {PLACEHOLDER}\n{more}", world::credentials(&plan.home(), inject));
    (origin, plan.file("credentials.yaml", &credentials).start())
}

fn url(target: &str) -> String {
    if target.starts_with("http") { target.to_owned() } else { format!("https://api.example{target}") }
}

const PLACEHOLDER: &str = "sk-writ-7f3kQ0zt91LmXc4v";
