//! The configuration that most tests share: one HTTPS API and one plain one, with a path for each kind of decision.
//!
//! Tests that need another world give [`Plan`](super::gate::Plan) files of their own.

/// The API behind TLS.
pub(crate) const API: &str = "api.example";

/// The API without.
pub(crate) const PLAIN: &str = "plain.example";

/// The secret that the gate puts in as a bearer token; no agent may ever see it.
pub(crate) const SECRET: &str = "sk_canary_8141";

/// `/…` may be read; `/send/…` may be changed; `/change/…` waits for one vote, `/twice/…` for two; `/wait/…` keeps the
/// caller waiting; `/small/…` takes few bytes; nothing allows DELETE.
pub(crate) const DESTINATIONS: &str = "destinations:
  - key: api.read
    match: { host: api.example, methods: [GET, HEAD], path: /** }
    effect: read
    policy: reads
    credential: api
  - key: api.send
    match: { host: api.example, methods: [POST, PUT], path: /send/** }
    effect: write
    policy: sends
    credential: api
  - key: api.small
    match: { host: api.example, methods: [POST], path: /small/** }
    effect: write
    policy: sends
    credential: api
    max_body: 16
  - key: api.change
    match: { host: api.example, methods: [POST, PUT], path: /change/** }
    effect: external_mutation
    policy: changes
    credential: api
  - key: api.twice
    match: { host: api.example, methods: [POST], path: /twice/** }
    effect: external_mutation
    policy: pairs
    credential: api
  - key: api.wait
    match: { host: api.example, methods: [POST], path: /wait/** }
    effect: external_mutation
    policy: changes
    credential: api
    wait_seconds: 20
  - key: plain.read
    match: { host: plain.example, methods: [GET, HEAD], path: /** }
    schemes: [http]
    effect: read
    policy: reads
  - key: plain.send
    match: { host: plain.example, methods: [POST, PUT], path: /send/** }
    schemes: [http]
    effect: write
    policy: sends
";

/// `FILE` stands for the path of the secret's file.
pub(crate) const CREDENTIALS: &str = "credentials:
  api:
    secret: 'file://FILE'
    hosts: [api.example]
    inject: { bearer: '{secret}' }
";

/// The policies by id.
pub(crate) const POLICIES: &[(&str, &str)] = &[
    ("changes", "destinations: [api.change, api.wait]\nrequire_approval: always\nexpiry_minutes: 60\n"),
    ("pairs", "destinations: [api.twice]\nrequire_approval: always\nrequire_approvals: 2\n"),
    ("reads", "destinations: [api.read, plain.read]\n"),
    ("sends", "destinations: [api.send, api.small, plain.send]\nrequire_approval: never\n"),
];

/// [`CREDENTIALS`] with another way of putting the secret in.
pub(crate) fn credentials(home: &std::path::Path, inject: &str) -> String {
    let file = home.join("api.key");
    CREDENTIALS.replace("FILE", file.to_str().unwrap()).replace("{ bearer: '{secret}' }", inject)
}
