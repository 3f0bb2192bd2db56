//! The catalogue's certificates, each shown in a handshake.

use rcgen::{CustomExtension, GeneralSubtree, NameConstraints, PKCS_ECDSA_P384_SHA384};

use super::*;

/// A case: what is shown, and whether it proves anybody.
type Case = (&'static str, Shown, bool);

#[tokio::test]
async fn every_catalogued_certificate_is_accepted_or_refused_over_a_connection_of_its_own() {
    // CASE X5-100, X5-001, X5-002, X5-003, X5-006, X5-007, X5-011, X5-012, X5-013, X5-014, X5-015, X5-016
    // CASE X5-017, X5-019, X5-020, X5-021, X5-025, X5-030
    let (root, other) = (Authority::new("td1"), Authority::new("td2"));
    let house = Domain::open(&[&root]).await;
    let control = root.svid(ID);
    let mut deviations = Vec::new();
    let all = cases(&root, &other);
    for (case, shown, accepted) in &all {
        let before = house.broker.store().grant_count();
        let control = house.whoami(&control).await.map(|answer| answer.status);
        assert_eq!(control, Some(200), "void: the control before {case}");
        let client = house.client(Some(shown));
        match client.try_get("/v1/whoami").await {
            // The handshake ended it.
            None if *accepted => deviations.push(format!("{case}: the handshake failed")),
            None => {}
            Some(answer) if *accepted && answer.status != 200 => {
                deviations.push(format!("{case}: {} {}", answer.status, answer.text));
            }
            Some(answer) if !*accepted => {
                let reasons = house.broker.store().reasons_of(answer.request_id());
                if answer.status != 401 || reasons != ["bad_svid"] {
                    deviations.push(format!("{case}: {} {reasons:?} {}", answer.status, answer.text));
                }
                let (entry, sha256) = (house.audit_of(&answer), sha256(&shown.chain[0]));
                if !(entry.contains(&sha256) && entry.contains("serial")) {
                    deviations.push(format!("{case}: the record does not say which certificate: {entry}"));
                }
                let opened = client.post("/v1/grants", &wanted()).await;
                if opened.status != 401 || house.broker.store().grant_count() != before {
                    deviations.push(format!("{case}: a grant was opened: {}", opened.text));
                }
            }
            Some(_) => {}
        }
    }
    println!("{} certificates: {} as catalogued", all.len(), all.len() - deviations.len());
    assert!(deviations.is_empty(), "{} deviate:\n  {}", deviations.len(), deviations.join("\n  "));
}

fn sha256(der: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn cases(root: &Authority, other: &Authority) -> Vec<Case> {
    let uri = |uri: &str| SanType::URI(uri.try_into().expect("ASCII"));
    let dns = |name: &str| SanType::DnsName(name.try_into().expect("ASCII"));
    let more = |san: SanType| root.svid_with(ID, move |params| params.subject_alt_names.push(san));
    let intermediate = root.below("above", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let deeper = intermediate.below("below", |_| ());
    let over = root.below("above", |params| (params.not_before, params.not_after) = (at(-600), at(-60)));
    let no_ca = root.below("above", |params| params.is_ca = IsCa::ExplicitNoCa);
    let no_sign = root.below("above", |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    let constrained = root.below("above", |params| {
        // A URI constraint (RFC 5280 §4.2.1.10), which the verifier does not know: whatever is below it is refused.
        let (permitted_subtrees, excluded_subtrees) =
            (vec![GeneralSubtree::DnsName("td1.test".to_owned())], Vec::new());
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees });
    });
    let p384 = {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
        let der = svid_params(ID).signed_by(&key, &root.issuer).expect("a certificate").der().to_vec();
        Shown { chain: vec![der], key: key.serialize_der() }
    };
    let critical = root.svid_with(ID, |params| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    });
    // The names a second time, and once in a length that DER does not have.
    let name = b"spiffe://td1.test/admin";
    let length = u8::try_from(name.len()).expect("short");
    let san = |head: &[u8]| [head, &name[..]].concat();
    let twice = root.svid_with(ID, |params| {
        let content = san(&[0x30, length + 2, 0x86, length]);
        params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], content));
    });
    let not_der = root.svid_with(ID, |params| {
        params.subject_alt_names.clear();
        let content = san(&[0x30, 0x81, length + 3, 0x86, 0x81, length]);
        params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], content));
    });
    let mut many = deeper.svid(ID);
    (0..500).for_each(|_| many.chain.push(deeper.der.clone()));
    let cycle = |times: usize| {
        let mut shown = deeper.svid(ID);
        (0..times).for_each(|_| shown.chain.extend([deeper.der.clone(), intermediate.der.clone()]));
        shown
    };
    vec![
        ("X5-100 leaf", root.svid(ID), true),
        ("X5-100 leaf and intermediate", intermediate.svid(ID).above(&intermediate.der), true),
        ("X5-100 DNS name too", more(dns("api.td1.test")), true),
        ("X5-100 no EKU", root.svid_with(ID, |params| params.extended_key_usages.clear()), true),
        ("X5-100 P-384", p384, true),
        ("X5-001", root.svid_with(ID, |params| params.subject_alt_names = vec![dns("api.td1.test")]), false),
        ("X5-002 two", more(uri("spiffe://td1.test/admin")), false),
        ("X5-002 one of them https", more(uri("https://td1.test/")), false),
        ("X5-003", more(uri(ID)), false),
        ("X5-006", root.svid_with(ID, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), false),
        ("X5-007", root.svid_with(ID, |params| params.key_usages.push(KeyUsagePurpose::KeyCertSign)), false),
        ("cRLSign", root.svid_with(ID, |params| params.key_usages.push(KeyUsagePurpose::CrlSign)), false),
        (
            "no digitalSignature",
            root.svid_with(ID, |params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]),
            false,
        ),
        (
            "EKU for servers alone",
            root.svid_with(ID, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            false,
        ),
        ("X5-011 over", root.svid_with(ID, |params| (params.not_before, params.not_after) = (at(-600), at(-5))), false),
        (
            "X5-011 early",
            root.svid_with(ID, |params| (params.not_before, params.not_after) = (at(120), at(600))),
            false,
        ),
        ("X5-012", over.svid(ID).above(&over.der), false),
        ("X5-013", Authority::new("td1").svid(ID), false),
        ("X5-014", other.svid(ID), false),
        ("X5-015 no CA", no_ca.svid(ID).above(&no_ca.der), false),
        ("X5-015 no keyCertSign", no_sign.svid(ID).above(&no_sign.der), false),
        ("X5-016", deeper.svid(ID).above(&deeper.der).above(&intermediate.der), false),
        (
            "X5-017",
            constrained.svid_with(ID, |params| params.subject_alt_names.push(dns("evil.test"))).above(&constrained.der),
            false,
        ),
        ("X5-019", critical, false),
        ("X5-020", twice, false),
        ("X5-021 many", many, false),
        ("X5-021 in circles", cycle(3), false),
        ("X5-021 in more circles than are read", cycle(50), false),
        (
            "X5-025",
            root.svid_with(ID, |params| {
                params.subject_alt_names.clear();
                params.distinguished_name.push(DnType::CommonName, "spiffe://td1.test/admin");
            }),
            false,
        ),
        ("X5-030", not_der, false),
        ("a trust domain's own ID", root.svid("spiffe://td1.test"), false),
        ("upper case", root.svid("spiffe://TD1.test/a"), false),
    ]
}
