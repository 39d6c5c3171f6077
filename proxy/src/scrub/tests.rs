//! Echoes in every form and at every split, checked against renderings that are made here anew.

use std::sync::LazyLock;

use data_encoding::{BASE64, BASE64URL, HEXLOWER, HEXUPPER};
use proptest::prelude::*;

use super::*;

/// Whatever it stands for, each secret part of this is longer than twelve characters.
const SECRET: &str = "sk_live_4eC39HqLyjWDarjtT1zdp7dc/+x";

/// An echo, and how many characters at its two ends stand partly for what is beside the secret.
type Echo = (&'static str, String, usize);

fn each(write: impl Fn(u8) -> String) -> String {
    SECRET.bytes().map(write).collect()
}

fn echoes() -> Vec<Echo> {
    let beside = |before: &str| [before, SECRET, "&"].concat();
    vec![
        ("plain", SECRET.to_owned(), 0),
        ("upper", SECRET.to_uppercase(), 0),
        ("lower", SECRET.to_lowercase(), 0),
        ("base64 0", BASE64.encode(beside("").as_bytes()), 4),
        ("base64 1", BASE64.encode(beside("a").as_bytes()), 7),
        ("base64 2", BASE64.encode(beside("ab").as_bytes()), 7),
        ("base64url", BASE64URL.encode(beside("ab").as_bytes()), 7),
        ("basic", format!("Basic {}", BASE64.encode([SECRET, ":"].concat().as_bytes())), 10),
        ("basic password", format!("Basic {}", BASE64.encode(["x-access-token:", SECRET].concat().as_bytes())), 30),
        ("hex", HEXLOWER.encode(SECRET.as_bytes()), 0),
        ("HEX", HEXUPPER.encode(SECRET.as_bytes()), 0),
        ("percent", each(|byte| format!("%{byte:02x}")), 0),
        ("PERCENT", each(|byte| format!("%{byte:02X}")), 0),
        ("percent where needed", SECRET.replace('/', "%2F").replace('+', "%2B"), 0),
        ("json", each(|byte| format!("\\u{byte:04x}")), 0),
        ("JSON", each(|byte| format!("\\u{byte:04X}")), 0),
        ("json slashes", SECRET.replace('/', "\\/"), 0),
        ("html", each(|byte| format!("&#{byte};")), 0),
        ("html hex", each(|byte| format!("&#x{byte:x};")), 0),
        ("html HEX", each(|byte| format!("&#x{byte:X};")), 0),
    ]
}

fn scrubber() -> Scrubber {
    Scrubber::new(Arc::clone(&NEEDLES))
}

fn scrubbed(parts: &[&[u8]]) -> Vec<u8> {
    let mut scrubber = scrubber();
    let mut shown: Vec<u8> = parts.iter().flat_map(|part| scrubber.push(Bytes::copy_from_slice(part))).collect();
    shown.extend(scrubber.release());
    shown
}

/// Text such as APIs send, without the secret.
fn filler(length: usize) -> Vec<u8> {
    let line = b"{\"id\": \"ch_3MmlLrLkdIwHu7ix0snN0B15\", \"key\": \"sk_live_...\", \"amount\": 1099, \"sk_live_4eC39HqLyjW\": 1}\n";
    line.iter().copied().cycle().take(length).collect()
}

#[test]
fn every_form_is_masked_and_nothing_else() {
    for (name, echo, unsure) in echoes() {
        let (before, after) = (filler(500), filler(300));
        let shown = scrubbed(&[&[&before, echo.as_bytes(), &after].concat()]);
        assert_eq!(shown[..500], before, "{name}");
        assert_eq!(shown[500 + echo.len()..], after, "{name}");
        let seen: Vec<u8> = shown[500..500 + echo.len()].iter().copied().filter(|byte| *byte != MASK).collect();
        assert!(seen.len() <= unsure, "{name}: {}", String::from_utf8_lossy(&seen));
    }
}

#[test]
fn no_split_of_a_reply_lets_anything_through() {
    // 64 KiB in which every form stands several times. What is further from a split than the longest form has no part
    // in what happens there.
    let mut reply = Vec::new();
    for (name, echo, _) in echoes().into_iter().cycle() {
        reply.extend(filler(name.len() * 40));
        reply.extend(echo.into_bytes());
        if reply.len() > 64 * 1024 {
            break;
        }
    }
    let whole = scrubbed(&[&reply]);
    for at in 0..reply.len() {
        let (from, to) = (at.saturating_sub(NEAR), (at + NEAR).min(reply.len()));
        let shown = scrubbed(&[&reply[from..at], &reply[at..to]]);
        // At the edges of this part of the reply an echo may be cut to less than gives something away.
        let inner = EDGE.min(at - from)..shown.len() - EDGE.min(to - at);
        assert!(shown[inner.clone()] == whole[from + inner.start..from + inner.end], "split at {at}");
    }
}

#[test]
fn a_reply_in_single_bytes_is_masked_as_in_one_piece() {
    for (name, echo, _) in echoes() {
        let reply = [&filler(150), echo.as_bytes(), &filler(100)].concat();
        let bytes: Vec<&[u8]> = reply.chunks(1).collect();
        assert_eq!(scrubbed(&bytes), scrubbed(&[&reply]), "{name}");
    }
}

#[test]
fn twelve_characters_give_something_away_and_eleven_do_not() {
    for part in b"4eC39HqLyjWDarjtT1zdp7dc/+x".windows(12) {
        assert_eq!(scrubbed(&[b"key ", part, b" end"]), b"key ************ end");
        let little = &part[1..];
        assert_eq!(scrubbed(&[b"key !", little, b"! end"]), [b"key !", little, b"! end"].concat());
    }
    let hint = "Invalid key sk_live_4eC39HqLyjW...";
    assert_eq!(scrubbed(&[hint.as_bytes()]), hint.as_bytes(), "what is published is not counted");
}

#[test]
fn a_short_secret_is_masked_as_a_whole() {
    let shown = |secret: &str, text: &'static str| {
        let mut scrubber = Scrubber::new(Arc::new(Needles::new(&[secret.as_bytes()])));
        [scrubber.push(Bytes::from_static(text.as_bytes())), scrubber.release()].concat()
    };
    assert_eq!(shown("hunter2", "a HUNTER2 hunter b aHVudGVyMg== c"), b"a ******* hunter b *********g== c");
    assert_eq!(shown("abc", "abc"), b"abc", "it would be found everywhere");
}

#[test]
fn what_is_the_same_in_all_tokens_is_not_counted() {
    let url = "https://hooks.example/T0AAAA/B0BBBBBBBBBB";
    let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0In0.c2ln";
    let mut scrubber = Scrubber::new(Arc::new(Needles::new(&[url.as_bytes(), token.as_bytes()])));
    let public = "see https://hooks.example/ and eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.\n";
    assert_eq!(scrubber.push(Bytes::from_static(public.as_bytes())), public);
    assert_eq!(scrubber.push(Bytes::from_static(b"a /T0AAAA/B0BBBB\n")), "a **************\n");
    assert_eq!(scrubber.push(Bytes::from_static(b"a .eyJzdWIiOiIx\n")), "a *************\n");
}

#[test]
fn an_event_is_not_held_and_a_beginning_is() {
    let mut scrubber = scrubber();
    for event in ["data: {\"text\": \"hello\"}\n\n", ": ping\n\n", "event: x\r\ndata: sk_live_\r\n\r\n"] {
        assert_eq!(scrubber.push(Bytes::from_static(event.as_bytes())), event);
    }
    assert_eq!(scrubber.push(Bytes::from_static(b"key: sk_live_4eC39Hq")), "key: ");
    assert!(!scrubber.holds_little());
    assert_eq!(scrubber.push(Bytes::from_static(b"!\n")), "sk_live_4eC39Hq!\n");
    assert_eq!(scrubber.masked(), 0);
}

#[test]
fn a_pause_lets_little_go_and_the_rest_is_masked() {
    let mut scrubber = scrubber();
    assert_eq!(scrubber.push(Bytes::from_static(b"\n4e")), "\n");
    assert!(scrubber.holds_little());
    assert_eq!(scrubber.release(), "4e");
    assert!(!scrubber.holds_little());
    assert_eq!(scrubber.push(Bytes::from_static(b"C39HqLyjWDarjtT1zdp7dc/+x!")), "*************************!");
}

#[test]
fn headers_are_masked_too() {
    let mut headers = HeaderMap::new();
    headers.append("location", HeaderValue::from_str(&format!("https://x/?k={SECRET}")).unwrap());
    headers.append("x-plain", HeaderValue::from_static("sk_live_"));
    let mut scrubber = scrubber();
    scrubber.scrub_headers(&mut headers);
    assert_eq!(headers["location"], format!("https://x/?k={}", "*".repeat(SECRET.len())));
    assert_eq!((headers["x-plain"].to_str().unwrap(), scrubber.masked()), ("sk_live_", SECRET.len() as u64));
}

proptest! {
    #[test]
    fn how_a_reply_is_cut_changes_nothing(
        pieces in prop::collection::vec((0..20_usize, 0..30_usize, 0..60_usize), 1..8),
        cuts in prop::collection::vec(prop_oneof![1..90_usize, 200..700_usize], 1..40),
    ) {
        let echoes = echoes();
        let mut reply = Vec::new();
        for (which, skip, length) in pieces {
            let echo = &echoes[which].1;
            reply.extend(echo.bytes().skip(skip).take(length));
            reply.extend(filler(length / 3));
        }
        let mut rest = reply.as_slice();
        let mut parts = Vec::new();
        for cut in cuts.into_iter().cycle() {
            let (part, after) = rest.split_at(cut.min(rest.len()));
            parts.push(part);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(scrubbed(&parts), scrubbed(&[&reply]));
    }
}

static NEEDLES: LazyLock<Arc<Needles>> = LazyLock::new(|| Arc::new(Needles::new(&[SECRET.as_bytes()])));

/// Further than any form is long.
const NEAR: usize = 450;

/// Longer than any form.
const EDGE: usize = 220;
