//! Certificates of an authority of one's own, made here as no well-behaved one would. Those of other people's authorities
//! are in the black-box suite.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallpass_core::attestation::{AccountsOf, Statement};
use hallpass_core::id::AttestorName;
use hallpass_core::port::AttestationVerifier as _;
use hallpass_core::time::{Timestamp, Ttl};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P384_SHA384, SanType, SigningKey as _,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::super::{Attestors, REVIEW};
use crate::config::attestor::{Attestor, AttestorKind, CertifiedSigner, Certifier, KnownBy, SignerName};
use crate::identity::jwks::Authority;

const NOW: Timestamp = Timestamp::from_secs(1_767_268_800);
const NAME: &str = "https://ci.test/review.yml";
const COMMIT: &str = "4f2c8b1d9e3a7f60514d2c3b4a59687786a5b4c3";

fn at(offset: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW.as_secs() + offset).unwrap()
}

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    der: Vec<u8>,
}

impl Ca {
    fn new(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (params, key) = (Self::params(name, change), KeyPair::generate().unwrap());
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (params, key) = (Self::params(name, change), KeyPair::generate().unwrap());
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    fn params(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (params.not_before, params.not_after) = (at(-86_400), at(86_400));
        change(&mut params);
        params
    }

    fn leaf(&self, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        self.leaf_with(KeyPair::generate().unwrap(), change)
    }

    fn leaf_with(&self, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri(NAME)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        (params.not_before, params.not_after) = (at(-300), at(300));
        change(&mut params);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Leaf { key, der }
    }

    fn attestors(&self, name: SignerName) -> Attestors {
        let certifier = Certifier::Authorities(vec![Authority::from_der(&self.der).unwrap()]);
        Attestors::new(vec![Attestor {
            name: AttestorName::new("reviews").unwrap(),
            kind: AttestorKind::Review,
            known_by: KnownBy::Certificates(Box::new(CertifiedSigner { name, certifier, files: Vec::new() })),
            builders: Vec::new(),
            accounts_of: AccountsOf::new(),
            max_age: None,
        }])
    }
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

struct Leaf {
    key: KeyPair,
    der: Vec<u8>,
}

impl Leaf {
    /// A bundle, with those certificates behind the leaf.
    fn sign(&self, above: &[&Ca]) -> Value {
        let review = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "app", "digest": {"gitCommit": COMMIT}}],
            "predicateType": REVIEW,
            "predicate": {"commit": COMMIT, "approvers": [{"identity": "people:carol"}]},
        })
        .to_string();
        let kind = "application/vnd.in-toto+json";
        let signed = format!("DSSEv1 {} {kind} {} {review}", kind.len(), review.len());
        let signature = self.key.sign(signed.as_bytes()).unwrap();
        let raw = |der: &Vec<u8>| json!({"rawBytes": STANDARD.encode(der)});
        let chain: Vec<_> = [raw(&self.der)].into_iter().chain(above.iter().map(|ca| raw(&ca.der))).collect();
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.2",
            "verificationMaterial": {"x509CertificateChain": {"certificates": chain}},
            "dsseEnvelope": {"payloadType": kind, "payload": STANDARD.encode(&review),
                "signatures": [{"sig": STANDARD.encode(signature)}]},
        })
    }
}

fn verify_at(attestors: &Attestors, bundle: &Value, now: Timestamp) -> Result<Statement, String> {
    let verified = attestors.verify(&[bundle.to_string()], now);
    verified.map(|vouched| vouched.into_iter().next().unwrap().statement).map_err(|refusal| refusal.detail)
}

fn verify(ca: &Ca, bundle: &Value) -> Result<Statement, String> {
    verify_at(&ca.attestors(SignerName::Uri(NAME.to_owned())), bundle, NOW)
}

#[test]
fn a_certificate_of_ones_own_authority_signs_while_it_is_valid() {
    let root = Ca::new("acme", |_| ());
    let leaf = root.leaf(|_| ());
    let bundle = leaf.sign(&[]);
    assert_eq!(verify(&root, &bundle).unwrap().attestor.as_str(), "reviews");
    let middle = root.below("middle", |_| ());
    let below = middle.leaf(|_| ());
    verify(&root, &below.sign(&[&middle])).unwrap();
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    verify(&root, &root.leaf_with(p384, |_| ()).sign(&[])).unwrap();
    // As a bundle of v0.3 has it.
    let alone = json!({"verificationMaterial": {"certificate": {"rawBytes": STANDARD.encode(&leaf.der)}},
        "dsseEnvelope": bundle["dsseEnvelope"]});
    verify(&root, &alone).unwrap();

    let attestors = root.attestors(SignerName::Uri(NAME.to_owned()));
    let expired = "has expired, and nothing tells of when it signed";
    for (now, said) in [
        (NOW.plus(Ttl::from_secs(300)), None),
        (NOW.plus(Ttl::from_secs(301)), Some(expired)),
        (Timestamp::from_secs(NOW.as_secs() - 301), Some("is not valid yet")),
    ] {
        let verified = verify_at(&attestors, &bundle, now);
        match said {
            None => drop(verified.unwrap()),
            Some(said) => assert!(verified.clone().unwrap_err().contains(said), "{said}: {verified:?}"),
        }
    }
    // It is valid for longer than its authority is.
    let longer = root.leaf(|params| params.not_after = at(2 * 86_400)).sign(&[]);
    verify_at(&attestors, &longer, NOW.plus(Ttl::from_hours(23))).unwrap();
    let detail = verify_at(&attestors, &longer, NOW.plus(Ttl::from_hours(25))).unwrap_err();
    assert!(detail.contains("authority that is trusted here"), "{detail}");
}

#[test]
fn a_name_of_every_kind_is_the_signers_only_one() {
    let root = Ca::new("acme", |_| ());
    let (email, host) =
        (SanType::Rfc822Name("ada@acme.test".try_into().unwrap()), SanType::DnsName("ci.test".try_into().unwrap()));
    let named = |names: Vec<SanType>| root.leaf(|params| params.subject_alt_names = names).sign(&[]);
    let as_name = |name: SignerName, bundle: &Value| verify_at(&root.attestors(name), bundle, NOW);
    as_name(SignerName::Email("ada@acme.test".to_owned()), &named(vec![email.clone()])).unwrap();
    as_name(SignerName::Dns("ci.test".to_owned()), &named(vec![host.clone()])).unwrap();
    for (name, names) in [
        (SignerName::Uri(NAME.to_owned()), vec![]),
        (SignerName::Uri(NAME.to_owned()), vec![uri(NAME), uri("https://ci.test/other.yml")]),
        (SignerName::Uri(NAME.to_owned()), vec![uri(NAME), host.clone()]),
        (SignerName::Uri(NAME.to_owned()), vec![uri("https://ci.test/review.yml2")]),
        (SignerName::Uri(NAME.to_owned()), vec![uri("https://CI.test/review.yml")]),
        (SignerName::Dns("ada@acme.test".to_owned()), vec![email]),
        (SignerName::Email("ci.test".to_owned()), vec![host]),
    ] {
        let detail = as_name(name, &named(names)).unwrap_err();
        assert!(detail.contains("no attestor that is trusted here"), "{detail}");
    }
}

#[test]
fn a_certificate_that_is_for_something_else_signs_nothing() {
    let (root, stranger) = (Ca::new("acme", |_| ()), Ca::new("evil", |_| ()));
    verify(&root, &root.leaf(|_| ()).sign(&[])).unwrap();
    let middle = root.below("middle", |_| ());
    let narrow = root.below("narrow", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let too_deep = narrow.below("too_deep", |_| ());
    let constrained = root.below("constrained", |params| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("other.test".to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    });
    let signs_nothing = root.below("signs_nothing", |params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    let leaf = |change: fn(&mut CertificateParams)| root.leaf(change).sign(&[]);
    let trusted = "is not of an authority that is trusted here";
    for (bundle, said) in [
        (stranger.leaf(|_| ()).sign(&[]), trusted),
        (stranger.leaf(|_| ()).sign(&[&stranger]), trusted),
        (middle.leaf(|_| ()).sign(&[]), trusted),
        (too_deep.leaf(|_| ()).sign(&[&too_deep, &narrow]), "one below it that it must not have"),
        (signs_nothing.leaf(|_| ()).sign(&[&signs_nothing]), "signs others and may not"),
        (leaf(|params| params.extended_key_usages = Vec::new()), "not for signing code"),
        (leaf(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]), "not for signing code"),
        (leaf(|params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]), "not for signatures"),
        (leaf(|params| params.key_usages = Vec::new()), "not for signatures"),
        (
            leaf(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign]),
            "not for signatures, or for more",
        ),
        (leaf(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "is one of an authority"),
    ] {
        let detail = verify(&root, &bundle).unwrap_err();
        assert!(detail.contains(said), "{said}: {detail}");
    }

    // An authority that may speak of some names only.
    let host = |name: &str| {
        let name = SanType::DnsName(name.try_into().unwrap());
        constrained.leaf(|params| params.subject_alt_names = vec![name]).sign(&[&constrained])
    };
    let named = |name: &str| verify_at(&root.attestors(SignerName::Dns(name.to_owned())), &host(name), NOW);
    named("ci.other.test").unwrap();
    assert!(named("ci.acme.test").unwrap_err().contains("name constraints that it does not keep"));
}

#[test]
fn a_certificate_vouches_for_what_its_own_key_signed() {
    let root = Ca::new("acme", |_| ());
    let (leaf, other) = (root.leaf(|_| ()), root.leaf(|_| ()));
    let (bundle, foreign) = (leaf.sign(&[]), other.sign(&[]));
    verify(&root, &bundle).unwrap();
    let mut swapped = bundle.clone();
    swapped["verificationMaterial"] = foreign["verificationMaterial"].clone();
    let unsigned = "the key of its certificate did not sign it as it stands";
    assert!(verify(&root, &swapped).unwrap_err().contains(unsigned));
    let mut altered = bundle.clone();
    let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    let payload = String::from_utf8(payload).unwrap().replace("carol", "david");
    altered["dsseEnvelope"]["payload"] = json!(STANDARD.encode(payload));
    let detail = verify(&root, &altered).unwrap_err();
    assert!(detail.contains(unsigned) && !detail.contains("david"), "{detail}");

    // Chains and bundles that are not what they should be.
    let certificates = bundle["verificationMaterial"]["x509CertificateChain"]["certificates"].clone();
    let with = |material: Value| json!({"verificationMaterial": material, "dsseEnvelope": bundle["dsseEnvelope"]});
    for (material, said) in [
        (json!({"x509CertificateChain": {"certificates": []}}), "no certificate, or more than 6"),
        (json!({"x509CertificateChain": {"certificates": vec![certificates[0].clone(); 7]}}), "or more than 6"),
        (json!({"x509CertificateChain": {"certificates": ["x"]}}), "no `rawBytes`"),
        (
            json!({"x509CertificateChain": {"certificates": certificates}, "certificate": certificates[0]}),
            "it has a `certificate` and",
        ),
        (json!([]), "is no object"),
        (json!({}), "no attestor that is trusted here"),
    ] {
        let detail = verify(&root, &with(material)).unwrap_err();
        assert!(detail.contains(said), "{said}: {detail}");
    }
}
