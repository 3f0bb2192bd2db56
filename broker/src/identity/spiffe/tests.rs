//! Certificates are made here as no well-behaved authority would make them. Those of other people's authorities, and
//! real connections, are elsewhere.

mod go_spiffe;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallpass_core::identity::{AcceptanceRules, ClientCertificate, PrincipalKind, VerifiedIdentity};
use hallpass_core::port::ProofReader as _;
use hallpass_core::testing::{MockClock, received, sample};
use hallpass_core::time::Ttl;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P384_SHA384, SanType,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::*;
use crate::config::issuer::{BundleSource, JwsAlgorithm, KeyRefresh};
use crate::identity::testing::{AUDIENCE, Behaviour, NOW, TestKey, TestServer, clock};

const ID: &str = "spiffe://td1.test/ns/prod/sa/deployer";

/// An authority of certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: Vec<u8>,
}

impl Authority {
    fn new(name: &str) -> Self {
        Self::with(name, |_| ())
    }

    fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = authority_params(name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    /// One below this one.
    fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = authority_params(name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    /// An SVID of `uri`, changed.
    fn leaf(&self, uri: &str, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = leaf_params(&[uri]);
        change(&mut params);
        params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().der().to_vec()
    }

    fn jwk(&self) -> Value {
        json!({"kty": "EC", "crv": "P-256", "use": "x509-svid", "x5c": [STANDARD.encode(&self.der)]})
    }
}

fn at(offset: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW + offset).unwrap()
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (at(-3600), at(86_400));
    params
}

fn leaf_params(uris: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (at(-10), at(300));
    params
}

fn settings(trust_domain: &str, bundle: BundleSource) -> SpiffeIssuer {
    SpiffeIssuer {
        name: IssuerName::new("prod").unwrap(),
        trust_domain: TrustDomain::new(trust_domain).unwrap(),
        principal: PrincipalKind::Workload,
        bundle,
        x509_svids: true,
        jwt_svids: true,
        algorithms: vec![JwsAlgorithm::ES256],
        rules: AcceptanceRules {
            audiences: vec![AUDIENCE.to_owned()],
            leeway: Ttl::from_secs(30),
            max_age: None,
            max_lifetime: Ttl::from_hours(1),
            single_use: false,
            bounds_ttl: false,
        },
        x509_max_lifetime: Ttl::from_hours(25),
        refresh: KeyRefresh { max_age: Ttl::from_mins(5), min_interval: Ttl::from_secs(10), grace: Ttl::from_hours(1) },
    }
}

fn verifier_of(settings: SpiffeIssuer, clock: &Arc<MockClock>) -> SpiffeVerifier {
    let client = Arc::new(Outbound::new(None).unwrap());
    SpiffeVerifier::new(settings, Arc::clone(clock) as Arc<dyn Clock>, client, AllowHttp::Loopback).unwrap()
}

fn verifier(trust_domain: &str, keys: &[Value]) -> SpiffeVerifier {
    let bundle = json!({"keys": keys, "spiffe_sequence": 1, "spiffe_refresh_hint": 60}).to_string();
    verifier_of(settings(trust_domain, BundleSource::Inline(bundle)), &clock())
}

fn shown(chain: &[&[u8]]) -> Proof {
    let certificate = ClientCertificate::new(chain.iter().map(|der| der.to_vec()).collect()).unwrap();
    Proof::of_certificate(Arc::new(certificate))
}

/// As a request does it: who could it be of, is it theirs, does it hold.
async fn judged(verifier: &SpiffeVerifier, proof: &Proof, now: Timestamp) -> Result<VerifiedIdentity, Refusal> {
    let source = ProofForms.read(proof)?;
    if source.unverified_trust_domain? != *verifier.trust_domain().unwrap() {
        return Err(Refusal::proof(Reason::UnknownIssuer, "no such trust domain"));
    }
    VerifiedIdentity::accept(verifier.verify(proof, now).await?, proof.shown(), None, now)
}

async fn refusal(verifier: &SpiffeVerifier, chain: &[&[u8]]) -> Refusal {
    judged(verifier, &shown(chain), sample::NOW).await.expect_err("a refusal")
}

#[tokio::test]
async fn svids_of_the_domains_own_authorities_are_proofs() {
    // CASE X5-100
    let root = Authority::new("td1");
    let intermediate = root.below("td1 intermediate", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    let verifier = verifier("td1.test", &[root.jwk()]);
    let p384 = leaf_params(&[ID])
        .signed_by(&KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(), &root.issuer)
        .unwrap()
        .der()
        .to_vec();
    let plain = root.leaf(ID, |_| ());
    let below = intermediate.leaf(ID, |_| ());
    let with_dns = root.leaf(ID, |params| {
        params.subject_alt_names.push(SanType::DnsName("api.td1.test".try_into().unwrap()));
    });
    let without_eku = root.leaf(ID, |params| params.extended_key_usages.clear());
    let without_basic = root.leaf(ID, |params| params.is_ca = IsCa::NoCa);
    for (what, chain) in [
        ("a leaf", vec![&plain[..]]),
        ("a leaf and what is above it", vec![&below, &intermediate.der]),
        ("with its root, too", vec![&below, &intermediate.der, &root.der]),
        ("with a DNS name", vec![&with_dns]),
        ("without an extended key usage", vec![&without_eku]),
        ("without basic constraints", vec![&without_basic]),
        ("P-384", vec![&p384]),
    ] {
        let identity = judged(&verifier, &shown(&chain), sample::NOW).await;
        let identity = identity.unwrap_or_else(|refusal| panic!("{what}: {refusal:?}"));
        let proof = identity.proof();
        assert_eq!(
            (identity.subject(), identity.issuer().as_str(), proof.issuer_kind.as_ref()),
            (ID, "prod", "spiffe")
        );
        let sha256 = ClientCertificate::new(vec![chain[0].to_vec()]).unwrap().sha256();
        let sha256: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(proof.attributes["x509_sha256"], AttributeValue::Text(sha256), "{what}");
        assert_eq!(proof.attributes["svid"], AttributeValue::Text("x509".to_owned()));
        assert_eq!(proof.binding_key, None, "{what}");
    }
}

#[tokio::test]
async fn what_is_no_svid_of_the_domain_is_refused_and_told_apart_in_the_log() {
    let root = Authority::new("td1");
    let other = Authority::new("td2");
    let control = root.leaf(ID, |_| ());
    let good = verifier("td1.test", &[root.jwk()]);
    assert!(judged(&good, &shown(&[&control]), sample::NOW).await.is_ok(), "the control");

    let uri = |uri: &str| SanType::URI(uri.try_into().unwrap());
    let dns_only = root.leaf(ID, |params| {
        params.subject_alt_names = vec![SanType::DnsName("api.td1.test".try_into().unwrap())];
    });
    let by_common_name = root.leaf(ID, |params| {
        params.subject_alt_names.clear();
        params.distinguished_name.push(DnType::CommonName, "spiffe://td1.test/admin");
    });
    let two = root.leaf(ID, |params| params.subject_alt_names.push(uri("spiffe://td1.test/admin")));
    let one_https = root.leaf(ID, |params| params.subject_alt_names.push(uri("https://td1.test/")));
    let twice = root.leaf(ID, |params| params.subject_alt_names.push(uri(ID)));
    let https = root.leaf("https://td1.test/a", |_| ());
    let of_the_domain = root.leaf("spiffe://td1.test", |_| ());
    let ca = root.leaf(ID, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let signs = root.leaf(ID, |params| params.key_usages.push(KeyUsagePurpose::KeyCertSign));
    let signs_crls = root.leaf(ID, |params| params.key_usages.push(KeyUsagePurpose::CrlSign));
    let no_signature = root.leaf(ID, |params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment]);
    let no_usage = root.leaf(ID, |params| params.key_usages.clear());
    let server_only = root.leaf(ID, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let expired = root.leaf(ID, |params| (params.not_before, params.not_after) = (at(-600), at(-1)));
    let early = root.leaf(ID, |params| (params.not_before, params.not_after) = (at(1), at(300)));
    let long = root.leaf(ID, |params| (params.not_before, params.not_after) = (at(-10), at(86_400 * 40)));
    let foreign = other.leaf(ID, |_| ());
    let critical = root.leaf(ID, |params| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    });
    let duplicate = root.leaf(ID, |params| {
        // subjectAltName again: a URI, as it is written in DER.
        let name = b"spiffe://td1.test/admin";
        let length = u8::try_from(name.len()).unwrap();
        let mut san = vec![0x30, length + 2, 0x86, length];
        san.extend_from_slice(name);
        params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], san));
    });
    // An authority of somebody else that calls itself the same and has the same key id.
    let impostor = Authority::new("td1").leaf(ID, |_| ());
    let expired_above = root.below("above", |params| (params.not_before, params.not_after) = (at(-600), at(-1)));
    let no_ca_above = root.below("above", |params| params.is_ca = IsCa::ExplicitNoCa);
    let no_usage_above = root.below("above", |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    let short_above = root.below("above", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let too_deep = short_above.below("below", |_| ());
    let constrained = root.below("constrained", |params| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("td1.test".to_owned())],
            excluded_subtrees: Vec::new(),
        });
    });
    let leaves: Vec<Vec<u8>> = [&expired_above, &no_ca_above, &no_usage_above, &too_deep, &constrained]
        .into_iter()
        .map(|above| {
            above.leaf(ID, |params| params.subject_alt_names.push(SanType::DnsName("evil.test".try_into().unwrap())))
        })
        .collect();
    let many: Vec<&[u8]> =
        std::iter::once(&leaves[0][..]).chain(std::iter::repeat_n(&expired_above.der[..], 3)).collect();

    let cases: Vec<(&str, Vec<&[u8]>, &str)> = vec![
        ("X5-001", vec![&dns_only], "exactly one URI"),
        ("X5-002", vec![&two], "exactly one URI"),
        ("X5-002 https", vec![&one_https], "exactly one URI"),
        ("X5-003", vec![&twice], "exactly one URI"),
        ("SPIFFE-ID", vec![&https], "no SPIFFE ID"),
        ("trust domain's own ID", vec![&of_the_domain], "no workload"),
        ("X5-006", vec![&ca], "an authority"),
        ("X5-007", vec![&signs], "may sign certificates"),
        ("cRLSign", vec![&signs_crls], "revocation lists"),
        ("no digitalSignature", vec![&no_signature], "not for digital signatures"),
        ("no keyUsage", vec![&no_usage], "does not say what its key is for"),
        ("EKU serverAuth", vec![&server_only], "not for TLS clients"),
        ("X5-011 expired", vec![&expired], "has expired"),
        ("X5-011 not yet", vec![&early], "not valid yet"),
        ("longer than allowed", vec![&long], "valid for longer"),
        ("X5-012", vec![&leaves[0], &expired_above.der], "has expired"),
        ("X5-013", vec![&impostor], "does not end in an authority"),
        ("X5-014", vec![&foreign], "does not end in an authority"),
        ("X5-015 cA", vec![&leaves[1], &no_ca_above.der], ""),
        ("X5-015 keyCertSign", vec![&leaves[2], &no_usage_above.der], "signs others and may not"),
        ("X5-016", vec![&leaves[3], &too_deep.der, &short_above.der], ""),
        ("X5-017", vec![&leaves[4], &constrained.der], ""),
        ("X5-019", vec![&critical], ""),
        ("X5-020", vec![&duplicate], ""),
        ("X5-021", many, ""),
        ("X5-025", vec![&by_common_name], "exactly one URI"),
        ("missing intermediate", vec![&leaves[3], &short_above.der], "does not end in an authority"),
        ("X5-030", vec![&control[..control.len() - 1]], "cannot be read"),
    ];
    for (case, chain, told) in &cases {
        let refused = refusal(&good, chain).await;
        assert_eq!(refused.reason, Reason::BadSvid, "{case}: {refused:?}");
        assert!(refused.detail.contains(told), "{case}: {}", refused.detail);
        let internal = refused.internal.unwrap_or_default();
        let sha256 = ClientCertificate::new(vec![chain[0].to_vec()]).unwrap().sha256();
        let sha256: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(internal.contains("serial ") && internal.contains(&sha256), "{case}: {internal}");
    }
    println!("{} certificates refused", cases.len());

    // No merging: another domain's bundle verifies nothing of this one, whoever is asked.
    let two_domains = verifier("td2.test", &[other.jwk()]);
    assert_eq!(refusal(&two_domains, &[&foreign]).await.reason, Reason::UnknownIssuer);
    assert!(two_domains.verify(&shown(&[&foreign]), sample::NOW).await.is_err());
    let own = other.leaf("spiffe://td2.test/a", |_| ());
    assert!(judged(&two_domains, &shown(&[&own]), sample::NOW).await.is_ok());
}

#[tokio::test]
async fn an_svid_is_judged_anew_while_its_connection_stays_open() {
    // CASE X5-026, X5-027, X5-028
    let (root, next) = (Authority::new("td1"), Authority::new("td1 next"));
    let server = TestServer::start().await;
    let publish = |keys: &[Value]| server.set("/bundle", Behaviour::json(json!({"keys": keys}).to_string()));
    publish(&[root.jwk()]);
    let source = BundleSource::HttpsWeb { url: format!("{}/bundle", server.origin), dangerous_allow_http: false };
    let clock = clock();
    let verifier = verifier_of(settings("td1.test", source), &clock);
    let leaf = root.leaf(ID, |params| params.not_after = at(3000));
    let connection = shown(&[&leaf]);
    let judge = async || judged(&verifier, &connection, clock.now()).await;
    assert!(judge().await.is_ok());

    // The bundle is there and another authority follows: its SVIDs are good at once, within the interval.
    let newer = shown(&[&next.leaf(ID, |params| params.not_after = at(3000))]);
    publish(&[root.jwk(), next.jwk()]);
    assert_eq!(judged(&verifier, &newer, clock.now()).await.unwrap_err().reason, Reason::BadSvid);
    assert_eq!(server.asked("/bundle"), 1, "strangers' certificates ask nobody within the interval");
    clock.advance(Ttl::from_secs(11));
    assert!(judged(&verifier, &newer, clock.now()).await.is_ok());
    assert_eq!(server.asked("/bundle"), 2);

    // The first authority goes; by the next refresh nothing of it is believed.
    publish(&[next.jwk()]);
    clock.advance(Ttl::from_mins(5));
    assert_eq!(judge().await.unwrap_err().reason, Reason::BadSvid);
    // An empty bundle trusts nobody.
    publish(&[]);
    clock.advance(Ttl::from_mins(5));
    let refused = judged(&verifier, &newer, clock.now()).await.unwrap_err();
    assert!(refused.detail.contains("no authority"), "{}", refused.detail);

    // And one that is trusted still ends with its time, which no leeway lengthens.
    publish(&[root.jwk()]);
    clock.advance(Ttl::from_mins(5));
    assert!(judge().await.is_ok());
    clock.advance(Ttl::from_secs(3001 - u64::try_from(clock.now().as_secs() - NOW).unwrap()));
    let refused = judge().await.unwrap_err();
    assert!(refused.detail.contains("has expired"), "{}", refused.detail);
}

/// What was verified once is not verified again while nothing can have changed, and is where something has.
#[tokio::test]
async fn what_was_verified_is_remembered_for_as_long_as_verifying_it_anew_would_say_the_same() {
    let soon = Authority::with("td1 soon", |params| params.not_after = at(50));
    let lasting = Authority::new("td1 lasting");
    let above = lasting.below("above", |params| params.not_after = at(20));
    let early = lasting.below("early", |params| params.not_before = at(30));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bundle.json");
    let publish = |keys: &[Value]| std::fs::write(&file, json!({"keys": keys}).to_string()).unwrap();
    let leaf = above.leaf(ID, |_| ());
    let whole = shown(&[&leaf, &above.der]);
    let (alone, of_soon) = (shown(&[&leaf]), shown(&[&soon.leaf(ID, |_| ())]));
    let with_another = lasting.leaf(ID, |_| ());
    let with_another = shown(&[&with_another, &early.der]);
    let remembered = |verifier: &SpiffeVerifier, proof: &Proof, bundle: &Arc<_>, now| {
        let Evidence::Certificate(certificate) = &proof.evidence else { panic!("a certificate") };
        verifier.verified.have(certificate, bundle, now)
    };
    publish(&[lasting.jwk()]);
    let clock = clock();
    let verifier = verifier_of(settings("td1.test", BundleSource::File(file.clone())), &clock);
    let judge = async |proof: &Proof| judged(&verifier, proof, clock.now()).await.is_ok();
    let bundle = verifier.bundle().current().await.unwrap();
    assert!(!remembered(&verifier, &whole, &bundle, clock.now()));
    for _ in 0..2 {
        assert!(judge(&whole).await);
        assert!(remembered(&verifier, &whole, &bundle, clock.now()));
    }
    // Of the leaf alone nothing is remembered: another chain is another matter, and this one leads nowhere.
    assert!(!judge(&alone).await && !remembered(&verifier, &alone, &bundle, clock.now()));
    // One that came with something which is not valid yet is good, and verified each time.
    assert!(judge(&with_another).await && !remembered(&verifier, &with_another, &bundle, clock.now()));
    // A clock that was set back says nothing of what was verified later than it.
    assert!(!remembered(&verifier, &whole, &bundle, Timestamp::from_secs(NOW - 1)));
    // What is above it ends before it does: to the second.
    clock.advance(Ttl::from_secs(20));
    assert!(judge(&whole).await);
    clock.advance(Ttl::from_secs(1));
    assert!(!judge(&whole).await, "the certificate above it is over");

    // A bundle that changed forgets, also what it still has; and so does the end of an authority.
    publish(&[lasting.jwk(), soon.jwk()]);
    clock.advance(Ttl::from_secs(2));
    assert!(judge(&of_soon).await);
    let changed = verifier.bundle().current().await.unwrap();
    assert!(remembered(&verifier, &of_soon, &changed, clock.now()) && !Arc::ptr_eq(&bundle, &changed));
    assert!(!remembered(&verifier, &of_soon, &bundle, clock.now()));
    publish(&[soon.jwk()]);
    clock.advance(Ttl::from_secs(2));
    assert!(judge(&of_soon).await, "it is verified by the bundle that there is now");
    clock.advance(Ttl::from_secs(25));
    assert!(judge(&of_soon).await, "to the last second of its authority");
    clock.advance(Ttl::from_secs(1));
    assert!(!judge(&of_soon).await, "its authority is over");
}

#[tokio::test]
#[ignore = "a measurement: run it by name, in a release build"]
#[expect(clippy::disallowed_methods, reason = "a measurement needs the machine's own time")]
async fn measure_judging_certificates() {
    const ROUNDS: u32 = 2_000;
    let root = Authority::new("td1");
    let above = root.below("above", |_| ());
    let verifier = verifier("td1.test", &[root.jwk()]);
    let bundle = verifier.bundle().current().await.unwrap();
    let (short, long) = (root.leaf(ID, |_| ()), above.leaf(ID, |_| ()));
    for (what, proof) in [("one signature", shown(&[&short])), ("two signatures", shown(&[&long, &above.der]))] {
        let Evidence::Certificate(certificate) = &proof.evidence else { panic!("a certificate") };
        let begun = std::time::Instant::now();
        for _ in 0..ROUNDS {
            let at = rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW.unsigned_abs()));
            std::hint::black_box(x509_svid::chain(certificate, &bundle, at)).unwrap();
        }
        let verified = begun.elapsed() / ROUNDS;
        let begun = std::time::Instant::now();
        for _ in 0..ROUNDS {
            std::hint::black_box(judged(&verifier, &proof, sample::NOW).await).unwrap();
        }
        println!(
            "{what}: {verified:?} to verify; {:?} to judge a request where it is remembered",
            begun.elapsed() / ROUNDS
        );
    }
}

/// A JWT-SVID with some header members and claims replaced or, by null, removed.
fn jwt(key: &TestKey, header: Value, claims: Value) -> Proof {
    let mut svid = json!({"iss": null, "nbf": null, "jti": null, "sub": ID});
    svid.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    received(&key.proof(header, svid))
}

fn jwt_authority(key: &TestKey) -> Value {
    let mut jwk = key.jwk();
    jwk["use"] = json!("jwt-svid");
    jwk.as_object_mut().unwrap().remove("alg");
    jwk
}

#[tokio::test]
async fn jwt_svids_keep_to_their_specification() {
    let (key, of_certificates) = (TestKey::new("one"), TestKey::new("x509"));
    let root = Authority::new("td1");
    let mut for_x509 = jwt_authority(&of_certificates);
    for_x509["use"] = json!("x509-svid");
    let mut for_nothing = jwt_authority(&TestKey::new("nothing"));
    for_nothing.as_object_mut().unwrap().remove("use");
    let verifier = verifier("td1.test", &[jwt_authority(&key), for_x509, root.jwk(), for_nothing]);
    let judge = async |proof: Proof| judged(&verifier, &proof, sample::NOW).await;

    for (what, header, claims) in [
        ("as it is", json!({}), json!({})),
        ("typ JOSE", json!({"typ": "JOSE"}), json!({})),
        ("no typ", json!({"typ": null}), json!({})),
        ("several audiences", json!({}), json!({"aud": ["https://other.test", AUDIENCE]})),
        ("an iss of nobody's", json!({}), json!({"iss": "https://oidc.td1.test"})),
        ("edge characters", json!({}), json!({"sub": "spiffe://td1.test/A.b-C_d"})),
    ] {
        let identity = judge(jwt(&key, header, claims)).await;
        let identity = identity.unwrap_or_else(|refusal| panic!("{what}: {refusal:?}"));
        assert_eq!(identity.proof().attributes["svid"], AttributeValue::Text("jwt".to_owned()), "{what}");
        assert_eq!(identity.proof().attributes["single_use"], AttributeValue::Bool(false), "{what}");
        assert_eq!(identity.proof().binding_key, None, "{what}");
        assert!(!identity.proof().rules.single_use);
    }
    // What a token says about the SVID does not stand where the broker's own word does.
    let lying = judge(jwt(&key, json!({}), json!({"svid": "x509", "trust_domain": "td2.test"}))).await.unwrap();
    assert_eq!(lying.proof().attributes["svid"], AttributeValue::Text("jwt".to_owned()));
    assert_eq!(lying.proof().attributes["trust_domain"], AttributeValue::Text("td1.test".to_owned()));

    let stranger = TestKey::new("one");
    for (case, proof, reason) in [
        ("SPJ-003", jwt(&key, json!({}), json!({"sub": "spiffe://td9.test/x"})), Reason::UnknownIssuer),
        ("SPJ-004", jwt(&key, json!({}), json!({"sub": "https://td1.test/x"})), Reason::BadSpiffeId),
        ("SPJ-004", jwt(&key, json!({}), json!({"sub": "repo:acme/app"})), Reason::BadSpiffeId),
        ("SPJ-006", jwt(&of_certificates, json!({}), json!({})), Reason::UnknownKid),
        ("SPJ-014", jwt(&key, json!({"foo": "1"}), json!({})), Reason::MalformedHeader),
        ("SPJ-014", jwt(&key, json!({"x5t": "abc"}), json!({})), Reason::MalformedHeader),
        ("typ", jwt(&key, json!({"typ": "at+jwt"}), json!({})), Reason::WrongTokenType),
        ("typ in lower case", jwt(&key, json!({"typ": "jwt"}), json!({})), Reason::WrongTokenType),
        ("no kid", jwt(&key, json!({"kid": null}), json!({})), Reason::UnknownKid),
        ("alg", jwt(&key, json!({"alg": "ES384"}), json!({})), Reason::AlgNotAllowed),
        ("alg none", jwt(&key, json!({"alg": "none"}), json!({})), Reason::AlgNotAllowed),
        ("key without use", jwt(&TestKey::new("nothing"), json!({}), json!({})), Reason::UnknownKid),
        ("another key", jwt(&stranger, json!({}), json!({})), Reason::BadSignature),
        ("no sub", jwt(&key, json!({}), json!({"sub": null})), Reason::MissingClaim),
        ("no aud", jwt(&key, json!({}), json!({"aud": null})), Reason::MissingClaim),
        ("another aud", jwt(&key, json!({}), json!({"aud": "https://other.test"})), Reason::WrongAudience),
        ("aud with more", jwt(&key, json!({}), json!({"aud": format!("{AUDIENCE}/")})), Reason::WrongAudience),
        ("no exp", jwt(&key, json!({}), json!({"exp": null})), Reason::MissingClaim),
        ("expired", jwt(&key, json!({}), json!({"exp": NOW - 31})), Reason::Expired),
        ("bound", jwt(&key, json!({}), json!({"cnf": {"jkt": "x"}})), Reason::PopRequired),
    ] {
        let refused = judge(proof).await.expect_err(case);
        assert_eq!(refused.reason, reason, "{case}: {refused:?}");
    }
}

#[tokio::test]
async fn a_form_that_is_not_accepted_is_refused() {
    let (key, root) = (TestKey::new("one"), Authority::new("td1"));
    let bundle = json!({"keys": [jwt_authority(&key), root.jwk()]}).to_string();
    let source = || BundleSource::Inline(bundle.clone());
    let (certificate, token) = (shown(&[&root.leaf(ID, |_| ())]), jwt(&key, json!({}), json!({})));
    let only_x509 = verifier_of(SpiffeIssuer { jwt_svids: false, ..settings("td1.test", source()) }, &clock());
    assert!(judged(&only_x509, &certificate, sample::NOW).await.is_ok());
    assert_eq!(judged(&only_x509, &token, sample::NOW).await.unwrap_err().reason, Reason::WrongTokenType);
    let only_jwt = verifier_of(SpiffeIssuer { x509_svids: false, ..settings("td1.test", source()) }, &clock());
    assert!(judged(&only_jwt, &token, sample::NOW).await.is_ok());
    assert_eq!(judged(&only_jwt, &certificate, sample::NOW).await.unwrap_err().reason, Reason::WrongTokenType);
}

#[tokio::test]
async fn a_bundle_is_refreshed_by_its_hint_within_bounds() {
    let key = TestKey::new("one");
    let server = TestServer::start().await;
    let source = BundleSource::HttpsWeb { url: format!("{}/bundle", server.origin), dangerous_allow_http: false };
    for (hint, still, due) in [(60, 40, 61), (1, 5, 11), (86_400, 200, 301)] {
        let bundle = json!({"keys": [jwt_authority(&key)], "spiffe_refresh_hint": hint}).to_string();
        server.set("/bundle", Behaviour::json(bundle));
        let clock = clock();
        let verifier = verifier_of(settings("td1.test", source.clone()), &clock);
        let before = server.asked("/bundle");
        for (wait, asked) in [(0, 1), (still, 1), (due - still, 2)] {
            clock.advance(Ttl::from_secs(wait));
            verifier.bundle().current().await.unwrap();
            assert_eq!(server.asked("/bundle") - before, asked, "hint {hint}, {wait} s later");
        }
    }
}

/// A number for a text.
fn crc(text: &str) -> u32 {
    text.bytes().fold(7, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)))
}

#[tokio::test]
async fn an_older_bundle_that_is_played_back_does_not_bring_a_removed_authority_back() {
    let (old, new) = (Authority::new("td1 old"), Authority::new("td1 new"));
    let lasting = |authority: &Authority| authority.leaf(ID, |params| params.not_after = at(80_000));
    let (of_old, of_new) = (lasting(&old), lasting(&new));
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bundle.json");
    let bundle = |keys: &[Value], sequence: Option<u64>| {
        let mut bundle = json!({"keys": keys});
        if let Some(sequence) = sequence {
            bundle["spiffe_sequence"] = json!(sequence);
        }
        bundle.to_string()
    };
    let endpoint = BundleSource::HttpsWeb { url: format!("{}/bundle", server.origin), dangerous_allow_http: false };
    for source in [endpoint, BundleSource::File(file.clone())] {
        let clock = clock();
        let publish = |text: String| {
            std::fs::write(&file, &text).unwrap();
            // With a tag, under which an endpoint says that it has nothing new.
            let tag = format!("\"{:x}\"", crc(&text)).leak();
            server.set("/bundle", Behaviour::Tagged(tag, text));
            clock.advance(Ttl::from_mins(5));
        };
        let verifier = verifier_of(settings("td1.test", source.clone()), &clock);
        let reason = async |leaf: &[u8]| judged(&verifier, &shown(&[leaf]), clock.now()).await.err().map(|r| r.reason);
        publish(bundle(&[old.jwk()], Some(6)));
        assert_eq!(reason(&of_old).await, None, "{source:?}");
        publish(bundle(&[new.jwk()], Some(7)));
        assert_eq!((reason(&of_old).await, reason(&of_new).await), (Some(Reason::BadSvid), None), "{source:?}");
        // The old one again, as it was, and with the word of its place taken out.
        for sequence in [Some(6), Some(6), None, Some(0)] {
            publish(bundle(&[old.jwk()], sequence));
            assert_eq!(
                (reason(&of_old).await, reason(&of_new).await),
                (Some(Reason::BadSvid), None),
                "{source:?} {sequence:?}"
            );
            assert_eq!(verifier.bundle().health(), crate::identity::jwks::KeyHealth::Ageing, "{source:?}: it is told");
        }
        // It goes on from where it was, also where the same number says something else, which nobody can tell apart.
        publish(bundle(&[new.jwk(), old.jwk()], Some(7)));
        assert_eq!((reason(&of_old).await, reason(&of_new).await), (None, None), "{source:?}");
        publish(bundle(&[new.jwk()], Some(8)));
        assert_eq!((reason(&of_old).await, reason(&of_new).await), (Some(Reason::BadSvid), None), "{source:?}");
        assert_eq!(verifier.bundle().health(), crate::identity::jwks::KeyHealth::Held, "{source:?}");
        // What is never replaced ends with its grace, and then nobody is believed: not the older one either.
        for _ in 0..14 {
            publish(bundle(&[old.jwk()], Some(6)));
            let _ = reason(&of_old).await;
        }
        assert_eq!(reason(&of_old).await, Some(Reason::JwksUnavailable), "{source:?}");
        // A broker that starts believes what it finds.
        let begun = verifier_of(settings("td1.test", source.clone()), &clock);
        assert!(judged(&begun, &shown(&[&of_old]), clock.now()).await.is_ok(), "{source:?}");
    }
}

/// Anybody can make as many certificates of one name as it likes, and a verifier that looks for a way up tries them in
/// every order. Even the most of them that a connection may bring, which it may not with one name, cost little.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "what is measured is what it costs")]
async fn a_chain_that_has_many_orders_costs_little_more_than_a_good_one() {
    let td1 = Authority::new("td1");
    let verifier = verifier("td1.test", &[td1.jwk()]);
    let above: Vec<_> = (0..7).map(|_| Authority::new("td1")).collect();
    let leaf = above[0].leaf(ID, |_| ());
    let chain = |count: usize| std::iter::once(leaf.clone()).chain(above[..count].iter().map(|one| one.der.clone()));
    assert!(ClientCertificate::new(chain(ClientCertificate::MAX_CHAIN).collect()).is_none(), "more are nobody's");
    let longest = chain(ClientCertificate::MAX_CHAIN - 1).collect::<Vec<_>>();
    let longest = shown(&longest.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let (middle, upper) = (td1.below("middle", |_| ()), td1.below("upper", |_| ()));
    let good = shown(&[&middle.leaf(ID, |_| ()), &middle.der, &upper.der]);
    let fastest = async |proof: &Proof| {
        let mut fastest = std::time::Duration::MAX;
        for _ in 0..20 {
            let begun = std::time::Instant::now();
            let _ = judged(&verifier, proof, sample::NOW).await;
            fastest = fastest.min(begun.elapsed());
        }
        fastest
    };
    judged(&verifier, &good, sample::NOW).await.expect("the control");
    judged(&verifier, &longest, sample::NOW).await.expect_err("nobody of the trust domain signed it");
    let (good, longest) = (fastest(&good).await, fastest(&longest).await);
    assert!(longest < good * 25, "{longest:?} against {good:?}");
}
