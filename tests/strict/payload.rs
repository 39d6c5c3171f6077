//! One hostile payload as data: the bytes, the row of the threat catalogue it belongs to, and what must come of it.
//!
//! Payloads are templates, one byte for each character. `{T}` is what stands before the path in the request line, `{N}`
//! the host, `{C}` a header line with the agent's credential where one is needed, `{H}` Host and credential with their
//! line ends, `{M}` a mark by which requests, permits and payloads find each other.

/// A payload and its verdict.
#[derive(Debug)]
pub(crate) struct Case {
    /// The row of the catalogue.
    pub(crate) id: &'static str,
    /// The template.
    pub(crate) text: String,
    /// What must come of it.
    pub(crate) verdict: Verdict,
}

/// What must come of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// These answers in this order; as many requests reach the origin as there are 200 among them.
    Answers(&'static [u16]),
    /// It ends too early: nothing reaches the origin, and the connection ends soon after the client's side did.
    Cut,
    /// One 4xx answer of the gate, then the end of the connection; nothing reaches the origin, nor does what follows.
    Refuse,
    /// Forwarded once as this target with this body; both are templates.
    Send(String, String),
}

/// What the templates' marks stand for.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// The part of an absolute form before the path, or nothing.
    pub(crate) prefix: &'a str,
    /// The host.
    pub(crate) host: &'a str,
    /// A header line without its end.
    pub(crate) credential: &'a str,
    /// The mark of this payload.
    pub(crate) mark: &'a str,
}

// === impl Case ===

impl Case {
    /// A payload that must be refused. A plain request follows it, which must never be read.
    pub(crate) fn refuse(id: &'static str, text: impl Into<String>) -> Case {
        Case { id, text: text.into() + NEXT, verdict: Verdict::Refuse }
    }

    /// A payload that must be forwarded as a POST or GET of `/send/{M}` with this body.
    pub(crate) fn send(id: &'static str, text: impl Into<String>, body: &str) -> Case {
        Case { id, text: text.into(), verdict: Verdict::Send("/send/{M}".to_owned(), body.to_owned()) }
    }

    /// A payload that must get these answers.
    pub(crate) fn answers(id: &'static str, text: impl Into<String>, answers: &'static [u16]) -> Case {
        Case { id, text: text.into(), verdict: Verdict::Answers(answers) }
    }

    /// A payload that breaks off.
    pub(crate) fn cut(id: &'static str, text: impl Into<String>) -> Case {
        Case { id, text: text.into(), verdict: Verdict::Cut }
    }
}

// === impl Place ===

impl Place<'_> {
    /// The text of a template here.
    pub(crate) fn fill(&self, template: &str) -> String {
        template
            .replace("{H}", "Host: {N}\r\n{C}\r\n")
            .replace("{T}", self.prefix)
            .replace("{N}", self.host)
            .replace("{C}", self.credential)
            .replace("{M}", self.mark)
    }

    /// The bytes of a template here.
    pub(crate) fn bytes(&self, template: &str) -> Vec<u8> {
        latin1(&self.fill(template))
    }
}

/// A POST to `/send/{M}` with these header lines, each with its line end, and what follows the head.
pub(crate) fn post(lines: &str, rest: &str) -> String {
    format!("POST {{T}}/send/{{M}} HTTP/1.1\r\n{{H}}{lines}\r\n{rest}")
}

/// One byte for each character.
pub(crate) fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|each| u8::try_from(u32::from(each)).expect("templates hold bytes only")).collect()
}

/// A plain request that would pass.
pub(crate) const NEXT: &str = "GET {T}/{M}/next HTTP/1.1\r\n{H}\r\n";
