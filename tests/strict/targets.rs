//! Payloads that are decided by their target: row D01 to D22 of the catalogue.

use super::payload::{Case, Verdict};

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    [one_spelling(), several_readings(), other_forms(), other_paths(), lengths()].into_iter().flatten().collect()
}

/// D01, D03, D14, D16: paths with one reading, and how they go out.
fn one_spelling() -> Vec<Case> {
    let paths = [
        ("/send/./{M}", "/send/{M}"),
        ("/send/x/../{M}", "/send/{M}"),
        ("/./send/{M}", "/send/{M}"),
        ("/x/../send/{M}", "/send/{M}"),
        ("/%73end/{M}", "/send/{M}"),
        ("/send/{M}/.", "/send/{M}/"),
        ("/send/{M}/x/..", "/send/{M}/"),
        ("/send/{M}/", "/send/{M}/"),
        ("/send/{M}.json", "/send/{M}.json"),
        ("/send/%7e{M}", "/send/~{M}"),
        ("/send/%41%2d%5F{M}", "/send/A-_{M}"),
        ("/send/a%2fb{M}", "/send/a%2Fb{M}"),
        ("/send/@a%2Fb/{M}", "/send/@a%2Fb/{M}"),
        ("/send/caf%c3%a9/{M}", "/send/caf%C3%A9/{M}"),
        ("/send/{M}%20x", "/send/{M}%20x"),
        ("/send/{M}%25", "/send/{M}%25"),
        ("/send/{M}:@!$&'()*+,=", "/send/{M}:@!$&'()*+,="),
        ("/send/...{M}", "/send/...{M}"),
        ("/send/{M}/...", "/send/{M}/..."),
        ("/send/{M}?", "/send/{M}?"),
        ("/send/{M}??", "/send/{M}??"),
        ("/send/{M}?a=1&a=2", "/send/{M}?a=1&a=2"),
        ("/send/{M}?a[]=1", "/send/{M}?a[]=1"),
        ("/send/{M}?a=1;b=2", "/send/{M}?a=1;b=2"),
        ("/send/{M}?a+b=%20%26", "/send/{M}?a+b=%20%26"),
        ("/send/{M}?u=http://x/../..//", "/send/{M}?u=http://x/../..//"),
        ("/send/{M}?_method=DELETE", "/send/{M}?_method=DELETE"),
    ];
    paths
        .map(|(path, target)| Case {
            id: "D01",
            text: post_to(path),
            verdict: Verdict::Send(target.to_owned(), String::new()),
        })
        .into()
}

/// D02 to D11, D15: what servers read in several ways, at the front, in the middle and at the end of a path.
fn several_readings() -> Vec<Case> {
    let places =
        |mark: &str| [format!("/send/{mark}/{{M}}"), format!("/send/{{M}}/{mark}"), format!("/send/x{mark}y/{{M}}")];
    let refused = MARKS.iter().flat_map(|&(id, mark)| places(mark).map(|path| (id, path)));
    // Inside a segment, two slashes are one more segment, and dots are no dots.
    let harmless = ["/send/x/y/{M}", "/send/x..%2fy/{M}"];
    let refused = refused.filter(|(_, path)| !harmless.contains(&path.as_str()));
    let climbing = ["/../send/{M}", "/send/../../{M}", "/./../send/{M}", "/send/{M}/../../..", "/send/../../send/{M}"];
    let all = refused.chain(climbing.map(|path| ("D02", path.to_owned())));
    all.map(|(id, path)| Case::refuse(id, post_to(&path))).collect()
}

/// D20, C08, C11, E16: targets that are no path on this host.
fn other_forms() -> Vec<Case> {
    let targets = [
        "*",
        "foo",
        "foo/{M}",
        "",
        "?{M}",
        "./{M}",
        "../{M}",
        "{N}",
        "{N}:443",
        "{N}/{M}",
        "//{N}/{M}",
        "//evil.example/{M}",
        "http:/{M}",
        "http:///{M}",
        "http:{N}/{M}",
        "http://",
        "http://{N}:0/{M}",
        "http://{N}:99999/{M}",
        "http://{N}:/{M}",
        "http://{N}:x/{M}",
        "http://u@{N}/{M}",
        "http://u:p@{N}/{M}",
        "http://{N}@evil.example/{M}",
        "http://evil.example/{M}",
        "http://evil.example\\@{N}/{M}",
        "http://{N}./{M}",
        "http://{N}../{M}",
        "http://.{N}/{M}",
        "http://{N}%00/{M}",
        "http://{N}%2f/{M}",
        "http://[{N}]/{M}",
        "http://[::1]/{M}",
        "http://[::1%25lo]/{M}",
        "http://127.0.0.1/{M}",
        "http://2130706433/{M}",
        "http://0x7f.1/{M}",
        "http://localhost/{M}",
        "ftp://{N}/{M}",
        "file:///etc/passwd",
        "ws://{N}/{M}",
        "wss://{N}/{M}",
        "gopher://{N}/{M}",
        "unix:/{M}",
        "javascript:/{M}",
        "HTTP//{N}/{M}",
        "http//{N}/{M}",
        "http:\\\\{N}/{M}",
        "http://{N},evil.example/{M}",
        "http://{N}#@evil.example/{M}",
        "http://{N}\\{M}",
        "http://{N};/{M}",
        "http://\u{e9}.example/{M}",
        "h2://{N}/{M}",
        "https:/{N}/{M}",
    ];
    let get = targets.map(|target| Case::refuse("D20", format!("GET {target} HTTP/1.1\r\n{{H}}\r\n")));
    let options = Case::refuse("D20", "OPTIONS * HTTP/1.1\r\n{H}\r\n");
    get.into_iter().chain([options]).collect()
}

/// D13: another case is another path, and no destination.
fn other_paths() -> Vec<Case> {
    let paths = [
        "/SEND/{M}",
        "/Send/{M}",
        "/send%20/{M}",
        "/send%2F{M}",
        "/sendx/{M}",
        "/{M}/send",
        "/send.json/{M}",
        "/se%6Ed%2f{M}",
        "/{M}",
    ];
    paths.map(|path| Case::answers("D13", post_to(path), &[403])).into()
}

/// D19: long targets.
fn lengths() -> Vec<Case> {
    let long = [4097, 5000, 8000, 20_000, 70_000]
        .map(|length| Case::refuse("D19", post_to(&format!("/send/{{M}}/{}", "a".repeat(length)))));
    let path = format!("/send/{{M}}/{}", "a".repeat(3900));
    let fits = Case { id: "D19", text: post_to(&path), verdict: Verdict::Send(path, String::new()) };
    long.into_iter().chain([fits]).collect()
}

fn post_to(path: &str) -> String {
    format!("POST {{T}}{path} HTTP/1.1\r\n{{H}}Content-Length: 0\r\n\r\n")
}

/// What servers read in several ways, with the row it belongs to.
const MARKS: &[(&str, &str)] = &[
    ("D02", "%2e%2e"),
    ("D02", "%2E%2E"),
    ("D02", "%2e."),
    ("D02", ".%2e"),
    ("D02", "%2e"),
    ("D02", "%2E%2e%2e"),
    ("D03", "%5c"),
    ("D03", "%5C"),
    ("D03", "..%5c.."),
    ("D03", "%2F..%2F"),
    ("D03", "..%2f"),
    ("D03", "%2f.%2fx"),
    ("D04", "/"),
    ("D04", "//"),
    ("D04", "/x//y"),
    ("D06", ";"),
    ("D06", ";x=1"),
    ("D06", "..;"),
    ("D06", "..;foo=bar"),
    ("D06", ".;"),
    ("D07", "\\"),
    ("D07", "..\\"),
    ("D07", "\\.."),
    ("D08", "%252e%252e"),
    ("D08", "%252E"),
    ("D08", "%252f"),
    ("D08", "%252F"),
    ("D08", "%25%32%66"),
    ("D08", "%25%32%65"),
    ("D08", "%25252e"),
    ("D08", "%255c"),
    ("D08", "%2500"),
    ("D08", "%2525"),
    ("D09", "%00"),
    ("D09", "%0a"),
    ("D09", "%0d"),
    ("D09", "%0d%0aHost:%20evil"),
    ("D09", "%09"),
    ("D09", "%7f"),
    ("D09", "%01"),
    ("D09", "%1f"),
    ("D09", "%1B"),
    ("D10", "%c0%ae"),
    ("D10", "%c0%ae%c0%ae"),
    ("D10", "%e0%80%ae"),
    ("D10", "%c0%af"),
    ("D10", "%f0%80%80%ae"),
    ("D10", "%ff"),
    ("D10", "%fe%ff"),
    ("D10", "%ed%a0%80"),
    ("D10", "%c3"),
    ("D10", "%f8%88%80%80%ae"),
    ("D11", "\u{e9}"),
    ("D11", "\u{c3}\u{a9}"),
    ("D11", "\u{ff}"),
    ("D11", "\u{ef}\u{bc}\u{8f}"),
    ("D11", "\u{0}"),
    ("D11", "\u{7f}"),
    ("D11", "\t"),
    ("D11", " "),
    ("D11", "\u{b}"),
    ("D15", "#"),
    ("D15", "#frag"),
    ("D15", "?a#b"),
    ("D09", "%"),
    ("D09", "%2"),
    ("D09", "%zz"),
    ("D09", "%u002e"),
    ("D09", "%%32e"),
    ("D09", "%+2e"),
    ("D11", "\""),
    ("D11", "<"),
    ("D11", ">"),
    ("D11", "^"),
    ("D11", "`"),
    ("D11", "{"),
    ("D11", "|"),
    ("D11", "}"),
];
