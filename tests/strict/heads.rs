//! Payloads that are decided by the header lines of their head: rows A01 to A17 and A39 of the catalogue.

use super::payload::{Case, post};

/// All of them but the noise.
pub(crate) fn cases() -> Vec<Case> {
    [two_lengths(), transfer_encodings(), lines(), lengths()].into_iter().flatten().collect()
}

/// A06: every control, space and non-ASCII byte at every place around a Transfer-Encoding.
pub(crate) fn noise() -> Vec<Case> {
    let mut cases = Vec::new();
    for byte in (0x01..=0x20_u8).chain(0x7f..=0xff).map(char::from) {
        let spelled = [
            (format!("{byte}Transfer-Encoding: chunked\r\n"), false),
            (format!("Transfer-Encoding{byte}: chunked\r\n"), false),
            (format!("Transfer-Encoding:{byte}chunked\r\n"), true),
            (format!("Transfer-Encoding: chunked{byte}\r\n"), true),
        ];
        for (line, inside) in spelled {
            let body = "5\r\nhello\r\n0\r\n\r\n";
            let space = inside && [' ', '\t'].contains(&byte);
            cases.push(if space {
                Case::send("A06", post(&line, body), "hello")
            } else {
                Case::refuse("A06", post(&line, body))
            });
        }
    }
    cases
}

/// A01, A02: a length and a transfer encoding.
fn two_lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    let inner = "GET {T}/{M}/inner HTTP/1.1\r\n{H}\r\n";
    let bodies = ["0\r\n\r\n", "0\r\n\r\nX", "5\r\nhello\r\n0\r\n\r\n", inner];
    for length in ["0", "1", "4", "5", "6", "11", "100"] {
        for body in bodies {
            let (cl, te) = (format!("Content-Length: {length}\r\n"), "Transfer-Encoding: chunked\r\n");
            cases.push(Case::refuse("A01", post(&format!("{cl}{te}"), body)));
            cases.push(Case::refuse("A02", post(&format!("{te}{cl}"), body)));
        }
    }
    cases
}

/// A03 to A08: every value but exactly `chunked`, every name but exactly the name.
fn transfer_encodings() -> Vec<Case> {
    let chunked = "0\r\n\r\n";
    let repeated = ["chunked|chunked", "chunked|identity", "identity|chunked", "chunked|", "|chunked", "gzip|chunked"];
    let repeated = repeated.iter().map(|pair| {
        let (first, second) = pair.split_once('|').unwrap();
        let lines = format!("Transfer-Encoding: {first}\r\ntransfer-encoding: {second}\r\n");
        Case::refuse("A03", post(&lines, chunked))
    });
    let commas = [",chunked", "chunked,", ", chunked", "chunked ,", "chunked,,", " ,chunked ,", ",", "chunked,chunked"];
    let commas = commas.iter().flat_map(|value| {
        let line = format!("Transfer-Encoding: {value}\r\n");
        let both = format!("{line}Content-Length: 5\r\n");
        [Case::refuse("A04", post(&line, chunked)), Case::refuse("A04", post(&both, chunked))]
    });
    let values = ENCODINGS.iter().flat_map(|value| {
        let line = format!("Transfer-Encoding: {value}\r\n");
        [Case::refuse("A05", post(&line, chunked)), Case::refuse("A07", post(&line, "5\r\nhello\r\n0\r\n\r\n"))]
    });
    let names = [
        "Transfer-Encoding ",
        "Transfer-Encoding\t",
        " Transfer-Encoding",
        "\tTransfer-Encoding",
        "Transfer-Encoding\u{0}",
        "Transfer Encoding",
    ];
    let names = names.iter().map(|name| Case::refuse("A08", post(&format!("{name}: chunked\r\n"), chunked)));
    let others = [
        "Content-Length : 5\r\n",
        "Content-Length\t: 5\r\n",
        " Content-Length: 5\r\n",
        "X-Other : 5\r\n",
        "Host : {N}\r\n",
    ];
    let others = others.iter().map(|line| Case::refuse("A08", post(line, "hello")));
    repeated.chain(commas).chain(values).chain(names).chain(others).collect()
}

/// A09 to A14, A39: what can stand in a line, and how it ends.
fn lines() -> Vec<Case> {
    let underscores = [
        "Transfer_Encoding: chunked",
        "Content_Length: 5",
        "X_Other: 1",
        "_: 1",
        "X-A_b: 1",
        "Host_: {N}",
        "content_length: 0",
        "Proxy_Authorization: x",
        "X_Api_Key: x",
        "X-Auth_Token: x",
    ];
    let underscores = underscores.iter().map(|line| ("A09", format!("{line}\r\n")));
    let folds = [
        "X: a\r\n Transfer-Encoding: chunked",
        "X: a\r\n\tTransfer-Encoding: chunked",
        "X: a\r\n b",
        "X: a\r\n  \r\nY: b",
        "X:\r\n a",
        "X: a\r\n\t",
        "Te\r\n st: x",
    ];
    let folds = folds.iter().map(|line| ("A10", format!("{line}\r\n")));
    let feeds = ["X: a\nTransfer-Encoding: chunked", "X: a\n", "X: a\n\n", "\nX: a", "X: a\n b", "X:\na"];
    let feeds = feeds.iter().map(|line| ("A11", format!("{line}\r\n")));
    let returns =
        ["X: a\rTransfer-Encoding: chunked", "X: a\r", "X\r: a", "\rX: a", "X: \ra", "X: a\r\rb", "\r", "X:\r\r\n a"];
    let returns = returns.iter().map(|line| ("A12", format!("{line}\r\n")));
    let controls = [
        "X: good\u{0}evil",
        "X\u{0}: a",
        "\u{0}: a",
        "X: \u{1}",
        "X: \u{7f}",
        "X: \u{1b}[2J",
        "X\u{8}: a",
        "X: caf\u{e9}",
        "X: \u{c3}\u{a9}",
        "X\u{e9}: a",
        "X: \u{b}a",
    ];
    let controls = controls.iter().map(|line| ("A14", format!("{line}\r\n")));
    let split = [
        "Te\nst: chunked",
        "Transfer-\r\nEncoding: chunked",
        "Transfer-Encoding\r\n: chunked",
        "Transfer-Encoding:\r\nchunked",
        "Content-\nLength: 5",
    ];
    let split = split.iter().map(|line| ("A39", format!("{line}\r\n")));
    let all = underscores.chain(folds).chain(feeds).chain(returns).chain(controls).chain(split);
    all.map(|(id, lines)| Case::refuse(id, post(&lines, ""))).chain(bare_feeds()).collect()
}

/// A11, A12: heads whose lines end in other ways.
fn bare_feeds() -> Vec<Case> {
    let (line, host, credential) = ("GET {T}/{M} HTTP/1.1", "Host: {N}", "{C}");
    let ends = [
        ["\n", "\n", "\n", "\n"],
        ["\n", "\r\n", "\r\n", "\r\n"],
        ["\r\n", "\n", "\r\n", "\r\n"],
        ["\r\n", "\r\n", "\n", "\r\n"],
        ["\r\n", "\r\n", "\r\n", "\n"],
        ["\r\n", "\r\n", "\n", "\n"],
        ["\r\r\n", "\r\n", "\r\n", "\r\n"],
        ["\r\n", "\r\r\n", "\r\n", "\r\n"],
        ["\r\n", "\r\n", "\r\n", "\r\r\n"],
        ["\n\r", "\n\r", "\n\r", "\n\r"],
        ["\r", "\r", "\r", "\r"],
        ["\r\n", "\r", "\r\n", "\r\n"],
    ];
    let heads = ends.map(|[a, b, c, d]| format!("{line}{a}{host}{b}{credential}{c}{d}"));
    heads.into_iter().map(|head| Case::refuse("A11", head)).collect()
}

/// A15 to A17: a Content-Length that is not one plain number.
fn lengths() -> Vec<Case> {
    let pairs = [
        ("0", "31"),
        ("31", "0"),
        ("5", "6"),
        ("1", "1"),
        ("5", "5"),
        ("0", "0"),
        ("5", ""),
        ("", "5"),
        ("5", "+5"),
        ("5", "x"),
    ];
    let pairs =
        pairs.map(|(first, second)| ("A15", format!("Content-Length: {first}\r\ncontent-length: {second}\r\n")));
    let values = LENGTHS.iter().map(|value| ("A17", format!("Content-Length: {value}\r\n")));
    pairs.into_iter().chain(values).map(|(id, lines)| Case::refuse(id, post(&lines, "hello"))).collect()
}

/// A05, A07: values of Transfer-Encoding.
const ENCODINGS: &[&str] = &[
    "",
    "cow",
    "cow, chunked",
    "gzip",
    "gzip, chunked",
    "deflate, chunked",
    "identity",
    "identity, chunked",
    "chunked, identity",
    "chunked, gzip",
    "chunked, chunked",
    "xchunked",
    "chunkedx",
    "chunke",
    "chunked;",
    "chunked;q=1",
    "chunked; foo=bar",
    "\"chunked\"",
    "'chunked'",
    "chunked x",
    "x chunked",
    "trailers",
    "chunked trailers",
    "Chunked",
    "CHUNKED",
    "cHuNkEd",
    "null",
    "chunked\u{0}",
    "chunked\u{b}",
    "\u{b}chunked",
    "\u{c}chunked",
    "\u{a0}chunked\u{a0}",
    "\u{85}chunked",
    "chunked\u{8}",
    "ch\u{0}unked",
    "chunked\u{1f}",
    "\u{ff}chunked",
    "[chunked]",
    "chunked#",
    "chunked/1",
];

/// A17: values of Content-Length.
const LENGTHS: &[&str] = &[
    "+5",
    "-5",
    "--5",
    "+0",
    "-0",
    "0x5",
    "0X5",
    "5h",
    "5_0",
    "05",
    "00",
    "005",
    "0b101",
    "0o5",
    "5 x",
    "x 5",
    "5 5",
    "5\t5",
    "5,5",
    "5, 5",
    "1, 1",
    "5, 6",
    "5,",
    ",5",
    "5;",
    "5;x",
    "5.0",
    "5.",
    ".5",
    "5e0",
    "5E0",
    "1e1",
    "\"5\"",
    "'5'",
    "(5)",
    "five",
    "NaN",
    "Infinity",
    "null",
    "true",
    "",
    "18446744073709551617",
    "18446744073709551616",
    "18446744073709551615",
    "9223372036854775808",
    "4611686018427387904",
    "99999999999999999999999999",
    "\u{b}5",
    "5\u{b}",
    "\u{a0}5",
    "5\u{a0}",
    "5\u{0}",
    "\u{85}5",
    "\u{b2}",
    "5#",
    "5/5",
    "%35",
    "5%20",
    "5:5",
    "=5",
    "\u{ef}\u{bc}\u{95}",
];
