//! Rows of the threat catalogue that a head alone decides, by id, and properties that hold for any bytes.

use proptest::prelude::*;

use super::*;

fn read(raw: &[u8]) -> Result<Option<Head>, Refusal> {
    parse(raw, &Limits::default())
}

/// A request with `line` among its headers.
fn with(line: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a.example\r\n{line}\r\n\r\n")
}

fn refused(raw: &[u8]) -> bool {
    matches!(read(raw), Err(Refusal::Ambiguous(_)))
}

#[test]
fn plain_requests_pass() {
    let cases = [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Framing::Length(0)),
        ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Framing::Length(0)),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), Framing::Length(0)),
        ("CONNECT a:443 HTTP/1.0\r\n\r\n".to_owned(), Framing::Length(0)),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".to_owned(), Framing::Length(0)),
        (with("Content-Length: 0"), Framing::Length(0)),
        (with("content-length:7"), Framing::Length(7)),
        (with("CONTENT-LENGTH: \t 7 \t"), Framing::Length(7)),
        (with("Transfer-Encoding: chunked"), Framing::Chunked),
        (with("Expect: 100-Continue\r\nContent-Length: 3"), Framing::Length(3)),
    ];
    for (raw, framing) in cases {
        let head = read(raw.as_bytes()).unwrap().unwrap();
        assert_eq!((head.framing, head.bytes), (framing, raw.len()), "{raw}");
        for end in 1..raw.len() {
            assert!(matches!(read(&raw.as_bytes()[..end]), Ok(None)), "{raw} cut at {end}");
        }
    }
}

#[test]
fn a01_to_a17_framing_that_can_be_read_in_two_ways() {
    let lines = [
        ("a01", "Content-Length: 5\r\nTransfer-Encoding: chunked"),
        ("a02", "Transfer-Encoding: chunked\r\nContent-Length: 4"),
        ("a03", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        ("a04", "Transfer-Encoding: ,chunked"),
        ("a05", "Transfer-Encoding: cow, chunked"),
        ("a05", "Transfer-Encoding: gzip, chunked"),
        ("a05", "Transfer-Encoding: identity"),
        ("a05", "Transfer-Encoding: xchunked"),
        ("a05", "Transfer-Encoding: chunked, gzip"),
        ("a05", "Transfer-Encoding:"),
        ("a07", "Transfer-Encoding:\u{b}chunked"),
        ("a07", "Transfer-Encoding: \u{a0}chunked"),
        ("a08", "Transfer-Encoding : chunked"),
        ("a09", "Transfer_Encoding: chunked"),
        ("a09", "Content_Length: 5"),
        ("a10", "X: a\r\n Transfer-Encoding: chunked"),
        ("a10", "X: a\r\n\tTransfer-Encoding: chunked"),
        ("a12", "X: a\rTransfer-Encoding: chunked"),
        ("a14", "X: good\0evil"),
        ("a14", "X\0: good"),
        ("a15", "Content-Length: 0\r\nContent-Length: 31"),
        ("a16", "Content-Length: 1\r\nContent-Length: 1"),
        ("a16", "Content-Length: 1, 1"),
        ("a17", "Content-Length: +5"),
        ("a17", "Content-Length: -5"),
        ("a17", "Content-Length: 0x5"),
        ("a17", "Content-Length: 5_0"),
        ("a17", "Content-Length: 05"),
        ("a17", "Content-Length: 5 x"),
        ("a17", "Content-Length:"),
        ("a17", "Content-Length: 18446744073709551617"),
        ("a17", "Content-Length: 9223372036854775808"),
        ("a37", "no colon"),
        ("a37", ": no name"),
        ("a37", "na(me: x"),
        ("a37", "na\"me: x"),
        ("a39", "Te\nst: chunked"),
        ("c10", "Host: b.example"),
    ];
    for (id, line) in lines {
        assert!(refused(with(line).as_bytes()), "{id}: {line:?}");
    }
}

#[test]
fn a06_noise_around_transfer_encoding_is_never_ignored() {
    let noise = (0x01..=0x20_u8).chain(0x7f..=0xff);
    let mut variants = 0;
    for byte in noise {
        let places: [[&[u8]; 4]; 6] = [
            [&[byte], b"", b"", b""],
            [b"", &[byte], b"", b""],
            [b"", b"", &[byte], b""],
            [b"", b"", b"", &[byte]],
            [&[byte, byte], b"", b"", b""],
            [b"", &[byte, byte], b"", b""],
        ];
        for [before_name, before_colon, after_colon, after_value] in places {
            let parts: [&[u8]; 9] = [
                b"POST / HTTP/1.1\r\nHost: a\r\n",
                before_name,
                b"Transfer-Encoding",
                before_colon,
                b":",
                after_colon,
                b"chunked",
                after_value,
                b"\r\n\r\n",
            ];
            let plain_space = [b' ', b'\t'].contains(&byte) && before_name.is_empty() && before_colon.is_empty();
            // A line feed at the end ends the line: what follows is then an empty line with a bare feed before it.
            let read = read(&parts.concat());
            match read {
                Ok(Some(head)) => assert!(plain_space && head.framing == Framing::Chunked, "0x{byte:02x}"),
                Ok(None) => panic!("0x{byte:02x} waits for more"),
                Err(_) => assert!(!plain_space, "0x{byte:02x}"),
            }
            variants += 1;
        }
    }
    assert_eq!(variants, 161 * 6);
}

#[test]
fn a11_to_a42_lines_and_request_lines() {
    let raws: &[(&str, &[u8])] = &[
        ("a11", b"GET / HTTP/1.1\nHost: a\n\n"),
        ("a11", b"GET / HTTP/1.1\r\nHost: a\n\r\n"),
        ("a11", b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
        ("a26", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("a27", b"GET /\r\n\r\n"),
        ("a27", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
        ("a27", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
        ("a27", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"),
        ("a27", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a27", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
        ("a27", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a28", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 10\r\n\r\n"),
        ("a35", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a42", b"get / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a42", b"Post / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a42", b"G=\":<>(e),[T];?\" / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a42", b"FROBNICATE / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("b18", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("c10", b"GET / HTTP/1.1\r\n\r\n"),
        ("d11", "GET /caf\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n".as_bytes()),
        ("d15", b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("f01", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("f01", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    ];
    for (id, raw) in raws {
        assert!(refused(raw), "{id}: {:?}", String::from_utf8_lossy(raw));
    }
    for method in ["TRACE", "TRACK"] {
        let raw = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(matches!(read(raw.as_bytes()), Err(Refusal::MethodRefused(_))), "f10: {method}");
    }
    for expectation in ["200-ok", "y 100-continue", "100-continue, x"] {
        let raw = with(&format!("Expect: {expectation}"));
        assert!(matches!(read(raw.as_bytes()), Err(Refusal::Expectation)), "a34: {expectation}");
    }
}

#[test]
fn l04_d19_heads_over_a_limit() {
    let limits = Limits::default();
    let many: String = (0..=limits.headers).map(|number| format!("x-{number}: 1\r\n")).collect();
    let heads = [
        format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(Limits::size(limits.target_bytes))),
        format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "a".repeat(Limits::size(limits.line_bytes))),
        format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}", "a".repeat(Limits::size(limits.head_bytes))),
    ];
    for raw in heads {
        assert!(
            matches!(read(raw.as_bytes()), Err(Refusal::HeadTooLarge(_) | Refusal::TargetTooLong(_))),
            "{}",
            &raw.chars().take(40).collect::<String>()
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_refused_or_waited_for(raw in proptest::collection::vec(any::<u8>(), 0..400)) {
        drop(read(&raw));
    }

    /// What passes holds nothing that a lenient reader could take for another line, length or encoding.
    #[test]
    fn a_head_that_passes_is_plain(lines in proptest::collection::vec("[ -~\t\r\n\u{b}\u{0}]{0,30}", 0..6)) {
        let raw = format!("POST /x HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", lines.join("\r\n"));
        if let Ok(Some(head)) = read(raw.as_bytes()) {
            let kept = head.headers.iter().flat_map(|(name, value)| name.bytes().chain(value.bytes()));
            prop_assert!(kept.clone().all(|byte| byte == b'\t' || (0x20..0x7f).contains(&byte)));
            let named = |name: &str| head.headers.iter().filter(|(each, _)| each == name).count();
            prop_assert!(named("host") == 1 && named("content-length") + named("transfer-encoding") <= 1);
        }
    }
}
