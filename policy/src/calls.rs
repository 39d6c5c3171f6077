//! Calls: what one request asks for when its path does not say it, such as the tools of an MCP server.
//!
//! Each call is a destination of its own, `mcp.github.create_issue`, with the effect and policy of its entry. A call that
//! no entry means has no destination, and a request whose calls cannot be read has no call that would be allowed.

use std::borrow::Cow;
use std::cmp::Reverse;

use data_encoding::BASE64;
use serde_json::Value;

use crate::basis::Verdict;
use crate::content::Content;
use crate::destination::Destination;
use crate::document::{CallEntry, CallsEntry};
use crate::facts::Facts;
use crate::fault::{Code, Faults};
use crate::graphql;
use crate::json::{Json, Unreadable};
use crate::measure;
use crate::profile::Profile;
use crate::rpc::{self, Message};
use crate::yaml::{Step, below};

/// The calls of one destination.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    protocol: Protocol,
    /// The most specific first.
    entries: Vec<Entry>,
}

/// How calls are written in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// Root fields, as `mutation.createIssue`.
    Graphql,
    /// Methods.
    Jsonrpc,
    /// Tools; every other method goes to the destination itself.
    Mcp,
}

#[derive(Clone, Debug)]
struct Entry {
    /// The whole name, or its beginning.
    name: String,
    is_prefix: bool,
    destination: Destination,
}

/// One call of a request.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// Where it goes; none when no entry means it.
    pub(crate) destination: Option<Cow<'a, Destination>>,
    /// Its destination's key, also when there is none.
    pub(crate) key: String,
    /// Its own part of a batch; none when it has the whole request.
    pub(crate) part: Option<&'a Json>,
    /// What is said where it cannot be read which calls there are.
    pub(crate) fault: Option<(Verdict, Unreadable)>,
}

/// The ids of the messages that a JSON-RPC error answers (JSON-RPC 2.0 section 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcIds {
    /// Whether they came as a batch, which is answered by a list.
    pub batch: bool,
    /// The ids of those that expect a reply; none where none could be read.
    pub ids: Vec<Value>,
}

/// What a request calls, as far as it can be read.
type Names<'a> = Vec<(Option<String>, Option<&'a Json>)>;

// === impl Calls ===

impl Calls {
    /// Compiles the `calls` of `base`, which stand at `at`.
    pub(crate) fn compile(
        entry: CallsEntry,
        base: &Destination,
        at: &[Step<'_>],
        faults: &mut Faults<'_>,
    ) -> Option<Self> {
        let CallsEntry { graphql, jsonrpc, mcp } = entry;
        let given = [
            (Protocol::Graphql, "graphql", graphql),
            (Protocol::Jsonrpc, "jsonrpc", jsonrpc),
            (Protocol::Mcp, "mcp", mcp),
        ];
        let mut given = given.into_iter().filter_map(|(protocol, key, entries)| Some((protocol, key, entries?)));
        let (Some((protocol, key, list)), None) = (given.next(), given.next()) else {
            faults.note(
                at,
                Code::BadValue,
                "`calls` is not one of `graphql`, `jsonrpc` and `mcp`",
                "write one of them, or remove it",
            );
            return None;
        };
        if list.is_empty() {
            faults.note(
                &below(at, &[Step::Key(key)]),
                Code::EmptyList,
                "no call is listed",
                "list calls, such as `\"*\"` for all of them",
            );
        }
        let mut entries = Vec::new();
        for (pattern, entry) in list {
            let at = below(at, &[Step::Key(key), Step::Key(&pattern)]);
            entries.extend(Entry::compile(&pattern, entry, base, &at, faults));
        }
        entries.sort_by_key(|entry: &Entry| (entry.is_prefix, Reverse(entry.name.len())));
        Some(Self { protocol, entries })
    }

    /// The destinations of all entries, under keys such as `mcp.github.get_*`.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = &Destination> {
        self.entries.iter().map(|entry| &entry.destination)
    }

    /// Whether an entry means a call of this name.
    pub(crate) fn mean(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.means(name))
    }

    /// What is said about a request whose calls cannot be read. GraphQL documents may be kept by the server, so a
    /// reviewer can tell; JSON-RPC is in the request or is none.
    fn when_unreadable(&self) -> Verdict {
        match self.protocol {
            Protocol::Graphql => Verdict::Hold,
            Protocol::Jsonrpc | Protocol::Mcp => Verdict::Deny,
        }
    }

    /// Every call of the request, each once.
    fn read<'a>(&'a self, base: &'a Destination, content: &'a Content<'_>) -> Result<Vec<Call<'a>>, Unreadable> {
        let names = match self.protocol {
            Protocol::Graphql => {
                let names = graphql::roots(content)?.into_iter();
                names.map(|root| (Some(format!("{}.{}", root.operation, root.field)), None)).collect()
            }
            Protocol::Jsonrpc | Protocol::Mcp if content.facts().body.is_empty() => vec![(None, None)],
            Protocol::Jsonrpc | Protocol::Mcp => self.read_messages(content)?,
        };
        let several = names.len() > 1;
        if several && content.bytes()?.len() > MAX_SEVERAL {
            return Err(Unreadable("a request with several calls is too long"));
        }
        let mut calls: Vec<Call<'a>> = Vec::new();
        for (name, part) in names {
            let call = self.find(base, name, part.filter(|_| several))?;
            let known = calls.iter().any(|known| known.part.is_none() && call.part.is_none() && known.key == call.key);
            if !known {
                calls.push(call);
            }
        }
        Ok(calls)
    }

    /// What an error in place of a reply has to name; null where no id can be read.
    fn ids(&self, content: &Content<'_>) -> RpcIds {
        let id = |message: &Json| match message.at(&["id".to_owned()]) {
            Some(Json::Text(id)) => Some(Value::from(id.as_str())),
            Some(Json::Number(id)) => Some(serde_json::from_str(id).unwrap_or(Value::Null)),
            Some(Json::Bool(_) | Json::List(_) | Json::Map(_) | Json::Null) => Some(Value::Null),
            None => None,
        };
        match content.json().map(|read| (read, read.items())) {
            Ok((_, Some(items))) => RpcIds { batch: true, ids: items.iter().take(MAX_IDS).filter_map(id).collect() },
            Ok((one, None)) => RpcIds { batch: false, ids: id(one).into_iter().collect() },
            Err(_) => RpcIds { batch: false, ids: Vec::new() },
        }
    }

    fn read_messages<'a>(&self, content: &'a Content<'_>) -> Result<Names<'a>, Unreadable> {
        let messages = rpc::messages(content)?;
        if self.protocol == Protocol::Mcp {
            check_headers(content, &messages)?;
        }
        let name = |message: &Message<'a>| {
            let name = match self.protocol {
                Protocol::Mcp => message.tool()?,
                Protocol::Graphql | Protocol::Jsonrpc => message.method(),
            };
            Ok((name.map(str::to_owned), Some(message.json())))
        };
        messages.iter().map(name).collect()
    }

    fn find<'a>(
        &'a self,
        base: &'a Destination,
        name: Option<String>,
        part: Option<&'a Json>,
    ) -> Result<Call<'a>, Unreadable> {
        let Some(name) = name else {
            return Ok(Call { part, ..base.as_call() });
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/');
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(plain) {
            return Err(Unreadable("a call has a name that no destination can have"));
        }
        let key = format!("{}.{name}", base.key);
        let entry = self.entries.iter().find(|entry| entry.means(&name));
        let destination = entry.map(|entry| entry.destination.called(&key));
        Ok(Call { destination: destination.map(Cow::Owned), key, part, fault: None })
    }
}

// === impl Call ===

impl Call<'_> {
    /// One line about it; none when its destination has no profile.
    pub(crate) fn summary(&self, content: &Content<'_>) -> Option<String> {
        let profile = self.destination.as_ref()?.profile.as_ref()?;
        Some(match self.part {
            Some(part) => profile.summary(&content.part(part)),
            None => profile.summary(content),
        })
    }
}

// === impl Destination ===

impl Destination {
    /// Every call of a request to this destination, at least one.
    pub(crate) fn read_calls<'a>(&'a self, content: &'a Content<'_>) -> Vec<Call<'a>> {
        let Some(calls) = &self.calls else { return vec![self.as_call()] };
        match calls.read(self, content) {
            Ok(read) => read,
            Err(why) => vec![Call { fault: Some((calls.when_unreadable(), why)), ..self.as_call() }],
        }
    }

    /// What a refusal of a request to it has to name; none where it does not speak JSON-RPC.
    pub fn rpc_ids(&self, facts: &Facts) -> Option<RpcIds> {
        let calls =
            self.calls.as_ref().filter(|calls| calls.protocol != Protocol::Graphql && !facts.body.is_empty())?;
        Some(calls.ids(&Content::new(facts)))
    }

    fn as_call(&self) -> Call<'_> {
        Call { destination: Some(Cow::Borrowed(self)), key: self.key.clone(), part: None, fault: None }
    }
}

// === impl Entry ===

impl Entry {
    fn compile(
        pattern: &str,
        entry: CallEntry,
        base: &Destination,
        at: &[Step<'_>],
        faults: &mut Faults<'_>,
    ) -> Option<Self> {
        let (name, is_prefix) = match pattern.strip_suffix('*') {
            Some(name) => (name, true),
            None => (pattern, false),
        };
        if name.contains('*') || (name.is_empty() && !is_prefix) {
            faults.note(
                at,
                Code::BadGlob,
                "this names no call",
                "write the whole name, or its beginning and `*` at the end",
            );
            return None;
        }
        let mut destination = base.called(&format!("{}.{pattern}", base.key));
        destination.base = Some(base.key.clone());
        destination.effect = entry.effect;
        destination.policy = entry.policy.unwrap_or(destination.policy);
        if let Some(entries) = entry.measure {
            destination.measure = measure::compile(&entries, &below(at, &[Step::Key("measure")]), faults);
        }
        if let Some(entry) = entry.profile {
            destination.profile = Profile::compile(&entry, &below(at, &[Step::Key("profile")]), faults);
        }
        Some(Self { name: name.to_owned(), is_prefix, destination })
    }

    fn means(&self, name: &str) -> bool {
        if self.is_prefix { name.starts_with(&self.name) } else { name == self.name }
    }
}

/// What MCP mirrors in headers, for those who route by them, must be what the body says.
fn check_headers(content: &Content<'_>, messages: &[Message<'_>]) -> Result<(), Unreadable> {
    let header = |name| {
        let mut values = content.facts().header(name);
        match (values.next(), values.next()) {
            (value, None) => value.map(decoded).transpose(),
            (_, Some(_)) => Err(MISMATCH),
        }
    };
    let (method, name) = (header("mcp-method")?, header("mcp-name")?);
    if method.is_none() && name.is_none() {
        return Ok(());
    }
    let [message] = messages else { return Err(MISMATCH) };
    if method.is_some_and(|method| message.method() != Some(method.as_str())) {
        return Err(MISMATCH);
    }
    let Some(name) = name else { return Ok(()) };
    let is_named = match message.tool()? {
        Some(tool) => tool == name,
        None => {
            let named = NAMES.map(|key| message.param(key));
            named.into_iter().collect::<Result<Vec<_>, _>>()?.contains(&Some(name.as_str()))
        }
    };
    if is_named { Ok(()) } else { Err(MISMATCH) }
}

/// The value of a header, which may be written as `=?base64?…?=`.
fn decoded(value: &str) -> Result<String, Unreadable> {
    let Some(inner) = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) else {
        return Ok(value.to_owned());
    };
    let octets = BASE64.decode(inner.as_bytes()).map_err(|_| MISMATCH)?;
    String::from_utf8(octets).map_err(|_| MISMATCH)
}

const MISMATCH: Unreadable = Unreadable("`Mcp-Method` or `Mcp-Name` is not what the body says");

/// The parameters that name what methods other than `tools/call` are about.
const NAMES: [&str; 3] = ["name", "uri", "taskId"];
const MAX_NAME: usize = 128;
const MAX_IDS: usize = 50;
/// The longest body with several calls, in octets: content is searched once for each.
const MAX_SEVERAL: usize = 256 * 1024;
