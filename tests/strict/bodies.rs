//! Payloads that are decided by their body: rows A19 to A25 of the catalogue.

use super::payload::{Case, post};

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let refused = sizes().into_iter().chain(extensions()).chain(lengths()).chain(trailers());
    let refused = refused.map(|(id, body)| Case::refuse(id, post(CHUNKED, &body)));
    let sent = [
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("05\r\nhello\r\n0\r\n\r\n", "hello"),
        ("000000000000005\r\nhello\r\n000\r\n\r\n", "hello"),
        ("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
        ("1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n", "hello"),
        ("0\r\n\r\n", ""),
        ("7\r\n0\r\n\r\nGE\r\n0\r\n\r\n", "0\r\n\r\nGE"),
    ];
    let sent = sent.map(|(body, whole)| Case::send("A19", post(CHUNKED, body), whole));
    let cut = [
        "",
        "5",
        "5\r\n",
        "5\r\nhel",
        "5\r\nhello",
        "5\r\nhello\r\n",
        "5\r\nhello\r\n0",
        "5\r\nhello\r\n0\r\n",
        "5\r\nhello\r\n0\r\n\r",
        "fffffffffffffff\r\nhello",
    ];
    let cut = cut.map(|body| Case::cut("A24", post(CHUNKED, body)));
    refused.chain(sent).chain(cut).collect()
}

/// A19 to A21: sizes that are no plain hexadecimal numbers, lines that do not end in CRLF.
fn sizes() -> Vec<(&'static str, String)> {
    let odd = [
        "0x5", "0X5", "x5", "+5", "-5", "-0x0", "--5", "5_0", "5.0", "5e", "5g", "g", "", " ", " 5", "5 ", "\t5",
        "5\t", "  5  ", "5,", ",5", "5,5", "\"5\"", "5h", "5\u{0}", "\u{0}5", "\u{a0}5", "5\u{a0}", "5\u{b}", "5\r",
        "\r5", "5#", "5/", "5=", "5:", "%35", "\\x35", "\u{b2}", "0x", "0x0", "-0", "+0", "-1", "00 ", "0 ", " 0",
        "5 5", "5\u{85}", "~5", "[5]", "(5)", "5h5",
    ];
    // `5e` is a number: 94 bytes that do not come in the right length.
    let odd = odd.map(|size| ("A19", format!("{size}\r\nhello\r\n0\r\n\r\n")));
    let long = [
        "10000000000000000",
        "00000000000000005",
        "0000000000000005",
        "FFFFFFFFFFFFFFFF",
        "ffffffffffffffff",
        "FFFFFFFFFFFFFFFB",
        "7fffffffffffffff",
        "8000000000000000",
        "100000000000000000000000000000005",
        "00000000000000000000000000000000000000000000000000000000000000000000005",
    ];
    let long = long.map(|size| ("A20", format!("{size}\r\nhello\r\n0\r\n\r\n")));
    let ends = [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "1\nZ\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\r\n",
        "0\n\n",
        "0\n",
        "0\r\r\n\r\n",
        "5\n\rhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "\n5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\r\n0\r\n\r\n",
    ];
    let ends = ends.map(|body| ("A21", body.to_owned()));
    odd.into_iter().chain(long).chain(ends).collect()
}

/// A23: chunk extensions.
fn extensions() -> Vec<(&'static str, String)> {
    let extensions = [
        ";",
        ";x",
        ";x=y",
        ";x=\"y\"",
        "; x",
        " ;x",
        ";x;y",
        ";x=\"\r\n\"",
        ";\u{0}",
        ";=",
        ";;",
        ";x=\u{ff}",
        ";x\ny",
        ";x\ry",
        " x",
        "\t;x",
    ];
    let on_data = extensions.iter().map(|extension| format!("5{extension}\r\nhello\r\n0\r\n\r\n"));
    let on_last = extensions.iter().map(|extension| format!("5\r\nhello\r\n0{extension}\r\n\r\n"));
    let long = [format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(100_000))];
    on_data.chain(on_last).chain(long).map(|body| ("A23", body)).collect()
}

/// A24: chunks that are longer or shorter than they say.
fn lengths() -> Vec<(&'static str, String)> {
    let bodies = [
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhell\r\n0\r\n\r\n",
        "5\r\nhellohello\r\n0\r\n\r\n",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\n\r\nhello\r\n0\r\n\r\n",
        "6\r\nhello\r\n0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n5\r\n0\r\n\r\n",
        "1\r\n\r\n\r\n0\r\n\r\n5",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "hello",
        "5 hello",
        "0\r\nGET {T}/{M}/inner HTTP/1.1\r\n{H}\r\n",
    ];
    bodies.map(|body| ("A24", body.to_owned())).into()
}

/// A25: trailers.
fn trailers() -> Vec<(&'static str, String)> {
    let lines = [
        "Authorization: Bearer x",
        "Content-Length: 5",
        "Host: evil.example",
        "Transfer-Encoding: chunked",
        "X: y",
        "Cookie: a=b",
        "Proxy-Authorization: x",
        "X-Gate-Wait: true",
        "Connection: host",
        "grpc-status: 0",
        "Content-Type: text/csv",
        ":",
        "no colon",
        " folded",
        "X: a\r\nY: b",
        "Te: trailers",
        "Trailer: x",
        "\u{0}",
    ];
    let declared = lines.map(|line| ("A25", format!("5\r\nhello\r\n0\r\n{line}\r\n\r\n")));
    declared.into()
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
