//! The authority as an intermediate under somebody's offline root.

use std::path::Path;

use rcgen::{CertificateSigningRequestParams, DnType, IsCa, KeyUsagePurpose};

use super::rotation::{clock, keys};
use super::*;

/// Somebody's offline root, and what it signs.
struct OfflineRoot {
    pem: String,
    issuer: rcgen::Issuer<'static, KeyPair>,
}

impl OfflineRoot {
    fn new(path_length: u8) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Acme");
        params.distinguished_name.push(DnType::CommonName, "Acme Root");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(path_length));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: rcgen::Issuer::new(params, key) }
    }

    fn sign(&self, csr: &str, change: impl Fn(&mut CertificateParams)) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(csr).unwrap();
        request.params.not_before = time::OffsetDateTime::from_unix_timestamp(NOW.as_secs() - 3_600).unwrap();
        request.params.not_after = time::OffsetDateTime::from_unix_timestamp(NOW.as_secs() + 86_400).unwrap();
        request.params.use_authority_key_identifier_extension = true;
        change(&mut request.params);
        request.signed_by(&self.issuer).unwrap().pem()
    }
}

#[tokio::test]
async fn under_an_offline_root_the_authority_is_an_intermediate_that_openssl_accepts() {
    let (openssl, root, signer) = (OpenSsl::new(), OfflineRoot::new(1), ca_signer());
    let csr = certificate_request(&signer).unwrap();
    openssl.write("ca.csr", &csr);
    let text = openssl.must("req -in ca.csr -verify -noout -text");
    assert!(text.contains("CA:TRUE, pathlen:0") && text.contains("Certificate Sign, CRL Sign"), "{text}");

    let own = root.sign(&csr, |_| {});
    openssl.write("ca.pem", format!("{own}{}", root.pem));
    let authorities =
        Authorities::new(keys([ca_signer(), signer]), Some(&openssl.path("ca.pem")), URL, clock()).unwrap();
    assert!(authorities.are_under_an_offline_root());
    let authority = authorities.signing().unwrap();
    let backend = X509Backend::new(BackendName::new("pki").unwrap(), "example.org", Arc::new(authorities)).unwrap();
    let order = by_repository(1);
    let minted = mint(&backend, &order).await.unwrap();
    openssl.write("leaf.pem", &minted.chain);
    openssl.write("root.pem", &minted.trust_bundle);
    openssl.write("offline.pem", &root.pem);
    assert_eq!(minted.chain.matches("BEGIN CERTIFICATE").count(), 2, "leaf and intermediate, not the root");
    let verify = |extra: &str| {
        format!("verify -x509_strict -CAfile root.pem -untrusted leaf.pem -attime {} {extra} leaf.pem", NOW.as_secs())
    };
    openssl.must(&verify(""));
    openssl.must_not(
        &format!("verify -CAfile root.pem -attime {} leaf.pem", NOW.as_secs()),
        "unable to get local issuer certificate",
    );
    assert_eq!(
        openssl.must("x509 -in root.pem -noout -fingerprint"),
        openssl.must("x509 -in offline.pem -noout -fingerprint")
    );
    openssl.write("crl.der", authority.crl(&[(order.grant, NOW)], NOW).unwrap());
    openssl.must("crl -inform DER -in crl.der -out crl.pem");
    openssl.must_not(&verify("-crl_check -CRLfile crl.pem"), "certificate revoked");
}

#[test]
fn an_authority_whose_certificates_would_verify_nothing_does_not_start() {
    let (root, signer) = (OfflineRoot::new(1), ca_signer());
    let csr = certificate_request(&signer).unwrap();
    let own = root.sign(&csr, |_| {});
    let start = |certificates: &str| Authority::new(Arc::clone(&signer), certificates, URL, NOW).map(drop);
    start(&format!("{own}{}", root.pem)).unwrap();

    let other_key = root.sign(&certificate_request(&ca_signer()).unwrap(), |_| {});
    assert_eq!(start(&format!("{other_key}{}", root.pem)), Err(AuthorityError::OtherKey));
    assert_eq!(start(&format!("{}{own}", root.pem)), Err(AuthorityError::OtherKey), "wrong order");

    let year = time::Duration::days(365);
    let expired = root.sign(&csr, |params| {
        params.not_after -= year;
        params.not_before -= year;
    });
    let early = root.sign(&csr, |params| {
        params.not_before += year;
        params.not_after += year;
    });
    for dated in [expired, early] {
        let refused = start(&format!("{dated}{}", root.pem)).unwrap_err();
        assert!(matches!(refused, AuthorityError::NotValidNow { .. }), "{refused}");
    }

    let leaf = root.sign(&csr, |params| params.is_ca = IsCa::ExplicitNoCa);
    let no_lists = root.sign(&csr, |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    let no_certificates = root.sign(&csr, |params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    let namesake = OfflineRoot::new(1);
    let narrow = OfflineRoot::new(0);
    let under_narrow = narrow.sign(&csr, |_| {});
    for (bad, why) in [
        (String::new(), "nothing"),
        ("nonsense".to_owned(), "no PEM"),
        (own.clone(), "the root is missing"),
        (format!("{own}{}", namesake.pem), "a root of the same name and another key"),
        (format!("{leaf}{}", root.pem), "a leaf"),
        (format!("{no_lists}{}", root.pem), "no cRLSign"),
        (format!("{no_certificates}{}", root.pem), "no keyCertSign"),
        (format!("{under_narrow}{}", narrow.pem), "a root that allows no intermediate"),
        (format!("{own}{}", root.pem.repeat(5)), "too many"),
        (format!("{own}{}{}", root.pem, "\n".repeat(70_000)), "too long"),
    ] {
        let refused = start(&bad).expect_err(why);
        assert!(matches!(refused, AuthorityError::Certificates(_)), "{why}: {refused}");
    }
    let from_file = |signer, path: &Path| Authorities::new(keys([signer]), Some(path), URL, clock()).map(drop);
    let missing = from_file(Arc::clone(&signer), Path::new("/nonexistent/ca.pem"));
    assert!(matches!(missing, Err(AuthorityError::File { .. })));
    let openssl = OpenSsl::new();
    openssl.write("ca.pem", format!("{own}{}", root.pem));
    assert_eq!(from_file(ca_signer(), &openssl.path("ca.pem")), Err(AuthorityError::OtherKey), "no key has it");
    from_file(signer, &openssl.path("ca.pem")).unwrap();
}

#[tokio::test]
async fn once_the_key_that_an_offline_root_certified_is_distrusted_nothing_is_certified_until_the_next_is() {
    let (openssl, root, old, new) = (OpenSsl::new(), OfflineRoot::new(1), ca_signer(), ca_signer());
    let install = |signer: &Arc<dyn Signer>| {
        let own = root.sign(&certificate_request(signer).unwrap(), |_| {});
        openssl.write("ca.pem", format!("{own}{}", root.pem));
    };
    install(&old);
    let keys = keys([Arc::clone(&old)]);
    let start = || Authorities::new(Arc::clone(&keys) as _, Some(&openssl.path("ca.pem")), URL, clock()).map(Arc::new);
    let backend = |authorities: &Arc<Authorities>| {
        X509Backend::new(BackendName::new("pki").unwrap(), "example.org", Arc::clone(authorities)).unwrap()
    };
    let running = start().unwrap();
    mint(&backend(&running), &by_repository(1)).await.unwrap();

    keys.distrust(&old, Arc::clone(&new));
    let restarted = start().expect("the other backends do not depend on it");
    for authorities in [running, restarted] {
        assert!(authorities.trouble().is_some_and(|trouble| trouble.contains("ca_certificate_file")));
        let refused = mint(&backend(&authorities), &by_repository(2)).await.map(drop).unwrap_err();
        assert!(matches!(&refused, IssueError::Suspended { detail, .. } if detail.contains("distrusted")), "{refused}");
        assert!(authorities.of_key(old.key_id()).is_none());
    }

    install(&new);
    let mended = start().unwrap();
    assert_eq!(mended.trouble(), None);
    mint(&backend(&mended), &by_repository(3)).await.unwrap();
    // The control: a file for a key that was never here is a mistake, and is told before anything runs on it.
    install(&ca_signer());
    assert_eq!(start().map(drop), Err(AuthorityError::OtherKey));
}

#[tokio::test]
async fn a_certificate_never_outlives_its_authority() {
    let (root, signer) = (OfflineRoot::new(1), ca_signer());
    let own = root.sign(&certificate_request(&signer).unwrap(), |params| {
        params.not_after = time::OffsetDateTime::from_unix_timestamp(NOW.as_secs() + 60).unwrap();
    });
    let authority = Authority::new(signer, &format!("{own}{}", root.pem), URL, NOW).map(Arc::new).unwrap();
    let minted = mint(&backend(&authority), &by_repository(1)).await.unwrap();
    assert_eq!(minted.expires_at, NOW.plus(Ttl::from_secs(61)), "its last second is the authority's");
    let mut late = by_repository(2);
    late.issued_at = NOW.plus(Ttl::from_secs(61));
    assert!(matches!(mint(&backend(&authority), &late).await, Err(IssueError::Refused { .. })));
}
