//! Patterns of hosts and paths, and which of two is the more specific.
//!
//! Hosts are compared label by label and paths segment by segment, both byte for byte on canonical text. Nothing is
//! decoded here: `%2F` stays inside its segment.

use crate::authority::Host;
use crate::fault::{Code, Flaw};

/// Which hosts are meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HostPattern {
    /// This host only.
    Exact(Host),
    /// Every name with at least one label more than this one.
    Under(Host),
}

/// Which paths are meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PathPattern {
    segments: Vec<Segment>,
}

/// One segment of a path pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Segment {
    /// `name`: exactly these bytes.
    Literal(String),
    /// `*`: one segment that is not empty.
    One,
    /// `**`: any rest, also none.
    Rest,
}

// === impl HostPattern ===

impl HostPattern {
    /// Reads `api.example.com`, an address, or `*.example.com`.
    pub(crate) fn parse(text: &str) -> Result<Self, Flaw> {
        let Some(suffix) = text.strip_prefix("*.") else {
            if text.contains('*') {
                return Err(bad_host("a host pattern has `*` elsewhere than as its first label", NAME_SUFFIX));
            }
            return host(text).map(Self::Exact);
        };
        let suffix = host(suffix)?;
        if suffix.ip().is_some() {
            return Err(bad_host("a host pattern stands over an address", "name the address itself"));
        }
        if !suffix.as_str().contains('.') {
            return Err(bad_host(
                "a host pattern covers a whole top-level domain, whose names belong to everyone",
                NAME_SUFFIX,
            ));
        }
        Ok(Self::Under(suffix))
    }
}

// === impl PathPattern ===

impl PathPattern {
    /// Reads a path whose segments are literal, `*` or, as the last one, `**`.
    pub(crate) fn parse(text: &str) -> Result<Self, Flaw> {
        let rest =
            text.strip_prefix('/').ok_or(bad_path("a path pattern does not begin with `/`", "begin it with `/`"))?;
        let texts: Vec<&str> = rest.split('/').collect();
        if texts.len() > MAX_SEGMENTS {
            return Err(bad_path("a path pattern has more than 64 segments", "end it earlier with `/**`"));
        }
        let last = texts.len().saturating_sub(1);
        let segments =
            texts.iter().enumerate().map(|(at, text)| Segment::parse(text, at == last)).collect::<Result<_, _>>()?;
        Ok(Self { segments })
    }

    /// Whether a canonical path is meant.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix('/') else { return false };
        let mut given = rest.split('/');
        for segment in &self.segments {
            match (segment, given.next()) {
                (Segment::Rest, _) => return true,
                (Segment::One, Some(text)) if !text.is_empty() => {}
                (Segment::Literal(literal), Some(text)) if literal == text => {}
                (Segment::Literal(_) | Segment::One, _) => return false,
            }
        }
        given.next().is_none()
    }

    /// Whether some path matches both patterns.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let (mut one, mut two) = (self.segments.iter(), other.segments.iter());
        loop {
            match (one.next(), two.next()) {
                (Some(Segment::Rest), _) | (_, Some(Segment::Rest)) | (None, None) => return true,
                (Some(Segment::Literal(one)), Some(Segment::Literal(two))) if one == two => {}
                (Some(Segment::One), Some(Segment::Literal(text)))
                | (Some(Segment::Literal(text)), Some(Segment::One))
                    if !text.is_empty() => {}
                (Some(Segment::One), Some(Segment::One)) => {}
                (Some(Segment::Literal(_) | Segment::One) | None, _) => return false,
            }
        }
    }

    /// Whether every path that matches the other matches this.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let (mut wide, mut narrow) = (self.segments.iter(), other.segments.iter());
        loop {
            match (wide.next(), narrow.next()) {
                (Some(Segment::Rest), _) | (None, None) => return true,
                (Some(Segment::One), Some(Segment::One)) => {}
                (Some(Segment::One), Some(Segment::Literal(text))) if !text.is_empty() => {}
                (Some(Segment::Literal(wide)), Some(Segment::Literal(narrow))) if wide == narrow => {}
                (Some(Segment::Literal(_) | Segment::One) | None, _) => return false,
            }
        }
    }

    /// What each segment may be, from the first to the last.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

// === impl Segment ===

impl Segment {
    fn parse(text: &str, last: bool) -> Result<Self, Flaw> {
        match text {
            "*" => Ok(Self::One),
            "**" if last => Ok(Self::Rest),
            "**" => Err(bad_path("a path pattern has `**` before its end", "write `**` only as the last segment")),
            "." | ".." => Err(bad_path(NEVER, "write the path without `.` and `..`")),
            "" if !last => Err(bad_path(NEVER, "write the path without empty segments")),
            text if text.contains('*') => {
                Err(bad_path("a path pattern has `*` inside a segment", "let `*` stand for the whole segment"))
            }
            text if !is_canonical(text) => Err(bad_path(
                NEVER,
                "write the path as it is sent: without query, space, backslash or non-ASCII text, escapes as `%2F`",
            )),
            text => Ok(Self::Literal(text.to_owned())),
        }
    }
}

/// Whether a segment can stand in a canonical path: unreserved characters are not escaped, escapes are upper-case.
fn is_canonical(segment: &str) -> bool {
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        let sound = match byte {
            b'%' => bytes.next().zip(bytes.next()).is_some_and(|(high, low)| is_canonical_escape(high, low)),
            b'?' | b'#' | b'\\' => false,
            byte => byte.is_ascii_graphic(),
        };
        if !sound {
            return false;
        }
    }
    true
}

fn is_canonical_escape(high: u8, low: u8) -> bool {
    let digit = |byte: u8| {
        let upper = byte.is_ascii_digit() || matches!(byte, b'A'..=b'F');
        char::from(byte).to_digit(16).filter(|_| upper)
    };
    let octet =
        digit(high).zip(digit(low)).and_then(|(high, low)| char::from_u32(high.checked_mul(16)?.checked_add(low)?));
    octet.is_some_and(|octet| !octet.is_ascii_alphanumeric() && !matches!(octet, '-' | '.' | '_' | '~'))
}

fn host(text: &str) -> Result<Host, Flaw> {
    Host::parse(text).map_err(|_| {
        bad_host("this is no host that a request can have", "write a plain name such as `api.example.com`")
    })
}

fn bad_host(message: &'static str, remedy: &'static str) -> Flaw {
    Flaw { code: Code::BadHost, message, remedy }
}

fn bad_path(message: &'static str, remedy: &'static str) -> Flaw {
    Flaw { code: Code::BadPath, message, remedy }
}

/// Segments of a path pattern; a lookup goes one level deeper for each.
const MAX_SEGMENTS: usize = 64;
const NEVER: &str = "a path pattern can never match a canonical path";
const NAME_SUFFIX: &str = "write the host out, or `*.example.com` for the names under one of your own";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_segments() {
        let table = [
            ("/v1/refunds", "/v1/refunds", true),
            ("/v1/refunds", "/V1/refunds", false),
            ("/v1/refunds", "/v1/refunds/", false),
            ("/v1/refunds", "/v1/refundsx", false),
            ("/v1/*", "/v1/a", true),
            ("/v1/*", "/v1/a%2Fb", true),
            ("/v1/*", "/v1/", false),
            ("/v1/*", "/v1/a/b", false),
            ("/v1/*/x", "/v1/a/x", true),
            ("/v1/**", "/v1", true),
            ("/v1/**", "/v1/", true),
            ("/v1/**", "/v1/a/b", true),
            ("/v1/**", "/v10", false),
            ("/**", "/", true),
            ("/", "/", true),
            ("/", "/a", false),
            ("/**", "*", false),
        ];
        for (pattern, path, matches) in table {
            assert_eq!(PathPattern::parse(pattern).unwrap().matches(path), matches, "{pattern} {path}");
        }
    }

    #[test]
    fn knows_overlaps() {
        let table = [
            ("/v1/**", "/v1", true),
            ("/v1/**", "/v1/a/b", true),
            ("/v1/**", "/v2/**", false),
            ("/v1/*", "/v1/a", true),
            ("/v1/*", "/*/a", true),
            ("/v1/*", "/v1/", false),
            ("/v1/*", "/v1/a/b", false),
            ("/v1/*", "/v1", false),
            ("/**", "/", true),
            ("/a", "/b", false),
        ];
        for (one, two, overlap) in table {
            let parse = |text| PathPattern::parse(text).unwrap();
            assert_eq!(parse(one).overlaps(&parse(two)), overlap, "{one} {two}");
            assert_eq!(parse(two).overlaps(&parse(one)), overlap, "{two} {one}");
        }
    }

    #[test]
    fn knows_what_covers_what() {
        let order = ["/**", "/v1/**", "/v1/*/**", "/v1/*", "/v1/a"];
        for (at, wide) in order.iter().enumerate() {
            for (place, narrow) in order.iter().enumerate() {
                let parse = |text| PathPattern::parse(text).unwrap();
                assert_eq!(parse(wide).covers(&parse(narrow)), at <= place, "{wide} {narrow}");
            }
        }
    }

    #[test]
    fn refuses_patterns_that_cannot_match() {
        let paths = [
            "", "v1", "/a/../b", "/./a", "/a//b", "/**/a", "/a*", "/*.json", "/a?b", "/a#b", "/a b", "/a\\b", "/é",
            "/%2f", "/%41", "/%", "/%2", "/%GG", "/***",
        ];
        for path in paths {
            assert!(PathPattern::parse(path).is_err(), "{path}");
        }
        assert!(PathPattern::parse(&"/a".repeat(MAX_SEGMENTS)).is_ok());
        assert!(PathPattern::parse(&"/a".repeat(MAX_SEGMENTS + 1)).is_err());
        for path in ["/a%2Fb", "/a/", "/a;b=1", "/a:b,c(1)", "/~x"] {
            assert!(PathPattern::parse(path).is_ok(), "{path}");
        }
        for host in ["*", "*.", "*.com", "*.1.2.3.4", "a.*.com", "*x.com", "**.x.com", "https://x.com", "x.com:443", ""]
        {
            assert!(HostPattern::parse(host).is_err(), "{host}");
        }
    }
}
