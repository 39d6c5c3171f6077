//! Where people are told: a Slack incoming webhook, or a webhook of one's own, signed as Standard Webhooks has it.
//!
//! Delivered through the guard that every request upstream passes: the name is resolved once, its addresses are
//! checked, redirects are not followed. A Slack URL is a secret and comes from where secrets come from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use ipnet::IpNet;
use jiff::Timestamp;
use ledger::EventType;
use policy::{Authority, Scheme};
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::Sha256;
use vault::{Place, Providers, Reference};

use super::message::{self, Notice, Topic};
use super::{Delivered, every_topic, plain_name};
use crate::gate::Gate;
use crate::upstream::{self, Route};

/// `notifications:`, checked.
#[derive(Debug, Default)]
pub struct Notifications {
    /// Where reviewers reach the pages, without a slash at the end; the operator door when it is not said.
    pub link: Option<String>,
    /// Whom to tell.
    pub channels: Vec<Arc<Channel>>,
}

/// One of the channels.
#[derive(Debug)]
pub struct Channel {
    /// Its name in the configuration.
    pub name: String,
    target: Target,
    topics: BTreeSet<Topic>,
    payload: bool,
    /// Ranges of addresses opened for it that are not public.
    open: Vec<IpNet>,
}

#[derive(Debug)]
enum Target {
    /// Its URL is a secret.
    Slack(Place),
    /// Address and signing key.
    Webhook(Box<Address>, Place),
}

/// A URL taken apart.
#[derive(Debug)]
struct Address {
    authority: Authority,
    target: String,
}

/// `notifications:` as written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawNotifications {
    link: Option<String>,
    channels: BTreeMap<String, RawChannel>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawChannel {
    slack: Option<String>,
    webhook: Option<String>,
    key: Option<String>,
    provider: Option<String>,
    #[serde(default = "every_topic")]
    on: BTreeSet<Topic>,
    #[serde(default)]
    payload: bool,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    addresses: Vec<IpNet>,
}

// === impl RawNotifications ===

impl RawNotifications {
    /// Checks every channel; nothing is fetched or resolved yet.
    ///
    /// # Errors
    /// What is wrong with one of them, and what to write instead.
    pub fn check(self, providers: &Providers) -> Result<Notifications> {
        let check = |(name, raw): (String, RawChannel)| {
            let channel = raw.check(&name, providers).with_context(|| format!("notification channel `{name}`"));
            channel.map(Arc::new)
        };
        let link = self.link.map(|link| link.trim_end_matches('/').to_owned());
        if link.as_deref().is_some_and(|link| !link.starts_with("http://") && !link.starts_with("https://")) {
            bail!("`notifications.link` is no URL; write where reviewers reach the pages, https://…");
        }
        Ok(Notifications { link, channels: self.channels.into_iter().map(check).collect::<Result<_>>()? })
    }
}

// === impl RawChannel ===

impl RawChannel {
    fn check(self, name: &str, providers: &Providers) -> Result<Channel> {
        plain_name(name)?;
        let place = |text: &str| {
            let reference = text.parse::<Reference>();
            reference.and_then(|reference| providers.place(reference, self.provider.as_deref()))
        };
        let target = match (&self.slack, &self.webhook, &self.key) {
            (Some(url), None, None) => Target::Slack(place(url)?),
            (None, Some(url), Some(key)) => {
                let address = Address::parse(url)?;
                if address.authority.scheme() == Scheme::Http && self.addresses.is_empty() {
                    bail!("`webhook` is not https; only what `addresses:` names inside may be told in the clear");
                }
                Target::Webhook(Box::new(address), place(key)?)
            }
            _ => bail!(
                "write `slack:` with a reference to its URL, or `webhook:` with a URL and `key:` with a reference"
            ),
        };
        if self.on.is_empty() {
            bail!("`on:` is empty; name what to tell, or remove it");
        }
        Ok(Channel { name: name.to_owned(), target, topics: self.on, payload: self.payload, open: self.addresses })
    }
}

// === impl Channel ===

impl Channel {
    /// How many notices go into one message.
    pub(super) fn at_once(&self) -> usize {
        match self.target {
            Target::Slack(_) => SLACK_AT_ONCE,
            Target::Webhook(..) => 1,
        }
    }

    /// The events it tells of.
    pub(super) fn kinds(&self) -> Vec<EventType> {
        self.topics.iter().flat_map(|topic| topic.kinds()).copied().collect()
    }

    /// Makes one attempt.
    pub(super) async fn deliver(&self, gate: &Gate, notices: &[&Notice]) -> Delivered {
        if notices.is_empty() {
            return Delivered::Arrived;
        }
        let answer = match self.request(gate, notices).await {
            Ok((authority, request)) => {
                let rulebook = gate.rulebook();
                let roots = rulebook.trust.roots(None);
                let route = Route { agent: "", authority: &authority, open: &self.open, roots, certificate: None };
                upstream::ask(gate, &route, request).await
            }
            Err(error) => return Delivered::Later(format!("{error:#}")),
        };
        match answer {
            Ok((status, _)) if status.is_success() => Delivered::Arrived,
            Ok((StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY, _)) => {
                Delivered::Refused("the receiver does not understand it".to_owned())
            }
            Ok((status, _)) => Delivered::Later(format!("the receiver answered {status}")),
            Err(why) => Delivered::Later(why),
        }
    }

    /// The message, addressed and signed.
    async fn request(&self, gate: &Gate, notices: &[&Notice]) -> Result<(Authority, Request<Full<Bytes>>)> {
        match &self.target {
            Target::Slack(url) => {
                let fetched = gate.vault.fetch(url).await.context("its URL")?;
                let address = fetched.secret.lend(|bytes| str::from_utf8(bytes).ok().map(Address::parse));
                let address = address.context("its URL is not text")??;
                let request = address.post(message::slack(notices, self.payload), &[])?;
                Ok((address.authority, request))
            }
            Target::Webhook(address, key) => {
                let notice = notices.first().context("there is nothing to tell")?;
                let body = message::webhook(notice, self.payload);
                let fetched = gate.vault.fetch(key).await.context("its key")?;
                let id = notice.id(&gate.ledger.head().origin);
                let at = Timestamp::now().as_second().to_string();
                let signature = fetched.secret.lend(|key| sign(key, &format!("{id}.{at}.{body}")))?;
                let headers = [("webhook-id", &id), ("webhook-timestamp", &at), ("webhook-signature", &signature)];
                Ok((address.authority.clone(), address.post(body, &headers)?))
            }
        }
    }
}

// === impl Address ===

impl Address {
    /// Takes a URL apart. What is wrong with it is said without repeating it: it may be a secret.
    fn parse(url: &str) -> Result<Address> {
        let uri: Uri = url.trim().parse().map_err(|_| anyhow!("this is no URL; write https://host/path"))?;
        let scheme = match uri.scheme_str() {
            Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            Some(_) | None => bail!("the URL is not https"),
        };
        let authority = uri.authority().context("the URL names no host")?;
        let authority = Authority::parse(scheme, authority.as_str()).map_err(|error| anyhow!("{error}"))?;
        Ok(Address { authority, target: uri.path_and_query().map_or("/", |target| target.as_str()).to_owned() })
    }

    fn post(&self, body: String, headers: &[(&str, &String)]) -> Result<Request<Full<Bytes>>> {
        let (scheme, host) = (self.authority.scheme().as_str(), self.authority.host_header());
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("{scheme}://{host}{}", self.target))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_LENGTH, body.len())
            .header(header::USER_AGENT, concat!("writ/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Full::new(Bytes::from(body))).map_err(|_| anyhow!("it cannot be sent to this URL"))
    }
}

/// Standard Webhooks: HMAC-SHA256 of `id.timestamp.body`, under a key that may be written as `whsec_` and base64.
fn sign(key: &[u8], signed: &str) -> Result<String> {
    let encoded = key.trim_ascii_end().strip_prefix(b"whsec_");
    let decoded =
        encoded.map(|text| BASE64.decode(text)).transpose().context("the key behind `whsec_` is no base64")?;
    let key = zeroize::Zeroizing::new(decoded.unwrap_or_else(|| key.to_vec()));
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key).map_err(|_| anyhow!("the key cannot be a key"))?;
    mac.update(signed.as_bytes());
    Ok(format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes())))
}

/// Lines of one message to Slack, which takes about one message a second.
const SLACK_AT_ONCE: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Notifications, String> {
        let raw: RawNotifications = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        raw.check(&Providers::default()).map_err(|error| format!("{error:#}"))
    }

    /// The example of the specification (standardwebhooks, `spec/standard-webhooks.md`).
    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        let body = r#"{"test": 2432232314}"#;
        let signed = format!("msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{body}");
        let signature = sign(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &signed).unwrap();
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_channel_is_slack_or_a_signed_webhook() {
        let good = [
            "channels: {a: {slack: 'env://URL'}}",
            "channels: {a: {webhook: 'https://h.example/x', key: 'file:///k', on: [held], payload: true}}",
            "channels: {a: {webhook: 'http://h.example/x', key: 'file:///k', addresses: [10.0.0.0/8]}}",
            "link: https://writ.example/",
        ];
        for text in good {
            check(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
        let bad = [
            ("channels: {a: {slack: 'https://hooks.slack.com/services/T/B/x'}}", "channel `a`"),
            ("channels: {a: {webhook: 'https://h.example/x'}}", "`key:`"),
            ("channels: {a: {webhook: 'http://h.example/x', key: 'file:///k'}}", "not https"),
            ("channels: {a: {slack: 'env://URL', webhook: 'https://h.example/x'}}", "write `slack:`"),
            ("channels: {a: {slack: 'env://URL', on: []}}", "`on:` is empty"),
            ("channels: {a: {slack: 'env://URL', on: [everything]}}", "everything"),
            ("channels: {A: {slack: 'env://URL'}}", "no name"),
            ("link: writ.example", "no URL"),
        ];
        for (text, why) in bad {
            let error = check(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
