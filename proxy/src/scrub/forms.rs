//! The forms in which a secret may come back: as it is, and as encoders write it.
//!
//! All in lower case, because they are compared without regard to it: that finds upper-case echoes and both spellings
//! of hexadecimal digits as well. What stands before the part that is secret, such as `sk_live_` or the scheme and host
//! of a URL, is published and gives nothing away alone.

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, Encoding};
use zeroize::Zeroizing;

/// One way of writing a secret.
pub(super) struct Form {
    /// In lower case.
    pub(super) text: Zeroizing<Vec<u8>>,
    /// Where the part that counts begins.
    pub(super) counted: usize,
    /// So many bytes in a row of the part that counts give something away: the least that write [`TELLING`] characters
    /// of the secret, or all of it.
    pub(super) window: usize,
}

/// How an encoder writes single characters: those it keeps, and what it makes of the others.
struct Spelling {
    keeps: fn(u8) -> bool,
    writes: fn(u8, &mut Vec<u8>),
}

// === impl Spelling ===

impl Spelling {
    fn changes(&self, text: &[u8]) -> bool {
        !text.iter().all(|byte| (self.keeps)(*byte))
    }
}

/// Every form of a secret, each once. One of fewer than [`LEAST`] characters has none: it would be found everywhere.
pub(super) fn forms(secret: &[u8]) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::new();
    if secret.len() < LEAST {
        return forms;
    }
    let mut add = |form: Form| {
        if !forms.iter().any(|other| other.text == form.text) {
            forms.push(form);
        }
    };
    let published = published(secret);
    add(spelled(secret, published, &PLAIN));
    for spelling in SPELLINGS.iter().filter(|spelling| spelling.changes(secret)) {
        add(spelled(secret, published, spelling));
    }
    let window = (8 * TELLING.min(secret.len() - published) - 4) / 6;
    for (alphabet, before) in ALPHABETS.iter().flat_map(|alphabet| [0, 1, 2].map(|before| (alphabet, before))) {
        let (text, counted) = base64(secret, published, before, alphabet);
        add(Form { window, ..spelled(&text, counted, &PLAIN) });
        for spelling in [&PERCENT, &SLASHES].into_iter().filter(|spelling| spelling.changes(&text)) {
            add(Form { window, ..spelled(&text, counted, spelling) });
        }
    }
    forms
}

/// The octets of `text` one by one as the encoder writes them.
fn spelled(text: &[u8], published: usize, spelling: &Spelling) -> Form {
    let mut written = Zeroizing::new(Vec::with_capacity(LONGEST * text.len()));
    let mut ends = Vec::with_capacity(text.len() + 1);
    ends.push(0);
    for byte in text {
        if (spelling.keeps)(*byte) {
            written.push(*byte)
        } else {
            (spelling.writes)(*byte, &mut written)
        }
        ends.push(written.len());
    }
    written.make_ascii_lowercase();
    let secret = ends.get(published..).unwrap_or_default();
    let spans = secret.windows(TELLING.min(secret.len() - 1) + 1).filter_map(|span| Some(span.last()? - span.first()?));
    Form {
        text: written,
        counted: secret.first().copied().unwrap_or_default(),
        window: spans.min().unwrap_or(usize::MAX),
    }
}

/// The characters that depend on the secret alone when so many octets stand `before` it, and how many of them are
/// published.
fn base64(secret: &[u8], published: usize, before: usize, alphabet: &Encoding) -> (Zeroizing<Vec<u8>>, usize) {
    let mut octets = Zeroizing::new(vec![0; before]);
    octets.reserve_exact(secret.len());
    octets.extend_from_slice(secret);
    let whole = Zeroizing::new(alphabet.encode(&octets).into_bytes());
    let (from, until) = ((8 * before).div_ceil(6), 8 * octets.len() / 6);
    let counted = (8 * (before + published)).div_ceil(6) - from;
    (Zeroizing::new(whole.get(from..until).unwrap_or_default().to_vec()), counted)
}

/// How many octets at the beginning are the same for everyone who has such a secret.
fn published(secret: &[u8]) -> usize {
    let after = |mark: &[u8], from: usize| {
        let rest = secret.get(from..)?;
        memchr::memmem::find(rest, mark).map(|at| from + at + mark.len())
    };
    let length = if secret.starts_with(b"https://") || secret.starts_with(b"http://") {
        after(b"/", 8)
    } else if secret.starts_with(b"eyJ") {
        // The header of a JSON Web Token says which algorithm signed it, and little else (RFC 7515).
        after(b".", 0)
    } else {
        PUBLISHED.iter().filter(|prefix| secret.starts_with(prefix.as_bytes())).map(|prefix| prefix.len()).max()
    };
    length.filter(|length| secret.len() - length >= LEAST).unwrap_or(0)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn push_hex(byte: u8, out: &mut Vec<u8>) {
    out.extend([byte >> 4, byte & 15].map(|digit| if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }));
}

fn push_decimal(byte: u8, out: &mut Vec<u8>) {
    let digits = [byte / 100, byte / 10 % 10, byte % 10];
    out.extend(digits.iter().skip_while(|digit| **digit == 0).map(|digit| b'0' + digit));
}

fn percent(byte: u8, out: &mut Vec<u8>) {
    out.push(b'%');
    push_hex(byte, out);
}

fn unicode(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\\u00");
    push_hex(byte, out);
}

fn backslash(byte: u8, out: &mut Vec<u8>) {
    out.extend([b'\\', byte]);
}

fn decimal_entity(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(b"&#");
    push_decimal(byte, out);
    out.push(b';');
}

fn hex_entity(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(b"&#x");
    push_hex(byte, out);
    out.push(b';');
}

fn named_entity(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'&' => out.extend_from_slice(b"&amp;"),
        b'<' => out.extend_from_slice(b"&lt;"),
        b'>' => out.extend_from_slice(b"&gt;"),
        b'"' => out.extend_from_slice(b"&quot;"),
        other => decimal_entity(other, out),
    }
}

/// So many characters of a secret in a row give something away.
pub(super) const TELLING: usize = 12;

/// Characters of the shortest secret that is looked for.
pub(super) const LEAST: usize = 4;

/// Octets that an encoder makes of one at most.
const LONGEST: usize = 6;

const PLAIN: Spelling = Spelling { keeps: |_| true, writes: percent };
const PERCENT: Spelling = Spelling { keeps: is_unreserved, writes: percent };
const SLASHES: Spelling = Spelling { keeps: |byte| byte != b'/', writes: backslash };

const SPELLINGS: &[Spelling] = &[
    // RFC 3986 in full and where needed, and as forms write it.
    Spelling { keeps: |_| false, writes: percent },
    PERCENT,
    Spelling {
        keeps: |byte| byte.is_ascii_alphanumeric() || b"*-._".contains(&byte),
        writes: |byte, out| if byte == b' ' { out.push(b'+') } else { percent(byte, out) },
    },
    Spelling { keeps: |_| false, writes: push_hex },
    // JSON in full, where needed, with escaped slashes, and fit for HTML.
    Spelling { keeps: |_| false, writes: unicode },
    Spelling { keeps: |byte| !b"\"\\".contains(&byte), writes: backslash },
    Spelling { keeps: |byte| !b"\"\\/".contains(&byte), writes: backslash },
    Spelling {
        keeps: |byte| !b"\"\\<>&'".contains(&byte),
        writes: |byte, out| if b"\"\\".contains(&byte) { backslash(byte, out) } else { unicode(byte, out) },
    },
    // UTF-16 in both orders, which a reply need not announce.
    Spelling { keeps: |_| false, writes: |byte, out| out.extend([byte, 0]) },
    Spelling { keeps: |_| false, writes: |byte, out| out.extend([0, byte]) },
    // HTML in full, decimal and hexadecimal, and where needed.
    Spelling { keeps: |_| false, writes: decimal_entity },
    Spelling { keeps: |_| false, writes: hex_entity },
    Spelling { keeps: |byte| !b"&<>\"'".contains(&byte), writes: named_entity },
    Spelling { keeps: |byte| !b"&<>\"'".contains(&byte), writes: decimal_entity },
    Spelling { keeps: |byte| !b"&<>\"'".contains(&byte), writes: hex_entity },
];

const ALPHABETS: &[Encoding] = &[BASE64_NOPAD, BASE64URL_NOPAD];

/// Beginnings that services give to all of their keys.
const PUBLISHED: &[&str] = &[
    "AIza",
    "AKIA",
    "ASIA",
    "EAAG",
    "GOCSPX-",
    "SG.",
    "dckr_pat_",
    "dop_v1_",
    "gh",
    "ghp_",
    "gho_",
    "ghr_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "hf_",
    "hvs.",
    "key-",
    "lin_api_",
    "npm_",
    "ops_",
    "pat-na1-",
    "pk_live_",
    "pk_test_",
    "pypi-",
    "rk_live_",
    "rk_test_",
    "s.",
    "secret_",
    "shpat_",
    "sk-",
    "sk-ant-",
    "sk-ant-api03-",
    "sk-proj-",
    "sk_live_",
    "sk_test_",
    "sq0atp-",
    "whsec_",
    "xapp-",
    "xoxa-",
    "xoxb-",
    "xoxp-",
    "xoxr-",
    "ya29.",
];
