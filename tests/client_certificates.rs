//! Client certificates: the upstream sees who the gate is, nobody sees the key, and a new key makes a new connection.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;

use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::Origin;
use crate::harness::world::{self, API};

/// The root that an upstream knows its clients by.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// One client.
struct Client {
    certificate: CertificateDer<'static>,
    chain: String,
    key: String,
}

#[test]
fn the_upstream_sees_the_certificate_and_nobody_the_key() {
    let authority = Authority::new();
    let (first, second) = (authority.client("first"), authority.client("second"));
    for chain in ["file:///chain.pem", ""] {
        let origin = Origin::mutual(&[API], authority.0.der());
        let gate = gate(&origin, chain, &first);
        let own = [("authorization", "Bearer own"), ("x-api-key", "own")];
        let answer = gate.agent().request("POST", "https://api.example/send/x", &own, b"body");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(gate.agent().get("https://api.example/x").status, 200);
        gate.write("chain.pem", &second.chain);
        gate.write("api.key", &second.secret(chain));
        assert_eq!(gate.agent().get("https://api.example/y").status, 200);
        let hits = origin.hits();
        let seen: Vec<_> = hits.iter().map(|hit| hit.certificate.as_deref()).collect();
        assert_eq!(seen, [&first, &first, &second].map(|client| Some(client.certificate.as_ref())));
        assert!(!String::from_utf8_lossy(&hits[0].raw).contains("own"), "{:?}", hits[0]);
        let outcome = gate.event("action.executed", &answer.correlation());
        assert_eq!(outcome["data"]["credential"]["name"], "api");
        let key = first.key.lines().nth(1).unwrap();
        assert!(!format!("{:?}{}", gate.events(), gate.log()).contains(key));
    }
}

#[test]
fn without_a_key_and_its_certificate_nothing_is_sent() {
    let authority = Authority::new();
    let (client, other) = (authority.client("client"), authority.client("other"));
    let origin = Origin::mutual(&[API], authority.0.der());
    let table = [
        (other.key.as_str(), "do not belong together"),
        ("CANARY", "no private key in PEM"),
        (client.chain.as_str(), "no private key in PEM"),
        ("-----BEGIN PRIVATE KEY-----\nQ0FOQVJZ\n-----END PRIVATE KEY-----\n", "of no kind"),
    ];
    let gate = gate(&origin, "file:///chain.pem", &client);
    for (secret, detail) in table {
        gate.write("api.key", secret);
        let answer = gate.agent().get("https://api.example/x");
        assert_eq!((answer.status, answer.code().as_str()), (503, "credential_unavailable"), "{detail}");
        let outcome = gate.event("action.failed", &answer.correlation());
        assert!(outcome["data"]["detail"].as_str().unwrap().contains(detail), "{outcome}");
    }
    assert_eq!(origin.connections(), 0);
    assert!(!format!("{:?}{}", gate.events(), gate.log()).contains("CANARY"));
}

// === impl Authority ===

impl Authority {
    fn new() -> Authority {
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Authority(CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap())
    }

    fn client(&self, name: &str) -> Client {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        Client { chain: certificate.pem(), key: key.serialize_pem(), certificate: certificate.into() }
    }
}

// === impl Client ===

impl Client {
    /// What is kept as the secret: the key, and the certificate where it is kept nowhere else.
    fn secret(&self, chain: &str) -> String {
        if chain.is_empty() { [self.chain.as_str(), &self.key].concat() } else { self.key.clone() }
    }
}

/// A gate that shows itself as `client`; its chain is in the file of that name, or in the secret.
fn gate(origin: &Origin, chain: &str, client: &Client) -> Gate {
    let plan = Plan::new().origin(API, origin);
    let named = chain.replace("/chain.pem", plan.home().join("chain.pem").to_str().unwrap());
    let chain_of = if chain.is_empty() { String::new() } else { format!("chain: '{named}'") };
    let credentials = world::credentials(&plan.home(), &format!("{{ client_certificate: {{ {chain_of} }} }}"));
    let plan = plan.file("credentials.yaml", &credentials).file("chain.pem", &client.chain);
    plan.file("api.key", &client.secret(chain)).start()
}
