//! Tests of the root: what is on disk, and each way in which it must not be used.

use std::fs::{self, Permissions};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use x509_parser::extensions::ParsedExtension;

use super::*;

/// Spoils a root in its directory.
type Spoil = fn(&Path);

fn home() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data/ca");
    (home, dir)
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & PERMISSION_BITS
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn der(root: &Root) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(root.pem().as_bytes()).unwrap()
}

#[test]
fn a_root_is_made_once_and_opened_again() {
    let (_home, dir) = home();
    let made = Root::create(&dir, "Writ root").unwrap();
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("root.key")), 0o600);
    assert_eq!(mode(&dir.join("root.pem")), 0o644);
    assert_eq!(fs::read_to_string(dir.join("root.pem")).unwrap(), made.pem());

    let again = Root::create(&dir, "Writ root").unwrap_err();
    assert!(matches!(again, CaError::Exists { .. }), "{again}");
    assert_eq!(Root::open(&dir).unwrap().fingerprint(), made.fingerprint());
}

#[test]
fn a_certificate_without_its_key_is_not_given_another_one() {
    let (_home, dir) = home();
    Root::create(&dir, "Writ root").unwrap();
    fs::remove_file(dir.join(KEY_FILE)).unwrap();
    let error = Root::create(&dir, "Writ root").unwrap_err();
    assert!(matches!(&error, CaError::Exists { path } if path.ends_with(PEM_FILE)), "{error}");
    assert!(is_absent(&dir.join(KEY_FILE)));
}

#[test]
fn a_root_may_sign_leaves_and_nothing_else() {
    let (_home, dir) = home();
    let root = Root::create(&dir, "Writ root").unwrap();
    let der = der(&root);
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();

    assert_eq!(certificate.subject(), certificate.issuer());
    let constraints = certificate.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let usage = certificate.key_usage().unwrap().unwrap();
    assert!(usage.critical);
    let all = usage.value.digital_signature() && usage.value.key_cert_sign() && usage.value.crl_sign();
    assert!(all && usage.value.flags.count_ones() == 3);
    let is_key_id = |parsed: &ParsedExtension<'_>| matches!(parsed, ParsedExtension::SubjectKeyIdentifier(_));
    assert!(certificate.extensions().iter().any(|extension| is_key_id(extension.parsed_extension())));
    let days = certificate.validity().not_after - certificate.validity().not_before;
    assert_eq!(days.unwrap().whole_days(), 2 * 365);
}

#[test]
fn two_installations_have_different_roots() {
    let roots = [home(), home()].map(|(_home, dir)| Root::create(&dir, "Writ root").unwrap());
    let ders = roots.each_ref().map(der);
    let [left, right] = ders.each_ref().map(|der| X509Certificate::from_der(der).unwrap().1);
    assert_ne!(left.subject().to_string(), right.subject().to_string());
    assert_ne!(left.raw_serial(), right.raw_serial());
    assert_ne!(left.public_key().raw, right.public_key().raw);
    let name = left.subject().to_string();
    let suffix = name.strip_prefix("CN=Writ root ").unwrap();
    assert!(suffix.len() == 8 && suffix.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
}

#[test]
fn the_fingerprint_is_the_digest_of_the_certificate() {
    let (_home, dir) = home();
    let root = Root::create(&dir, "Writ root").unwrap();
    let pairs: Vec<_> = root.fingerprint().split(':').map(str::to_owned).collect();
    assert!(pairs.len() == 32 && pairs.iter().all(|pair| pair.len() == 2));
    let digest = HEXUPPER.decode(pairs.concat().as_bytes()).unwrap();
    assert_eq!(digest, Sha256::digest(der(&root)).to_vec());
    assert_eq!(format!("{root:?}"), format!("Root {{ fingerprint: \"{}\", .. }}", root.fingerprint()));
}

#[test]
fn common_names_that_do_not_fit_are_refused() {
    let (_home, dir) = home();
    for name in ["", "a\nb", &"a".repeat(56)] {
        let error = Root::create(&dir, name).unwrap_err();
        assert!(matches!(error, CaError::CommonName { .. }), "{error}");
        assert!(!dir.exists());
    }
    Root::create(&dir, &"ä".repeat(55)).unwrap();
}

#[test]
fn a_spoiled_root_is_refused_with_a_remedy() {
    let cases: [(Spoil, &str); 14] = [
        (
            |dir| chmod(&dir.join(KEY_FILE), 0o640),
            "root key `DIR/root.key` is open to its group (mode 640); run `chmod 600 DIR/root.key`",
        ),
        (|dir| chmod(&dir.join(KEY_FILE), 0o604), "is open to everyone (mode 604); run `chmod 600"),
        (|dir| chmod(&dir.join(KEY_FILE), 0o400), "is not set as it should be (mode 400)"),
        (|dir| chmod(dir, 0o755), "root directory `DIR` is open to everyone (mode 755); run `chmod 700 DIR`"),
        (|dir| link_away(dir, KEY_FILE), "`DIR/root.key` is a symbolic link"),
        (|dir| link_away(dir, PEM_FILE), "`DIR/root.pem` is a symbolic link"),
        (|dir| fs::remove_file(dir.join(KEY_FILE)).unwrap(), "cannot use `DIR/root.key`: No such file"),
        (|dir| fs::remove_file(dir.join(PEM_FILE)).unwrap(), "cannot use `DIR/root.pem`: No such file"),
        (|dir| fs::write(dir.join(KEY_FILE), "").unwrap(), "`DIR/root.key` cannot be read as a private key"),
        (|dir| fs::write(dir.join(PEM_FILE), "").unwrap(), "`DIR/root.pem` cannot be read as a PEM certificate"),
        (another_key, "`root.key` and `root.pem` in `DIR` do not belong together"),
        (
            |dir| sign_anew(dir, |params| params.is_ca = IsCa::ExplicitNoCa),
            "`DIR/root.pem` is not a certificate authority",
        ),
        (
            |dir| sign_anew(dir, |params| set_validity(params, days(1), days(2))),
            "is valid from Jan  2 00:00:00 1970 +00:00 to Jan  3",
        ),
        (|dir| sign_anew(dir, |params| set_validity(params, days(40_000), days(40_001))), "check the clock"),
    ];
    for (spoil, expected) in cases {
        let (_home, dir) = home();
        Root::create(&dir, "Writ root").unwrap();
        spoil(&dir);
        let message = Root::open(&dir).unwrap_err().to_string().replace(&dir.display().to_string(), "DIR");
        assert!(message.contains(expected), "{message}\nshould say\n{expected}");
    }
}

#[test]
fn nothing_is_made_by_opening() {
    let (_home, dir) = home();
    let error = Root::open(&dir).unwrap_err();
    assert!(matches!(error, CaError::Missing { .. }), "{error}");
    assert!(!dir.exists());
}

#[test]
fn a_root_is_not_made_where_others_can_reach() {
    let (home, dir) = home();
    fs::create_dir_all(&dir).unwrap();
    chmod(&dir, 0o750);
    let error = Root::create(&dir, "Writ root").unwrap_err();
    assert!(matches!(error, CaError::Mode { mode: 0o750, .. }), "{error}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    drop(home);
}

fn days(count: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(count * 24 * 60 * 60)
}

fn link_away(dir: &Path, file: &str) {
    fs::rename(dir.join(file), dir.join("elsewhere")).unwrap();
    symlink("elsewhere", dir.join(file)).unwrap();
}

fn another_key(dir: &Path) {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    fs::write(dir.join(KEY_FILE), key.serialize_pem()).unwrap();
}

/// Replaces the certificate by another one for the same key.
fn sign_anew(dir: &Path, change: impl FnOnce(&mut CertificateParams)) {
    let key = KeyPair::from_pem(&fs::read_to_string(dir.join(KEY_FILE)).unwrap()).unwrap();
    let mut params = params("Writ root").unwrap();
    change(&mut params);
    fs::write(dir.join(PEM_FILE), params.self_signed(&key).unwrap().pem()).unwrap();
}
