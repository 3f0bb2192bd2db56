use std::path::PathBuf;
use std::process::Command;

use hallpass_core::owner::OwnerSnapshot;
use hallpass_core::port::{SignatureAlgorithm, Signer};
use hallpass_core::testing::backend_suite::{self, Minter};
use hallpass_core::testing::sample;
use hallpass_core::testing::sample::NOW;
use proptest::prelude::*;
use rcgen::{CertificateParams, PublicKeyData};
use serde_json::json;
use x509_parser::prelude::{GeneralName, ParsedExtension};

use super::*;
use crate::keys::LocalSigner;

mod offline_root;
mod rotation;

const URL: &str = "https://broker.test";

fn ca_signer() -> Arc<dyn Signer> {
    let pkcs8 = LocalSigner::generate(SignatureAlgorithm::Es256).unwrap();
    Arc::new(LocalSigner::from_pkcs8(SignatureAlgorithm::Es256, &pkcs8).unwrap())
}

fn self_signed() -> Arc<Authority> {
    let signer = ca_signer();
    let certificate = root_certificate(&signer, NOW).unwrap();
    Arc::new(Authority::new(signer, &certificate, URL, NOW).unwrap())
}

fn backend(authority: &Arc<Authority>) -> X509Backend {
    X509Backend::new(BackendName::new("pki").unwrap(), "example.org", Authorities::only(Arc::clone(authority))).unwrap()
}

fn role(parameters: serde_json::Value) -> Role {
    Role { parameters, ..sample::role("payments/prod/deploy") }
}

fn order(n: u64, parameters: serde_json::Value) -> IssueOrder {
    IssueOrder {
        grant: sample::id(n),
        role: Arc::new(role(parameters)),
        owner: OwnerSnapshot::from(&sample::owner()),
        issuer: "ci".to_owned(),
        subject: "job-1".to_owned(),
        actors: hallpass_core::delegation::ActorChain::default(),
        attributes: Default::default(),
        provenance: sample::provenance(),
        plan_digest: None,
        purpose: "deploy 4f2c to prod".to_owned(),
        scope: Vec::new(),
        csr: None,
        status_index: n,
        issued_at: NOW,
        expires_at: NOW.plus(Ttl::from_mins(10)),
        binding_key: None,
    }
}

fn by_repository(n: u64) -> IssueOrder {
    order(n, json!({"spiffe_id": "spiffe://{trust_domain}/ci/{provenance.repository_id}"}))
}

struct Minted {
    chain: String,
    private_key: Option<String>,
    trust_bundle: String,
    expires_at: Timestamp,
}

async fn mint(backend: &X509Backend, order: &IssueOrder) -> Result<Minted, IssueError> {
    let handle = backend.plan(order)?;
    let issued = backend.issue(order, &handle).await?;
    let CredentialMaterial::X509 { certificate_chain, private_key, trust_bundle } = issued.material else {
        panic!("a certificate")
    };
    let private_key = private_key.map(|key| key.expose().to_owned());
    Ok(Minted { chain: certificate_chain, private_key, trust_bundle, expires_at: issued.expires_at })
}

/// A folder with files and the `openssl` command in it.
struct OpenSsl(tempfile::TempDir);

impl OpenSsl {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs `openssl`; answers whether it agreed, and what it said.
    fn run(&self, command: &str) -> (bool, String) {
        let output =
            Command::new("openssl").args(command.split_whitespace()).current_dir(self.0.path()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    #[track_caller]
    fn must(&self, command: &str) -> String {
        let (agreed, said) = self.run(command);
        assert!(agreed, "openssl {command}: {said}");
        said
    }

    #[track_caller]
    fn must_not(&self, command: &str, because: &str) {
        let (agreed, said) = self.run(command);
        assert!(!agreed && said.contains(because), "openssl {command}: {said}");
    }

    /// A new key by `openssl`, and a request for it.
    fn request(&self, key: &str, digest: &str) -> String {
        self.must(&format!("{key} -out leaf.key"));
        self.must(&format!(
            "req -new -key leaf.key {digest} -subj /CN=admin -addext subjectAltName=DNS:evil.example -addext basicConstraints=CA:TRUE -out leaf.csr"
        ));
        self.read("leaf.csr")
    }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() + millis)
}

#[tokio::test]
async fn openssl_verifies_a_certificate_for_exactly_as_long_as_it_was_ordered() {
    let (openssl, authority) = (OpenSsl::new(), self_signed());
    let order = by_repository(1);
    let minted = mint(&backend(&authority), &order).await.unwrap();
    openssl.write("ca.pem", &minted.trust_bundle);
    openssl.write("leaf.pem", &minted.chain);
    assert_eq!(minted.trust_bundle, authority.ca_pem());
    assert_eq!(minted.expires_at, order.expires_at);
    let (start, end) = (NOW.as_secs(), order.expires_at.as_secs());
    for purpose in ["sslclient", "sslserver"] {
        openssl.must(&format!("verify -x509_strict -CAfile ca.pem -purpose {purpose} -attime {start} leaf.pem"));
    }
    openssl.must(&format!("verify -CAfile ca.pem -attime {} leaf.pem", start - 30));
    openssl.must_not(&format!("verify -CAfile ca.pem -attime {} leaf.pem", start - 31), "not yet valid");
    // Its last second is `end - 1`, which openssl, other than RFC 5280 §4.1.2.5, leaves out.
    openssl.must(&format!("verify -CAfile ca.pem -attime {} leaf.pem", end - 2));
    openssl.must_not(&format!("verify -CAfile ca.pem -attime {end} leaf.pem"), "certificate has expired");

    let text = openssl.must("x509 -in leaf.pem -noout -text");
    for expected in [
        "URI:spiffe://example.org/ci/222",
        "CA:FALSE",
        "Digital Signature",
        "TLS Web Client Authentication, TLS Web Server Authentication",
        &format!("URI:https://broker.test/pki/crl/{}.der", authority.key_id()),
        "X509v3 Authority Key Identifier",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let serial = order.grant.as_uuid().simple().to_string().to_uppercase();
    let serial = serial.trim_start_matches('0');
    assert!(openssl.must("x509 -in leaf.pem -noout -serial").contains(serial));

    openssl.write("leaf.key", minted.private_key.unwrap());
    assert_eq!(openssl.must("pkey -in leaf.key -pubout"), openssl.must("x509 -in leaf.pem -noout -pubkey"));
}

#[tokio::test]
async fn openssl_refuses_a_fenced_certificate_and_only_that_one() {
    let (openssl, authority) = (OpenSsl::new(), self_signed());
    let backend = backend(&authority);
    let (one, other) = (by_repository(1), by_repository(2));
    openssl.write("ca.pem", authority.ca_pem());
    openssl.write("one.pem", mint(&backend, &one).await.unwrap().chain);
    openssl.write("other.pem", mint(&backend, &other).await.unwrap().chain);
    openssl.write("before.der", authority.crl(&[], NOW).unwrap());
    openssl.write("after.der", authority.crl(&[(one.grant, at(5_400))], at(6_000)).unwrap());
    for list in ["before", "after"] {
        openssl.must(&format!("crl -inform DER -in {list}.der -out {list}.pem"));
        let said = openssl.must(&format!("crl -in {list}.pem -CAfile ca.pem -noout"));
        assert!(said.contains("verify OK"), "{said}");
    }
    let now = NOW.as_secs() + 6;
    let verify = |list: &str, leaf: &str| {
        format!("verify -x509_strict -CAfile ca.pem -crl_check -CRLfile {list}.pem -attime {now} {leaf}.pem")
    };
    openssl.must(&verify("before", "one"));
    openssl.must(&verify("before", "other"));
    openssl.must_not(&verify("after", "one"), "certificate revoked");
    openssl.must(&verify("after", "other"));
    let text = openssl.must("crl -in after.pem -noout -text");
    assert!(text.contains("Cessation Of Operation") && text.contains("X509v3 CRL Number"), "{text}");
    // Beyond its life the list is no word to go by.
    let later = NOW.as_secs() + 3_700;
    openssl.must_not(
        &format!("verify -CAfile ca.pem -crl_check -CRLfile before.pem -attime {later} other.pem"),
        "CRL has expired",
    );
}

#[tokio::test]
async fn revocation_lists_are_numbered_upwards() {
    let authority = self_signed();
    let number = |now| {
        let der = authority.crl(&[], now).unwrap();
        let (_, list) = x509_parser::parse_x509_crl(&der).unwrap();
        list.crl_number().unwrap().clone()
    };
    assert!(number(at(0)) < number(at(1)));
    assert!(number(at(1)) < number(at(86_400_000)));
}

#[tokio::test]
async fn strong_requests_are_certified_for_their_key_alone() {
    let authority = self_signed();
    let backend = backend(&authority);
    for (key, digest) in [
        ("ecparam -name prime256v1 -genkey -noout", "-sha256"),
        ("ecparam -name prime256v1 -genkey -noout", "-sha384"),
        ("ecparam -name secp384r1 -genkey -noout", "-sha384"),
        ("ecparam -name secp384r1 -genkey -noout", "-sha256"),
        ("genpkey -algorithm ed25519", ""),
        ("genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:2048", "-sha256"),
        ("genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:3072", "-sha512"),
    ] {
        let openssl = OpenSsl::new();
        let mut order = by_repository(1);
        order.csr = Some(openssl.request(key, digest));
        let minted = mint(&backend, &order).await.unwrap_or_else(|refused| panic!("{key}: {refused}"));
        assert!(minted.private_key.is_none(), "the key stays with its owner");
        openssl.write("ca.pem", &minted.trust_bundle);
        openssl.write("leaf.pem", &minted.chain);
        openssl.must(&format!("verify -x509_strict -CAfile ca.pem -attime {} leaf.pem", NOW.as_secs()));
        assert_eq!(openssl.must("pkey -in leaf.key -pubout"), openssl.must("x509 -in leaf.pem -noout -pubkey"));
        let text = openssl.must("x509 -in leaf.pem -noout -text");
        assert!(!text.contains("evil") && !text.contains("admin") && text.contains("CA:FALSE"), "{text}");
    }
}

#[tokio::test]
async fn weak_requests_are_refused_as_the_callers_own_mistake() {
    let authority = self_signed();
    let backend = backend(&authority);
    for (key, digest, expected) in [
        ("genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:1024", "-sha256", "1024 bits"),
        ("genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3", "-sha256", "exponent"),
        ("ecparam -name prime192v1 -genkey -noout", "-sha256", "of a kind"),
        ("ecparam -name secp256k1 -genkey -noout", "-sha256", "of a kind"),
        ("ecparam -name prime256v1 -genkey -noout -param_enc explicit", "-sha256", "of a kind"),
        ("genpkey -algorithm ed448", "", "of a kind"),
        ("ecparam -name prime256v1 -genkey -noout", "-sha1", "not signed"),
        ("genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:2048", "-sha1", "not signed"),
    ] {
        let openssl = OpenSsl::new();
        let mut order = by_repository(1);
        order.csr = Some(openssl.request(key, digest));
        let Err(IssueError::Refused { detail, parameter, .. }) = mint(&backend, &order).await else {
            panic!("{key} {digest} was accepted")
        };
        assert_eq!(parameter, Some("csr"));
        assert!(detail.contains(expected), "{key} {digest}: {detail}");
    }
}

/// Signs with one key and shows another.
struct Impostor(KeyPair, KeyPair);

impl PublicKeyData for Impostor {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl rcgen::SigningKey for Impostor {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.1.sign(message)
    }
}

#[tokio::test]
async fn a_request_that_does_not_prove_possession_is_refused() {
    let signer = ca_signer();
    let certificate = root_certificate(&signer, NOW).unwrap();
    let authority = Arc::new(Authority::new(Arc::clone(&signer), &certificate, URL, NOW).unwrap());
    let backend = backend(&authority);
    let openssl = OpenSsl::new();
    let good = openssl.request("ecparam -name prime256v1 -genkey -noout", "-sha256");
    openssl.must("req -in leaf.csr -outform DER -out leaf.der");
    let der = std::fs::read(openssl.path("leaf.der")).unwrap();
    let tampered = |at: usize| {
        let mut der = der.clone();
        der[at] ^= 1;
        certificates::pem("CERTIFICATE REQUEST", &der)
    };
    let impostor = Impostor(KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let foreign = CertificateParams::default().serialize_request(&impostor).unwrap().pem().unwrap();
    let authoritys_own = certificate_request(&signer).unwrap();
    let followed = certificates::pem("CERTIFICATE REQUEST", &[der.as_slice(), b"x"].concat());
    for (bad, why) in [
        (tampered(der.len() - 5), "signature changed"),
        (tampered(30), "content changed"),
        (foreign, "signed by another key"),
        (authoritys_own, "the authority's own key"),
        (followed, "trailing bytes"),
        (String::new(), "nothing"),
        ("x".to_owned(), "no PEM"),
        (format!("{good}{good}"), "two blocks"),
        (good.replace("CERTIFICATE REQUEST", "CERTIFICATE"), "another block"),
        (good[..good.len() / 2].to_owned(), "cut"),
        (format!("{}{good}", "#".repeat(20_000)), "too long"),
    ] {
        let mut order = by_repository(1);
        order.csr = Some(bad);
        match mint(&backend, &order).await {
            Err(IssueError::Refused { parameter: Some("csr"), .. }) => {}
            Err(other) => panic!("{why}: {other}"),
            Ok(_) => panic!("{why}: accepted"),
        }
    }
    let mut order = by_repository(1);
    order.csr = Some(good);
    assert!(mint(&backend, &order).await.is_ok());
}

#[tokio::test]
async fn names_usages_and_generated_keys_are_the_roles() {
    let (openssl, authority) = (OpenSsl::new(), self_signed());
    let backend = backend(&authority);
    for (algorithm, shown) in [("P-256", "prime256v1"), ("P-384", "secp384r1"), ("Ed25519", "ED25519")] {
        let parameters = json!({
            "dns_names": ["{subject}.internal.example", "api.internal.example"],
            "usages": ["server"],
            "key_algorithm": algorithm,
        });
        backend.validate(&role(parameters.clone())).unwrap();
        let minted = mint(&backend, &order(1, parameters)).await.unwrap();
        openssl.write("ca.pem", &minted.trust_bundle);
        openssl.write("leaf.pem", &minted.chain);
        let text = openssl.must("x509 -in leaf.pem -noout -text");
        assert!(text.contains("DNS:job-1.internal.example, DNS:api.internal.example"), "{text}");
        assert!(text.contains(shown), "{text}");
        let verify = format!("verify -CAfile ca.pem -attime {} -purpose", NOW.as_secs());
        openssl.must(&format!("{verify} sslserver -verify_hostname job-1.internal.example leaf.pem"));
        openssl.must_not(&format!("{verify} sslclient leaf.pem"), "unsuitable certificate purpose");
        openssl.must_not(&format!("{verify} sslserver -verify_hostname evil.example leaf.pem"), "ostname mismatch");
    }
}

#[tokio::test]
async fn a_claim_that_does_not_fit_a_name_is_refused() {
    let mut order = order(1, json!({"spiffe_id": "/ci/{subject}"}));
    order.subject = "../admin".to_owned();
    let refused = backend(&self_signed()).plan(&order).unwrap_err();
    assert!(matches!(&refused, IssueError::Refused { detail, parameter: None, .. } if detail.contains("`subject`")));
}

#[tokio::test]
async fn a_scope_is_refused_and_not_ignored() {
    let mut order = by_repository(1);
    order.scope = vec!["read".to_owned()];
    let refused = backend(&self_signed()).plan(&order).unwrap_err();
    assert!(matches!(refused, IssueError::Refused { parameter: Some("scope"), .. }), "{refused}");
}

#[test]
fn a_role_that_the_backend_cannot_honour_is_refused_at_load_by_key() {
    let authority = self_signed();
    let backend = backend(&authority);
    let many: Vec<_> = (0..17).map(|n| format!("h{n}.example")).collect();
    for (bad, key) in [
        (json!(null), "x509"),
        (json!({}), "spiffe_id"),
        (json!({"dns_names": []}), "spiffe_id"),
        (json!({"spiffe_id": 7}), "spiffe_id"),
        (json!({"spiffe_id": "/{nonsense}"}), "spiffe_id"),
        (json!({"spiffe_id": "spiffe://other.org/x"}), "spiffe_id"),
        (json!({"dns_names": "a.example"}), "dns_names"),
        (json!({"dns_names": ["*.example"]}), "dns_names"),
        (json!({"dns_names": many}), "dns_names"),
        (json!({"spiffe_id": "/a", "usages": []}), "usages"),
        (json!({"spiffe_id": "/a", "usages": ["signing"]}), "usages"),
        (json!({"spiffe_id": "/a", "usages": ["client", "client"]}), "usages"),
        (json!({"spiffe_id": "/a", "key_algorithm": "RSA"}), "key_algorithm"),
        (json!({"spiffe_id": "/a", "is_ca": true}), "is_ca"),
    ] {
        let refused = backend.validate(&role(bad.clone())).expect_err(&bad.to_string());
        assert_eq!(refused.key, key, "{bad}: {refused}");
    }
    for bad in ["", "Example.org", "exa mple", "example.org/x", &"a".repeat(256)] {
        assert!(
            X509Backend::new(BackendName::new("pki").unwrap(), bad, Authorities::only(Arc::clone(&authority))).is_err(),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn nothing_prints_the_private_key() {
    let backend = backend(&self_signed());
    let order = by_repository(1);
    let issued = backend.issue(&order, &backend.plan(&order).unwrap()).await.unwrap();
    let printed = format!("{issued:?} {backend:?} {:?}", backend.authorities);
    assert!(!printed.contains("PRIVATE") && printed.contains("[REDACTED]"), "{printed}");
}

#[tokio::test]
async fn what_every_backend_keeps() {
    let authority = self_signed();
    let backend = backend(&authority);
    let order: backend_suite::Order<'_> =
        Box::new(|n, issued_at, expires_at| IssueOrder { issued_at, expires_at, ..by_repository(n) });
    backend_suite::all(&Minter { backend: &backend, order, now: NOW }).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_certificate_never_outlives_its_order(offset in 0_i64..86_400_000, life in 1_i64..4_000_000) {
        let backend = backend(&self_signed());
        let mut order = order(1, json!({"spiffe_id": "/a", "key_algorithm": "Ed25519"}));
        order.issued_at = at(offset);
        order.expires_at = at(offset + life);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        match runtime.block_on(mint(&backend, &order)) {
            Ok(minted) => {
                let (_, pem) = x509_parser::pem::parse_x509_pem(minted.chain.as_bytes()).unwrap();
                let leaf = pem.parse_x509().unwrap();
                let last_instant = leaf.validity().not_after.timestamp() * 1000 + 999;
                prop_assert!(minted.expires_at <= order.expires_at);
                prop_assert!(last_instant < order.expires_at.as_millis());
                prop_assert_eq!(last_instant + 1, minted.expires_at.as_millis());
                prop_assert!(leaf.validity().not_before.timestamp() * 1000 <= order.issued_at.as_millis());
            }
            Err(refused) => prop_assert!(life < 1000, "{}", refused),
        }
    }

    #[test]
    fn a_certificate_has_exactly_the_names_of_its_role(subject in "[a-zA-Z0-9./:,@{} -]{0,20}") {
        let backend = backend(&self_signed());
        let mut order = order(
            1,
            json!({"spiffe_id": "/ci/{subject}", "dns_names": ["fixed.example"], "key_algorithm": "Ed25519"}),
        );
        order.subject = subject.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        if let Ok(minted) = runtime.block_on(mint(&backend, &order)) {
            let (_, pem) = x509_parser::pem::parse_x509_pem(minted.chain.as_bytes()).unwrap();
            let leaf = pem.parse_x509().unwrap();
            let names: Vec<_> = leaf
                .iter_extensions()
                .filter_map(|extension| match extension.parsed_extension() {
                    ParsedExtension::SubjectAlternativeName(names) => Some(names.general_names.clone()),
                    _ => None,
                })
                .flatten()
                .collect();
            let id = format!("spiffe://example.org/ci/{subject}");
            prop_assert_eq!(names, vec![GeneralName::URI(id.as_str()), GeneralName::DNSName("fixed.example")]);
        }
    }
}
