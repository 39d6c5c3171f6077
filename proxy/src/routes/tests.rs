//! Routes as texts, and where requests and replies lead by them.

use super::*;

fn door(yaml: &str) -> Result<Arc<Reverse>> {
    let raw: RawReverse = serde_yaml::from_str(yaml)?;
    raw.check("127.0.0.1:4002".parse()?).map(Arc::new)
}

const ROUTES: &str = "
names: [gate.corp.example]
routes:
  - { prefix: /sfdc, upstream: 'https://acme.my.salesforce.com' }
  - { prefix: /sfdc/data, upstream: 'https://data.example/services/data/' }
  - { host: stripe.corp.example, upstream: 'https://api.stripe.com' }
  - { host: api.corp.example, prefix: /v1, upstream: 'http://api.example:8080/v2' }
";

#[test]
fn the_longest_prefix_of_the_named_host_wins_and_there_is_no_default() {
    let door = door(ROUTES).unwrap();
    let found = |host, path| {
        door.find(host, path).map(|(to, path, _)| (to.map_or("own".to_owned(), |to| to.to_string()), path))
    };
    for (host, path, to, sent) in [
        ("127.0.0.1:4002", "/sfdc/a", "https://acme.my.salesforce.com", "/a"),
        ("localhost:4002", "/sfdc", "https://acme.my.salesforce.com", "/"),
        ("GATE.corp.example", "/sfdc/data/x", "https://data.example", "/services/data/x"),
        ("[::1]:9", "/sfdc/data", "https://data.example", "/services/data"),
        ("stripe.corp.example:4002", "/v1/refunds", "https://api.stripe.com", "/v1/refunds"),
        ("api.corp.example", "/v1/", "http://api.example:8080", "/v2/"),
        ("stripe.corp.example", "/_writ/v1/intents/x", "own", "/v1/intents/x"),
        ("localhost", "/_writ", "own", "/"),
    ] {
        assert_eq!(found(host, path), Some((to.to_owned(), sent.to_owned())), "{host}{path}");
    }
    for (host, path) in [
        ("evil.example", "/sfdc/a"),
        ("127.0.0.1", "/other"),
        ("127.0.0.1", "/sfdcx"),
        ("api.corp.example", "/sfdc/a"),
        ("evil.example", "/_writ/health"),
        ("a b", "/sfdc/a"),
    ] {
        assert_eq!(found(host, path), None, "{host}{path}");
    }
}

#[test]
fn places_of_the_upstream_become_places_of_the_door() {
    let door = door(ROUTES).unwrap();
    let (_, _, sfdc) = door.find("localhost:4002", "/sfdc/a").unwrap();
    let (_, _, api) = door.find("api.corp.example:4002", "/v1/a").unwrap();
    for (via, name, given, expected) in [
        (&sfdc, "location", "https://acme.my.salesforce.com/x?y#z", "/sfdc/x?y#z"),
        (&sfdc, "location", "//acme.my.salesforce.com:443", "/sfdc/"),
        (&sfdc, "location", "/x", "/sfdc/x"),
        (&sfdc, "location", "x", "x"),
        (&sfdc, "location", "https://data.example/services/data/7", "/sfdc/data/7"),
        (&sfdc, "location", "https://data.example/other", "https://data.example/other"),
        (&sfdc, "location", "https://api.stripe.com/x", "https://api.stripe.com/x"),
        (&sfdc, "location", "http://acme.my.salesforce.com/x", "http://acme.my.salesforce.com/x"),
        (&api, "content-location", "http://api.example:8080/v2?a=1", "/v1?a=1"),
        (
            &sfdc,
            "set-cookie",
            "a=b=c; Domain=.salesforce.com; Path=/; Secure; HttpOnly",
            "a=b=c; Path=/sfdc/; HttpOnly",
        ),
        (&api, "set-cookie", "a=1; path=/v2/x", "a=1; Path=/v1/x"),
        (&api, "set-cookie", "domain=1; path=/elsewhere", "domain=1; Path=/v1"),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(name, given.parse().unwrap());
        via.restore(&mut headers);
        assert_eq!(headers[name], expected, "{name}: {given}");
    }
    assert_eq!(
        (sfdc.base(), api.base().as_str()),
        ("http://localhost:4002/_writ".to_owned(), "http://api.corp.example:4002/_writ")
    );
}

#[test]
fn a_table_that_could_mislead_is_refused_with_the_remedy() {
    for (yaml, words) in [
        ("routes: []", "is empty"),
        ("routes: [{ upstream: 'https://a.example' }]", "neither `prefix:` nor `host:`"),
        ("routes: [{ prefix: sfdc, upstream: 'https://a.example' }]", "not a path"),
        ("routes: [{ prefix: /a/../b, upstream: 'https://a.example' }]", "write it as `/b`"),
        ("routes: [{ prefix: /_writ/x, upstream: 'https://a.example' }]", "the gate's own pages"),
        ("routes: [{ prefix: /a, upstream: 'ftp://a.example' }]", "not an upstream"),
        ("routes: [{ prefix: /a, upstream: 'https://u@a.example' }]", "not an upstream"),
        ("routes: [{ prefix: /a, upstream: 'https://a.example?x' }]", "not an upstream"),
        ("routes: [{ host: 'a.example:80', upstream: 'https://a.example' }]", "leave scheme and port out"),
        (
            "routes: [{ prefix: /a, upstream: 'https://a.example' }, { prefix: /a/, upstream: 'https://b.example' }]",
            "two `reverse.routes`",
        ),
        ("key: /k\nroutes: [{ prefix: /a, upstream: 'https://a.example' }]", "go together"),
        ("tls: true\nkey: /k\nroutes: [{ prefix: /a, upstream: 'https://a.example' }]", "go together"),
    ] {
        let error = format!("{:#}", door(yaml).unwrap_err());
        assert!(error.contains(words), "{yaml}: {error}");
    }
    let bound: RawReverse =
        serde_yaml::from_str("agent: bot\nroutes: [{ prefix: /a, upstream: 'https://a.example' }]").unwrap();
    let error = bound.check("0.0.0.0:4002".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("loopback"), "{error}");
}
