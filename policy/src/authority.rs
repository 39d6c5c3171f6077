//! The one reading of *where to*: scheme, canonical host and port.
//!
//! One [`Authority`] drives destination lookup, leaf certificate, dial, SNI, Host header and credential binding, so two
//! spellings of one name must never become two values, and a name that resolvers read in more than one way must never
//! become a value at all. This file never resolves a name and never judges an address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The scheme of a request; nothing else can be inspected.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

/// A canonical host: a lower-case DNS name, a strict dotted-quad IPv4 address, or an IPv6 address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host {
    text: String,
    ip: Option<IpAddr>,
}

/// Scheme, canonical host and port of a request (RFC 3986 section 3.2, without userinfo).
///
/// ```
/// use policy::{Authority, Scheme};
///
/// let authority = Authority::parse(Scheme::Https, "API.Stripe.com:443")?;
/// assert_eq!(authority.to_string(), "https://api.stripe.com");
/// assert!(Authority::parse(Scheme::Https, "good.com@evil.com").is_err());
/// # Ok::<(), policy::AuthorityError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority {
    scheme: Scheme,
    host: Host,
    port: u16,
}

/// Why a host or an authority has no unambiguous reading. The caller's text is never repeated whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// Brackets hold something else than an IPv6 address without zone id, or are not closed.
    #[error("the brackets do not hold an IPv6 address; write it like `[2001:db8::1]`, without a zone id")]
    Bracket,
    /// A character that no host name or port contains.
    #[error("the host contains {0:?}; use letters, digits, hyphens and dots only, and no userinfo")]
    Character(char),
    /// Nothing where a host should be.
    #[error("the host is empty; name one")]
    Empty,
    /// A label is empty, over 63 octets, or begins or ends with a hyphen; a trailing dot makes an empty label.
    #[error(
        "a label of the host is empty, too long or has a hyphen at its end; write the name as `api.example.com`, without a trailing dot"
    )]
    Label,
    /// Longer than 253 octets.
    #[error("the host is longer than 253 octets; DNS allows no such name")]
    Length,
    /// Looks like an address but is not four plain decimal numbers; resolvers disagree about such names.
    #[error("the host ends in a number but is no plain IPv4 address; write all four decimal numbers")]
    Numeric,
    /// The port is empty, 0, over 65535 or not plain digits.
    #[error("the port is no number from 1 to 65535; write it in plain digits or leave it out")]
    Port,
}

// === impl Scheme ===

impl Scheme {
    /// The scheme as it stands in a URI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port used when a URI names none.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Host ===

impl Host {
    /// Reads a host, IPv6 in brackets.
    ///
    /// # Errors
    ///
    /// Everything that is not a letter-digit-hyphen name, a strict dotted quad or a bracketed IPv6 address.
    pub fn parse(text: &str) -> Result<Self, AuthorityError> {
        if let Some(rest) = text.strip_prefix('[') {
            let inner = rest.strip_suffix(']').ok_or(AuthorityError::Bracket)?;
            let ip: Ipv6Addr = inner.parse().map_err(|_| AuthorityError::Bracket)?;
            return Ok(Self { text: ip.to_string(), ip: Some(IpAddr::V6(ip)) });
        }
        check_name(text)?;
        let text = text.to_ascii_lowercase();
        if !ends_in_number(&text) {
            return Ok(Self { text, ip: None });
        }
        let ip: Ipv4Addr = text.parse().map_err(|_| AuthorityError::Numeric)?;
        Ok(Self { text, ip: Some(IpAddr::V4(ip)) })
    }

    /// The address, when the host is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// The canonical text; IPv6 without brackets, as RFC 5952 writes it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// IPv6 stands in brackets, as in a URI.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ip.is_some_and(|ip| ip.is_ipv6()) { write!(f, "[{}]", self.text) } else { f.write_str(&self.text) }
    }
}

// === impl Authority ===

impl Authority {
    /// Reads `host` or `host:port`; without a port the scheme's default holds.
    ///
    /// # Errors
    ///
    /// What [`Host::parse`] refuses, userinfo, and a port that is not 1 to 65535 in plain digits.
    pub fn parse(scheme: Scheme, text: &str) -> Result<Self, AuthorityError> {
        let (host, port) = split_port(text);
        let host = Host::parse(host)?;
        let port = port.map_or(Ok(scheme.default_port()), read_port)?;
        Ok(Self { scheme, host, port })
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The canonical host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of the Host header: the host, and the port unless it is the scheme's default.
    pub fn host_header(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host_header())
    }
}

fn split_port(text: &str) -> (&str, Option<&str>) {
    // Colons inside brackets belong to the address.
    let colon = text.rfind(':').filter(|at| text.rfind(']').is_none_or(|bracket| bracket < *at));
    match colon.and_then(|at| text.split_at_checked(at)) {
        Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or(port))),
        None => (text, None),
    }
}

fn read_port(text: &str) -> Result<u16, AuthorityError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| plain).ok_or(AuthorityError::Port)
}

fn check_name(text: &str) -> Result<(), AuthorityError> {
    if text.is_empty() {
        return Err(AuthorityError::Empty);
    }
    if let Some(odd) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '.')) {
        return Err(AuthorityError::Character(odd));
    }
    if text.len() > 253 {
        return Err(AuthorityError::Length);
    }
    // An A-label of pure ASCII ends in a hyphen, so the hyphen rule refuses `xn--good-` as well.
    let sound = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && !label.eq_ignore_ascii_case("xn--")
    };
    if text.split('.').all(sound) { Ok(()) } else { Err(AuthorityError::Label) }
}

/// Whether resolvers may take the name for an address: `getaddrinfo` reads `127.1`, `0x7f000001` and `0177.0.0.1`.
fn ends_in_number(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or(text);
    let hex = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hex || last.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_has_one_reading() {
        let table = [
            ("GOOD.com", "https://good.com"),
            ("good.com:443", "https://good.com"),
            ("good.com:80", "https://good.com:80"),
            ("127.0.0.1:8443", "https://127.0.0.1:8443"),
            ("[::1]", "https://[::1]"),
            ("[2001:DB8:0:0:0:0:0:1]:443", "https://[2001:db8::1]"),
            ("[::ffff:7f00:1]", "https://[::ffff:127.0.0.1]"),
            ("xn--80ak6aa92e.com", "https://xn--80ak6aa92e.com"),
            ("localhost", "https://localhost"),
            ("r3---sn-x.example.com", "https://r3---sn-x.example.com"),
            ("1e100.net", "https://1e100.net"),
        ];
        for (text, shown) in table {
            let authority = Authority::parse(Scheme::Https, text).unwrap();
            assert_eq!(authority.to_string(), shown, "{text}");
            assert_eq!(Authority::parse(Scheme::Https, &authority.host_header()), Ok(authority), "{text}");
        }
        let plain = Authority::parse(Scheme::Http, "h:443").unwrap();
        assert_eq!((plain.port(), plain.host_header().as_str()), (443, "h:443"));
        assert_eq!(Host::parse("[::1]").unwrap().as_str(), "::1");
        assert_eq!(Host::parse("10.0.0.1").unwrap().ip(), Some([10, 0, 0, 1].into()));
    }

    #[test]
    fn names_without_one_reading_are_refused() {
        use AuthorityError as E;
        let long_label = format!("{}.com", "a".repeat(64));
        let long_name = "a.".repeat(126) + "aa";
        let table = [
            ("", E::Empty),
            (":443", E::Empty),
            ("good.com.", E::Label),
            ("good.com..", E::Label),
            (".good.com", E::Label),
            ("a..b", E::Label),
            ("-a.com", E::Label),
            ("a-.com", E::Label),
            ("xn--.com", E::Label),
            ("xn--good-.com", E::Label),
            (&long_label, E::Label),
            (&long_name, E::Length),
            ("a_b.com", E::Character('_')),
            ("good@evil", E::Character('@')),
            ("user:pw@evil.com", E::Port),
            ("user@evil.com:443", E::Character('@')),
            ("a,b", E::Character(',')),
            ("a/b", E::Character('/')),
            ("a?b", E::Character('?')),
            ("a#b", E::Character('#')),
            ("a\\b", E::Character('\\')),
            ("a b", E::Character(' ')),
            (" a", E::Character(' ')),
            ("a\0b", E::Character('\0')),
            ("a%00b", E::Character('%')),
            ("a\tb", E::Character('\t')),
            ("а.com", E::Character('а')),
            ("ｇood.com", E::Character('ｇ')),
            ("good。com", E::Character('。')),
        ];
        refuse(&table);
    }

    #[test]
    fn half_addresses_and_odd_ports_are_refused() {
        use AuthorityError as E;
        let table = [
            ("[good.com]", E::Bracket),
            ("[::1", E::Bracket),
            ("[::1]x", E::Bracket),
            ("[::1%25eth0]", E::Bracket),
            ("[::1%eth0]", E::Bracket),
            ("[127.0.0.1]", E::Bracket),
            ("::1", E::Character(':')),
            ("2130706433", E::Numeric),
            ("0x7f000001", E::Numeric),
            ("0X7F.1", E::Numeric),
            ("0x7f.0x1", E::Numeric),
            ("0177.0.0.1", E::Numeric),
            ("127.1", E::Numeric),
            ("1.2.3.4.5", E::Numeric),
            ("256.0.0.1", E::Numeric),
            ("a.0x", E::Numeric),
            ("0", E::Numeric),
            ("a:0", E::Port),
            ("a:", E::Port),
            ("a:65536", E::Port),
            ("a:0443", E::Port),
            ("a:+443", E::Port),
            ("a:-1", E::Port),
            ("a: 443", E::Port),
            ("a:443 ", E::Port),
            ("a:４４３", E::Port),
            ("a:1:2", E::Character(':')),
        ];
        refuse(&table);
    }

    fn refuse(table: &[(&str, AuthorityError)]) {
        for (text, error) in table {
            assert_eq!(Authority::parse(Scheme::Https, text), Err(*error), "{text}");
        }
    }
}
