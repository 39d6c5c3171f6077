//! Payloads that are decided by their request line, by what headers mean, or by what stands around the request: rows
//! A26 to A38, A42, A43, B18, C10 to C18 and L04 of the catalogue.

use super::payload::{Case, NEXT, post};

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    [
        versions(),
        bodies_where_none_is_usual(),
        expectations(),
        after_the_request(),
        names(),
        connection_lists(),
        methods(),
        hosts(),
        large(),
        plain(),
        published(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A26, A27, B18: versions.
fn versions() -> Vec<Case> {
    let versions =
        VERSIONS.iter().map(|version| Case::refuse("A27", format!("GET {{T}}/{{M}} {version}\r\n{{H}}\r\n")));
    let lines = [
        "GET {T}/{M}",
        "GET",
        "",
        " ",
        "GET  {T}/{M} HTTP/1.1",
        "GET\t{T}/{M}\tHTTP/1.1",
        " GET {T}/{M} HTTP/1.1",
        "GET {T}/{M}  HTTP/1.1",
        "GET {T}/{M} x HTTP/1.1",
        "GET HTTP/1.1",
        "HTTP/1.1 200 OK",
    ];
    let lines = lines.map(|line| Case::refuse("A27", format!("{line}\r\n{{H}}\r\n")));
    let old = [
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Connection: keep-alive\r\n",
        "",
    ];
    let old =
        old.map(|lines| Case::refuse("A26", format!("POST {{T}}/send/{{M}} HTTP/1.0\r\n{{H}}{lines}\r\n0\r\n\r\n")));
    let preface = Case::refuse("B18", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\u{0}\u{0}\u{0}\u{4}\u{0}\u{0}\u{0}\u{0}\u{0}");
    versions.chain(lines).chain(old).chain([preface]).collect()
}

/// A28: bodies of methods that seldom have one are bodies all the same.
fn bodies_where_none_is_usual() -> Vec<Case> {
    let ten = "Content-Length: 10\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let mut cases = Vec::new();
    for (lines, body) in [(ten, "0123456789"), (chunked, "a\r\n0123456789\r\n0\r\n\r\n")] {
        let text = format!("GET {{T}}/send/{{M}} HTTP/1.1\r\n{{H}}{lines}\r\n{body}");
        cases.push(Case::send("A28", text, "0123456789"));
        for method in ["DELETE", "OPTIONS", "PATCH"] {
            let text = format!("{method} {{T}}/send/{{M}} HTTP/1.1\r\n{{H}}{lines}\r\n{body}");
            cases.push(Case::answers("A28", text, &[403]));
        }
    }
    cases
}

/// A33, A34: only `100-continue` may be expected.
fn expectations() -> Vec<Case> {
    let values = [
        "y 100-continue",
        "100-continue y",
        "200-ok",
        "100-continue, foo",
        "100-continue,100-continue",
        "",
        "100-continue;q=1",
        "100 continue",
        "100",
        "\"100-continue\"",
        "continue",
    ];
    let refused =
        values.map(|value| Case::refuse("A33", post(&format!("Expect: {value}\r\nContent-Length: 5\r\n"), "hello")));
    let twice =
        Case::refuse("A33", post("Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5\r\n", "hello"));
    let plain = ["100-continue", "100-CONTINUE"]
        .map(|value| Case::send("A34", post(&format!("Expect: {value}\r\nContent-Length: 5\r\n"), "hello"), "hello"));
    refused.into_iter().chain([twice]).chain(plain).collect()
}

/// A29, A31, A35, F06: what stands before and behind a request, and what it asks to become.
fn after_the_request() -> Vec<Case> {
    let get = "GET {T}/{M} HTTP/1.1\r\n{H}\r\n";
    let mut cases: Vec<Case> = [
        "\n",
        " ",
        "\t",
        "\r",
        "\u{0}",
        "\r\n\r\n",
        "\r\n\n",
        "\n\r\n",
        "\r\n \r\n",
        "\r\n\r\n\r\n\r\n",
        "x",
        "\u{ff}",
        "\u{16}",
    ]
    .iter()
    .map(|before| Case::refuse("A35", format!("{before}{get}")))
    .collect();
    cases.push(Case::answers("A35", format!("\r\n{get}"), &[200]));
    cases.push(Case::answers("A29", format!("{get}{get}{get}"), &[200, 200, 200]));
    for junk in [
        "X",
        "\u{0}",
        "foo\r\n\r\n",
        "\u{81}\u{5}hello",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "get / HTTP/1.1\r\n\r\n",
        "0\r\n\r\n",
    ] {
        // What cannot begin a request is answered at once; the rest when its head is complete.
        let text = format!("GET {{T}}/{{M}} HTTP/1.1\r\n{{H}}Connection: upgrade\r\nUpgrade: foo\r\n\r\n{junk}{NEXT}");
        cases.push(Case::answers("A31", text, &[200, 400]));
    }
    cases.push(Case::send("F07", upgrade("TLS/1.0"), ""));
    for protocol in ["websocket", "WebSocket", "websocket/13", "foo, websocket", "websocket, h2c"] {
        cases.push(Case::refuse("F06", upgrade(protocol)));
    }
    cases
}

/// F07: HTTP/2 without TLS is not switched to on a plain connection, and may not be asked for inside a tunnel.
pub(crate) fn http2_upgrades(in_tunnel: bool) -> Vec<Case> {
    let spelled = ["h2c", "H2C", "h2c, foo", "foo,h2c"].map(upgrade);
    let case = |text| if in_tunnel { Case::refuse("F07", text) } else { Case::send("F07", text, "") };
    spelled.map(case).into()
}

/// A29, A30: requests that were sent behind one that is refused, its body read or not.
pub(crate) fn behind_a_refusal() -> Vec<Case> {
    let denied = "DELETE {T}/{M} HTTP/1.1\r\n{H}\r\n";
    let bodies = [
        "DELETE {T}/{M} HTTP/1.1\r\n{H}Content-Length: 5\r\n\r\nhello",
        "DELETE {T}/{M} HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "POST {T}/send/{M} HTTP/1.1\r\n{H}Content-Length: 100000000\r\n\r\nhello",
    ];
    let refused = [denied.to_owned(), denied.repeat(3)].into_iter().chain(bodies.map(str::to_owned));
    let later = Case::answers("A29", format!("{NEXT}{denied}{NEXT}"), &[200, 403]);
    refused.map(|text| Case::refuse("A29", text)).chain([later]).collect()
}

/// A POST that asks for another protocol.
fn upgrade(protocol: &str) -> String {
    let settings = "HTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    let lines =
        format!("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\n{settings}Content-Length: 0\r\n");
    post(&lines, "")
}

/// A37: names that are no tokens, lines that are none.
fn names() -> Vec<Case> {
    let odd = "\"(),/:;<=>?@[\\]{} ".chars();
    let odd = odd.flat_map(|each| [format!("X{each}Y: a\r\n"), format!("{each}: a\r\n"), format!("X{each}: a\r\n")]);
    // A colon ends the name: what follows is a value.
    let odd = odd.filter(|line| !line.starts_with("X:"));
    let lines = ["no colon", ": no name", ":", "=", "\"", "GET / HTTP/1.1", " ", "a b: c"];
    odd.chain(lines.map(|line| format!("{line}\r\n"))).map(|line| Case::refuse("A37", post(&line, ""))).collect()
}

/// A38: `Connection` may not name what a next hop would then remove.
fn connection_lists() -> Vec<Case> {
    let names = [
        "authorization",
        "Authorization",
        "host",
        "content-length",
        "transfer-encoding",
        "cookie",
        "x-gate-wait",
        "writ-run-id",
        "via",
        "accept",
        "close, host",
        "keep-alive,authorization",
        "x",
        "\"close\"",
        "close;x",
        "user-agent",
    ];
    names
        .iter()
        .map(|name| Case::refuse("A38", post(&format!("Connection: {name}\r\nContent-Length: 0\r\n"), "")))
        .collect()
}

/// A42, D20, F10: methods.
fn methods() -> Vec<Case> {
    let odd = [
        "get",
        "Get",
        "gET",
        "Post",
        "GETT",
        "GE",
        "G",
        "GET\u{0}",
        "\"GET\"",
        "GET,POST",
        "G=\":<>(e),[T];?\"",
        "GET/",
        "POST;",
        "XGET",
        "G\u{c9}T",
        "FOO",
        "PURGE",
        "LINK",
        "BREW",
        "QUERY",
        "M-SEARCH",
        "X-1",
        "_GET",
        "0GET",
        "HTTP/1.1",
        "DEBUG",
        "COPY",
        "MOVE",
    ];
    let odd = odd.map(|method| Case::refuse("A42", format!("{method} {{T}}/{{M}} HTTP/1.1\r\n{{H}}\r\n")));
    let never = ["TRACE", "TRACK", "CONNECT"]
        .map(|method| Case::refuse("F10", format!("{method} {{T}}/{{M}} HTTP/1.1\r\n{{H}}Max-Forwards: 0\r\n\r\n")));
    let inner = ["evil.example:443", "{N}:443", "{N}:80", "127.0.0.1:22"].map(|target| {
        // On a connection that is in use, or inside a tunnel; else it would open a tunnel.
        Case::refuse(
            "F02",
            format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nContent-Length: 10\r\n\r\n0123456789"),
        )
    });
    let denied = ["DELETE", "PATCH", "OPTIONS", "PROPFIND", "PROPPATCH", "REPORT", "SEARCH", "LOCK", "UNLOCK", "MKCOL"];
    let denied =
        denied.map(|method| Case::answers("D22", format!("{method} {{T}}/send/{{M}} HTTP/1.1\r\n{{H}}\r\n"), &[403]));
    odd.into_iter().chain(never).chain(inner).chain(denied).collect()
}

/// C10 to C18: Host headers that name another host, several, or none.
fn hosts() -> Vec<Case> {
    let hosts = HOSTS
        .iter()
        .map(|host| Case::refuse("C10", format!("GET {{T}}/{{M}} HTTP/1.1\r\nHost: {host}\r\n{{C}}\r\n\r\n")));
    let several = [
        "Host: {N}\r\nHost: {N}\r\n",
        "Host: {N}\r\nHost: evil.example\r\n",
        "Host: evil.example\r\nHost: {N}\r\n",
        "Host: {N}\r\nhost:\r\n",
        "",
    ];
    let several = several.map(|lines| Case::refuse("C10", format!("GET {{T}}/{{M}} HTTP/1.1\r\n{lines}{{C}}\r\n\r\n")));
    let long = [format!("{}.example", "a".repeat(64)), "a.".repeat(130) + "example"];
    let long =
        long.map(|host| Case::refuse("C18", format!("GET {{T}}/{{M}} HTTP/1.1\r\nHost: {host}\r\n{{C}}\r\n\r\n")));
    hosts.chain(several).chain(long).collect()
}

/// L04: heads over a limit.
fn large() -> Vec<Case> {
    let many = |count: usize, line: &str| post(&line.repeat(count), "");
    [
        many(101, "X: y\r\n"),
        many(1000, "X: y\r\n"),
        many(10_000, "Cookie: a=b\r\n"),
        many(1, &format!("X: {}\r\n", "y".repeat(8 * 1024))),
        many(1, &format!("{}: y\r\n", "x".repeat(8 * 1024))),
        many(3, &format!("X: {}\r\n", "y".repeat(6 * 1024))),
        many(1, &format!("X: {}\r\n", "y".repeat(500_000))),
        many(2500, ":\r\n"),
    ]
    .into_iter()
    .map(|text| Case::refuse("L04", text))
    .collect()
}

/// Requests that have one reading, however unusual.
fn plain() -> Vec<Case> {
    let lengths = ["Content-Length: 5\r\n", "content-length:5\r\n", "CONTENT-LENGTH: \t 5 \t\r\n"];
    let lines = [
        ("A37", "X:\r\n"),
        ("A37", "X!#$%&'*+-.^`|~09: \"(),/:;<=>?@[\\]{}\r\n"),
        ("A25", "Connection: keep-alive, TE\r\nTE: trailers\r\n"),
        ("D21", "X-HTTP-Method-Override: DELETE\r\nX-Method-Override: DELETE\r\nX-HTTP-Method: DELETE\r\n"),
        (
            "C21",
            "X-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\nX-Accel-Redirect: /admin\r\nX-Forwarded-Prefix: /admin\r\n",
        ),
        ("C20", "X-Forwarded-Host: evil\r\nForwarded: host=evil\r\nX-Host: evil\r\nX-Original-Host: evil\r\n"),
        ("C20", "X-HTTP-Host-Override: evil\r\n"),
        ("F21", "Writ-Decision: allow\r\nX-Gate-Admin: 1\r\nProxy-Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n"),
        ("F10", "Via: 1.1 other\r\nMax-Forwards: 0\r\n"),
    ];
    let lengths = lengths.iter().map(|line| Case::send("A17", post(line, "hello"), "hello"));
    let lines = lines
        .iter()
        .map(|(id, lines)| Case::send(id, post(&format!("{}{lines}", "Content-Length: 5\r\n"), "hello"), "hello"));
    let mut cases: Vec<Case> = lengths.chain(lines).collect();
    cases.push(Case::send("L04", post(&("X: y\r\n".repeat(90) + "Content-Length: 0\r\n"), ""), ""));
    cases.push(Case::cut("A43", post("Content-Length: 5\r\n", "hell")));
    cases.push(Case::cut("A43", "POST {T}/send/{M} HTTP/1.1\r\n{H}".to_owned()));
    cases.push(Case::cut("A43", "POST {T}/se".to_owned()));
    cases
}

/// A44, A45: what published collections try and no other row names.
fn published() -> Vec<Case> {
    let get = "GET {T}/{M} HTTP/1.1\r\n";
    let refused = [
        format!("{get} Host: {{N}}\r\n{{H}}\r\n"),
        format!("{get}\t\r\n{{H}}\r\n"),
        format!("{get} \r\n{{H}}\r\n"),
        format!("{get}: {{N}}\r\n{{H}}\r\n"),
        format!("{get}{{H}}:\r\n\r\n"),
        format!("{get}{{H}}X\r\n\r\n"),
        format!("{get}{{H}}Host:{{N}}\r\n\r\n"),
        format!("{get}{{H}}Content-Length: 0\r\nContent-Length:\r\n\r\n"),
        format!("{get}{{H}}Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n"),
        format!("{get}{{H}}Transfer-Encoding: Chunked, identity\r\n\r\n0\r\n\r\n"),
        format!("{get}{{H}}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
        format!("{} {{T}}/{{M}} HTTP/1.1\r\n{{H}}\r\n", "A".repeat(20_000)),
        format!("GET {{T}}/{{M}} HTTP/1.{}\r\n{{H}}\r\n", "1".repeat(20_000)),
        "\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8}\r\n\r\n".to_owned(),
        "\u{80}\u{81}\u{82} \u{83} \u{84}\r\n\r\n".to_owned(),
        "GET {T}/{M} HTTP/1.1 \r\n{H}\r\n".to_owned(),
        "GET {T}/{M}\u{0} HTTP/1.1\r\n{H}\r\n".to_owned(),
        "GET\u{b}{T}/{M}\u{b}HTTP/1.1\r\n{H}\r\n".to_owned(),
        "{\"a\":1}\r\n\r\n".to_owned(),
    ];
    let twice = format!("{get}{{H}}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n0\r\n\r\n");
    let twice = Case::answers("A44", twice, &[200, 400]);
    refused.map(|text| Case::refuse("A45", text)).into_iter().chain([twice]).collect()
}

/// A27: what is no version that is spoken here.
const VERSIONS: &[&str] = &[
    "HTTP/0.9",
    "HTTP/1.2",
    "HTTP/1.9",
    "HTTP/2.0",
    "HTTP/2",
    "HTTP/3",
    "HTTP/1.10",
    "HTTP/1.01",
    "HTTP/01.1",
    "http/1.1",
    "Http/1.1",
    "HTTP/1",
    "HTTP/1.",
    "HTTP/.1",
    "HTTP/11",
    "HTTP /1.1",
    "HTTP/ 1.1",
    "HTTP/1 .1",
    "HTTP/1.1 ",
    " HTTP/1.1",
    "HTTP/1.1\t",
    "HTTP/1.1x",
    "HTTP/-1.1",
    "HTTP/+1.1",
    "HTTP/1,1",
    "HTTPS/1.1",
    "HTTP\\1.1",
    "HTTP",
    "RTSP/1.0",
    "ICY",
    "HTTP/1.1\u{0}",
    "\u{b}HTTP/1.1",
    "HTTP/1.1 HTTP/1.1",
    "HTTP/1.\u{b1}",
];

/// C10 to C17: values of Host.
const HOSTS: &[&str] = &[
    "",
    " ",
    ",",
    "{N},{N}",
    "{N}, evil.example",
    "{N}/x",
    "{N} evil.example",
    "a b",
    "good@{N}",
    "{N}@evil.example",
    "u:p@{N}",
    "@{N}",
    "{N}.",
    "{N}..",
    ".{N}",
    "{N}:",
    "{N}:0",
    "{N}:99999",
    "{N}:+80",
    "{N}:080",
    "{N}:80:80",
    "{N}:http",
    "{N}:1",
    "{N}%00",
    "{N}%2f",
    "{N}?",
    "{N}#",
    "{N}\\",
    "[{N}]",
    "[::1]",
    "[::1%25eth0]",
    "::1",
    "127.0.0.1",
    "2130706433",
    "0x7f.1",
    "evil.example",
    "evil{N}",
    "{N}.evil.example",
    "xn--.example",
    "-{N}",
    "_{N}",
    "http://{N}",
    "//{N}",
    "{N}\t{N}",
    "\u{e9}.example",
    "{N}\u{0}",
    "{N}\u{0}.evil",
    "{N}\u{a0}",
    "\"{N}\"",
    "<{N}>",
    "*",
    "*.example",
    "localhost",
    "writ.internal",
    "{N};",
    "{N}|",
    "{N}'",
    "$({N})",
    "{N}`",
];
