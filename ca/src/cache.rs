//! Keeps the TLS configurations of recently used names.
//!
//! Must never give one name the leaf of another, keep a leaf until its end, or let a TLS session of one name be
//! resumed under another.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use moka::sync::Cache;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::NoServerSessionStorage;

use crate::CaError;
use crate::leaf::{self, Leaf, Name};
use crate::root::Root;

/// A root that issues leaves, and the leaves it has issued lately.
pub struct Issuer {
    root: Root,
    provider: Arc<CryptoProvider>,
    configs: Cache<(Name, Period), Arc<ServerConfig>>,
    asked: AtomicU64,
    made: AtomicU64,
}

/// How an issuer is doing, since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaves {
    /// How often one was asked for.
    pub asked: u64,
    /// How many had to be made.
    pub made: u64,
    /// About how many are kept.
    pub kept: u64,
}

/// Which half of a leaf's life, counted from 1970, a moment falls into.
///
/// It is part of the cache's key, so that a leaf is used for at most half its life by the *wall clock*. The cache's
/// own clock stands still while the machine sleeps.
type Period = u64;

// === impl Issuer ===

impl Issuer {
    /// Issues under `root` and keeps at most about `capacity` leaves; [`CAPACITY`] is a good value.
    #[must_use]
    pub fn new(root: Root, capacity: u64) -> Issuer {
        let configs = Cache::builder().max_capacity(capacity).time_to_live(PERIOD).build();
        let (asked, made) = (AtomicU64::default(), AtomicU64::default());
        Issuer { root, provider: Arc::new(aws_lc_rs::default_provider()), configs, asked, made }
    }

    /// The server side of a TLS connection that plays `name`.
    ///
    /// TLS 1.2 and 1.3 with [`ALPN`], without client certificates, session resumption and early data. The same
    /// configuration comes back for about twelve hours; callers that ask at the same time for the same name wait for
    /// one leaf. The caller compares the SNI: the leaf is sent whatever the client asks for.
    ///
    /// # Errors
    /// [`CaError::Leaf`] if the root has expired meanwhile or a key cannot be made. Errors are not kept.
    pub fn server_config(&self, name: &Name) -> Result<Arc<ServerConfig>, CaError> {
        self.server_config_at(name, SystemTime::now())
    }

    /// The root under which leaves are issued.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Whether a leaf for `name` is at hand, so that none has to be made for it now.
    #[must_use]
    pub fn has(&self, name: &Name) -> bool {
        self.configs.contains_key(&(name.clone(), period(SystemTime::now())))
    }

    /// How it is doing.
    #[must_use]
    pub fn leaves(&self) -> Leaves {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Leaves { asked: count(&self.asked), made: count(&self.made), kept: self.configs.entry_count() }
    }

    fn server_config_at(&self, name: &Name, now: SystemTime) -> Result<Arc<ServerConfig>, CaError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let made = self.configs.try_get_with((name.clone(), period(now)), || self.make(name, now).map(Arc::new));
        made.map_err(|reason: Arc<String>| CaError::Leaf { name: name.to_string(), reason: reason.to_string() })
    }

    fn make(&self, name: &Name, now: SystemTime) -> Result<ServerConfig, String> {
        self.made.fetch_add(1, Ordering::Relaxed);
        let Leaf { certificate, key } = leaf::issue(&self.root, name, now)?;
        let failed = |error: rustls::Error| error.to_string();
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS12, &rustls::version::TLS13])
            .map_err(failed)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .map_err(failed)?;
        config.alpn_protocols = ALPN.iter().map(|protocol| protocol.to_vec()).collect();
        // A session begun in a tunnel for one name must not be resumed in a tunnel for another.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(config)
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Issuer").field("root", &self.root).finish_non_exhaustive()
    }
}

/// The half life of leaves in which `now` lies: a leaf is used in the one it was made in.
fn period(now: SystemTime) -> Period {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / PERIOD.as_secs()
}

/// Application protocols offered to clients (RFC 7301).
pub const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// How many leaves an [`Issuer`] usually keeps.
pub const CAPACITY: u64 = 4096;

const PERIOD: Duration = Duration::from_secs(leaf::VALIDITY.as_secs() / 2);

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{
        ClientConfig, ClientConnection, Connection, HandshakeKind, RootCertStore, ServerConnection,
        SupportedProtocolVersion,
    };

    use super::*;

    fn issuer(capacity: u64) -> Issuer {
        let home = tempfile::tempdir().unwrap();
        Issuer::new(Root::create(&home.path().join("ca"), "Test root").unwrap(), capacity)
    }

    fn client(issuer: &Issuer, version: &'static SupportedProtocolVersion, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(issuer.root().pem().as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(issuer.provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.enable_early_data = true;
        Arc::new(config)
    }

    /// One handshake in memory, until both sides have nothing more to say; returns the client's side.
    fn shake(
        client: &Arc<ClientConfig>,
        server: Arc<ServerConfig>,
        name: &str,
    ) -> Result<ClientConnection, rustls::Error> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client: Connection = ClientConnection::new(client.clone(), name).unwrap().into();
        let mut server: Connection = ServerConnection::new(server).unwrap().into();
        while client.is_handshaking() || server.is_handshaking() || client.wants_write() || server.wants_write() {
            pump(&mut client, &mut server)?;
            pump(&mut server, &mut client)?;
        }
        let Connection::Client(client) = client else { panic!("the client is a client") };
        Ok(client)
    }

    fn pump(from: &mut Connection, to: &mut Connection) -> Result<(), rustls::Error> {
        let mut wire = Vec::new();
        while from.wants_write() {
            from.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            to.read_tls(&mut wire).unwrap();
            to.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn clients_that_trust_the_root_accept_a_leaf_and_never_resume() {
        let issuer = issuer(CAPACITY);
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            accepts_and_never_resumes(&issuer, version, Name::dns("API.example.com").unwrap(), "api.example.com");
            for address in ["192.0.2.7", "2001:db8::7"] {
                let name = Name::from(address.parse::<std::net::IpAddr>().unwrap());
                accepts_and_never_resumes(&issuer, version, name, address);
            }
        }
    }

    fn accepts_and_never_resumes(
        issuer: &Issuer,
        version: &'static SupportedProtocolVersion,
        name: Name,
        asked_for: &str,
    ) {
        let client = client(issuer, version, ALPN);
        for _ in 0..2 {
            let done = shake(&client, issuer.server_config(&name).unwrap(), asked_for).unwrap();
            assert_eq!(done.protocol_version(), Some(version.version));
            assert_eq!(done.alpn_protocol(), Some(b"h2".as_slice()));
            assert_eq!(done.handshake_kind(), Some(HandshakeKind::Full), "{asked_for}");
            assert_eq!(done.tls13_tickets_received(), 0);
            assert_eq!(done.peer_certificates().map(<[_]>::len), Some(1));
        }
    }

    #[test]
    fn a_leaf_is_worthless_for_another_name() {
        let issuer = issuer(CAPACITY);
        let client = client(&issuer, &rustls::version::TLS13, ALPN);
        let config = issuer.server_config(&Name::dns("a.example").unwrap()).unwrap();
        let refused = shake(&client, config, "b.example").unwrap_err();
        assert!(matches!(refused, rustls::Error::InvalidCertificate(_)), "{refused}");
    }

    #[test]
    fn a_client_without_a_common_protocol_is_refused() {
        let issuer = issuer(CAPACITY);
        let name = Name::dns("a.example").unwrap();
        for alpn in [b"h3".as_slice(), b"http/1.0", b"smtp"] {
            let client = client(&issuer, &rustls::version::TLS13, &[alpn]);
            let refused = shake(&client, issuer.server_config(&name).unwrap(), "a.example").unwrap_err();
            assert_eq!(refused, rustls::Error::NoApplicationProtocol);
        }
        let client = client(&issuer, &rustls::version::TLS13, &[]);
        let done = shake(&client, issuer.server_config(&name).unwrap(), "a.example").unwrap();
        assert_eq!(done.alpn_protocol(), None);
    }

    #[test]
    fn one_leaf_is_made_for_callers_at_the_same_time() {
        let issuer = issuer(CAPACITY);
        let name = Name::dns("a.example").unwrap();
        let start = Barrier::new(16);
        let configs = thread::scope(|scope| {
            let ask = || {
                start.wait();
                issuer.server_config(&name).unwrap()
            };
            let callers: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(configs.iter().all(|config| Arc::ptr_eq(config, &configs[0])));
        let other = issuer.server_config(&Name::dns("b.example").unwrap()).unwrap();
        assert!(!Arc::ptr_eq(&other, &configs[0]));
    }

    #[test]
    fn the_cache_is_bounded() {
        let issuer = issuer(4);
        for number in 0..50 {
            issuer.server_config(&Name::dns(&format!("h{number}.example")).unwrap()).unwrap();
        }
        issuer.configs.run_pending_tasks();
        assert!((1..=4).contains(&issuer.configs.entry_count()), "{}", issuer.configs.entry_count());
    }

    #[test]
    fn a_leaf_is_replaced_at_half_its_life_by_the_wall_clock() {
        let issuer = issuer(CAPACITY);
        let name = Name::dns("a.example").unwrap();
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let start = UNIX_EPOCH + Duration::from_secs(elapsed.as_secs().next_multiple_of(PERIOD.as_secs()));
        let last = start + PERIOD - Duration::from_secs(1);
        let first = issuer.server_config_at(&name, start).unwrap();
        assert!(Arc::ptr_eq(&first, &issuer.server_config_at(&name, last).unwrap()));
        assert!(!Arc::ptr_eq(&first, &issuer.server_config_at(&name, start + PERIOD).unwrap()));
    }

    #[test]
    fn an_expired_root_issues_nothing() {
        let issuer = issuer(CAPACITY);
        let error = issuer.server_config_at(&Name::dns("a.example").unwrap(), issuer.root.until()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no certificate for `a.example`: the root certificate has expired; make a new root"
        );
    }
}
