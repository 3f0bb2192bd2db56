//! Bundles that others made (see `fixtures/sigstore`), accepted as they are and refused with anything changed.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallpass_core::attestation::{AccountsOf, Said, Statement};
use hallpass_core::id::AttestorName;
use hallpass_core::port::AttestationVerifier as _;
use hallpass_core::time::{Timestamp, Ttl};
use serde_json::{Value, json};

use super::super::Attestors;
use crate::config::attestor::{Attestor, AttestorKind, CertifiedSigner, Certifier, KnownBy, SignerName};
use crate::sigstore::Root;

const ACTIONS: &str = "https://token.actions.githubusercontent.com";
const SHARED_WORKFLOW: &str = "https://github.com/github/artifact-attestations-workflows/.github/workflows/attest.yml@09b495c3f12c7881b3cc17209a327792065c1a1d";
const BEACON: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
const BEACON_ID: &str = "632596897";
const HOSTED: &str = "https://github.com/actions/runner/github-hosted";

/// Later than all of them.
const NOW: Timestamp = Timestamp::from_secs(1_782_000_000);

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/identity/fixtures/sigstore").join(name);
    std::fs::read_to_string(path).unwrap()
}

fn read(name: &str) -> Value {
    serde_json::from_str(&fixture(name)).unwrap()
}

/// One attestor of builds; of those of the shared workflow, where nothing is changed.
struct Trusted {
    root: String,
    identity: &'static str,
    oidc_issuer: &'static str,
    repository_id: Option<&'static str>,
    builder: &'static str,
    max_age: Option<Ttl>,
}

impl Default for Trusted {
    fn default() -> Self {
        Self {
            root: fixture("public-good-root.json"),
            identity: SHARED_WORKFLOW,
            oidc_issuer: ACTIONS,
            repository_id: Some("804070735"),
            builder: HOSTED,
            max_age: None,
        }
    }
}

impl Trusted {
    fn attestors(&self) -> Attestors {
        let certifier = Certifier::Sigstore {
            root: Root::parse(&self.root).unwrap(),
            oidc_issuer: self.oidc_issuer.to_owned(),
            repository_id: self.repository_id.map(str::to_owned),
        };
        let name = SignerName::Uri(self.identity.to_owned());
        let signer = CertifiedSigner { name, certifier, files: Vec::new() };
        Attestors::new(vec![Attestor {
            name: AttestorName::new("builds").unwrap(),
            kind: AttestorKind::SlsaProvenance,
            known_by: KnownBy::Certificates(Box::new(signer)),
            builders: vec![self.builder.to_owned()],
            accounts_of: AccountsOf::new(),
            max_age: self.max_age,
        }])
    }

    fn verify(&self, bundle: &Value) -> Result<Statement, String> {
        let verified = self.attestors().verify(&[bundle.to_string()], NOW);
        verified.map(|vouched| vouched.into_iter().next().unwrap().statement).map_err(|refusal| refusal.detail)
    }

    #[track_caller]
    fn assert_refused(&self, bundle: &Value, said: &str) {
        let detail = self.verify(bundle).unwrap_err();
        assert!(detail.contains(said), "{said}: {detail}");
    }
}

fn changed(bundle: &Value, at: &str, to: Value) -> Value {
    let mut changed = bundle.clone();
    *changed.pointer_mut(at).unwrap_or_else(|| panic!("nothing at {at}")) = to;
    changed
}

fn without(bundle: &Value, at: &str, member: &str) -> Value {
    let mut changed = bundle.clone();
    changed.pointer_mut(at).unwrap().as_object_mut().unwrap().remove(member).unwrap();
    changed
}

#[test]
fn provenance_that_github_actions_made_is_what_its_workflow_in_that_repository_says() {
    let bundle = read("github-actions.json");
    let statement = Trusted::default().verify(&bundle).unwrap();
    // As of when the log took it in: it says nothing of that itself.
    assert_eq!(statement.at, Some(Timestamp::from_secs(1_716_578_064)));
    let expected = Said::SlsaProvenance {
        builder: HOSTED.to_owned(),
        repository: Some("https://github.com/malancas/attest-demo".to_owned()),
        commit: Some("95baf27389e83e6a5c48f42e190d48d7abcea19e".to_owned()),
        subjects: ["sha256:49a3aa6075e0f49f82843e74b5baa614ad2a588e6675612bf108a0a008c5ac25".to_owned()].into(),
    };
    assert_eq!(statement.said, expected);

    let trusted = Trusted::default;
    let nobody = "no attestor that is trusted here signed it";
    let another =
        "https://github.com/github/artifact-attestations-workflows/.github/workflows/attest.yml@refs/heads/main";
    Trusted { identity: another, ..trusted() }.assert_refused(&bundle, nobody);
    let other_issuer = Trusted { oidc_issuer: "https://gitlab.com", ..trusted() };
    other_issuer.assert_refused(&bundle, "does not name the `oidc_issuer`");
    // Everybody may call that workflow, from any repository.
    Trusted { repository_id: Some("1"), ..trusted() }.assert_refused(&bundle, "a run in another repository");
    Trusted { repository_id: None, ..trusted() }.assert_refused(&bundle, "say in which one (`repository_id`)");
    Trusted { builder: "https://other.test", ..trusted() }.assert_refused(&bundle, "may not speak for the builder");
    // It is two years old, whatever it says itself.
    Trusted { max_age: Some(Ttl::from_hours(1)), ..trusted() }.assert_refused(&bundle, "counts for 1h");
}

#[test]
fn what_only_a_timestamp_vouches_for_is_taken_where_the_root_has_no_log() {
    let bundle = read("github-timestamped.json");
    let trusted = || Trusted {
        root: fixture("github-root.json"),
        identity: "https://github.com/actions/attest-demo/.github/workflows/build-python.yml@refs/heads/main",
        repository_id: Some("763287532"),
        ..Trusted::default()
    };
    let statement = trusted().verify(&bundle).unwrap();
    // Between its certificate's beginning and its end, ten minutes later.
    let at = statement.at.unwrap();
    assert!((1_713_807_206..=1_713_807_806).contains(&at.as_secs()), "{at:?}");
    // The public instance has a log, and asks for it.
    let public = Trusted { root: fixture("public-good-root.json"), ..trusted() };
    assert!(public.verify(&bundle).is_err());
    let none = changed(&bundle, "/verificationMaterial/timestampVerificationData/rfc3161Timestamps", json!([]));
    trusted().assert_refused(&none, "its bundle lacks");
    // The timestamp of another signature.
    let stamp = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp";
    let foreign = read("conformance/rekor2-dsse-happy-path.json").pointer(stamp).unwrap().clone();
    trusted().assert_refused(&changed(&bundle, stamp, foreign), "a timestamp of it does not verify");
}

#[test]
fn a_bundle_of_the_log_with_anything_changed_is_refused() {
    let bundle = read("github-actions.json");
    let other = read("conformance/happy-path-intoto-in-dsse-v3.json");
    let entry = "/verificationMaterial/tlogEntries/0";
    let of = |bundle: &Value, at: &str| bundle.pointer(at).unwrap().clone();
    let time = format!("{entry}/integratedTime");
    let body = format!("{entry}/canonicalizedBody");
    let proof = format!("{entry}/inclusionProof/hashes/0");
    let checkpoint = format!("{entry}/inclusionProof/checkpoint/envelope");
    let promise = format!("{entry}/inclusionPromise/signedEntryTimestamp");
    let statement = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    let altered = String::from_utf8(statement).unwrap().replace("malancas", "mallory");
    let trusted = Trusted::default();
    trusted.verify(&bundle).unwrap();
    for (changed, said) in [
        (changed(&bundle, "/dsseEnvelope/payload", json!(STANDARD.encode(altered))), "did not sign it as it stands"),
        (changed(&bundle, "/dsseEnvelope", other["dsseEnvelope"].clone()), "did not sign it as it stands"),
        (changed(&bundle, "/dsseEnvelope/signatures", other["dsseEnvelope"]["signatures"].clone()), "did not sign it"),
        // An entry of another signature, which is as good for that one.
        (
            changed(&bundle, entry, of(&other, entry)),
            "is not of an authority of the trusted root, valid when it signed",
        ),
        (changed(&bundle, &time, json!("1716578065")), "does not verify by the trusted root"),
        (changed(&bundle, &time, json!("1716578063")), "does not verify by the trusted root"),
        (changed(&bundle, &body, of(&other, &body)), "does not verify by the trusted root"),
        (changed(&bundle, &proof, of(&other, &proof)), "does not verify by the trusted root"),
        (changed(&bundle, &checkpoint, of(&other, &checkpoint)), "its bundle lacks"),
        (changed(&bundle, &promise, of(&other, &promise)), "does not verify by the trusted root"),
        (without(&bundle, entry, "inclusionPromise"), "nothing that the trusted root has vouches for when"),
        (without(&bundle, entry, "inclusionProof"), "without `inclusionProof`"),
        (changed(&bundle, "/verificationMaterial/tlogEntries", json!([])), "its bundle lacks"),
        (changed(&bundle, "/verificationMaterial/tlogEntries", json!(vec![json!({}); 5])), "more than 4"),
        (
            changed(&bundle, "/mediaType", json!("application/vnd.dev.sigstore.bundle.v9+json")),
            "no bundle that Sigstore",
        ),
        (
            changed(&bundle, "/verificationMaterial/certificate", of(&other, "/verificationMaterial/certificate")),
            "no attestor that is trusted here",
        ),
        (changed(&bundle, "/verificationMaterial/certificate/rawBytes", json!("!")), "no `rawBytes` in base64"),
        (changed(&bundle, "/verificationMaterial/certificate/rawBytes", json!("AAAA")), "no attestor that is trusted"),
        (without(&bundle, "/verificationMaterial", "certificate"), "no attestor that is trusted here"),
    ] {
        trusted.assert_refused(&changed, said);
        assert!(!trusted.verify(&changed).unwrap_err().contains("malancas"), "nothing of it is told");
    }
}

/// The version stands outside of everything that is signed.
#[test]
fn a_bundle_that_calls_itself_older_needs_its_proof_of_the_log_as_well() {
    let bundle = read("github-actions.json");
    let older = changed(&bundle, "/mediaType", json!("application/vnd.dev.sigstore.bundle+json;version=0.1"));
    let trusted = Trusted::default();
    trusted.verify(&older).unwrap();
    let entry = "/verificationMaterial/tlogEntries/0";
    trusted.assert_refused(&without(&older, entry, "inclusionProof"), "without `inclusionProof`");
    // The suite's own case, as it is and as an older one.
    let root = fixture("conformance/intoto-root.json");
    let trusted = Trusted { root, identity: BEACON, repository_id: None, ..trusted };
    let mut missing = read("conformance/intoto-missing-inclusion-proof_fail.json");
    trusted.assert_refused(&missing, "without `inclusionProof`");
    missing["mediaType"] = older["mediaType"].clone();
    trusted.assert_refused(&missing, "without `inclusionProof`");
}

#[test]
fn a_root_with_other_authorities_or_logs_trusts_none_of_it() {
    let bundle = read("github-actions.json");
    let root = read("public-good-root.json");
    let foreign = read("conformance/intoto-root.json");
    let with = |root: &Value| Trusted { root: root.to_string(), ..Trusted::default() };
    with(&root).verify(&bundle).unwrap();
    let authority = "is not of an authority of the trusted root";
    with(&changed(&root, "/certificateAuthorities", foreign["certificateAuthorities"].clone()))
        .assert_refused(&bundle, authority);
    with(&changed(&root, "/tlogs", foreign["tlogs"].clone()))
        .assert_refused(&bundle, "does not verify by the trusted root");
    // The log of that name, with another key.
    let key = "/tlogs/0/publicKey/rawBytes";
    with(&changed(&root, key, foreign.pointer(key).unwrap().clone())).assert_refused(&bundle, "does not verify by");
    with(&changed(&root, "/ctlogs", foreign["ctlogs"].clone())).assert_refused(&bundle, "no log of certificates");
    // An authority and a log that had ended by then.
    let ended = json!({"start": "2022-04-13T20:06:15Z", "end": "2023-01-01T00:00:00Z"});
    with(&changed(&root, "/certificateAuthorities/1/validFor", ended.clone())).assert_refused(&bundle, authority);
    with(&changed(&root, "/tlogs/0/publicKey/validFor", ended)).assert_refused(&bundle, "does not verify by");
}

#[test]
fn a_root_that_can_verify_nothing_is_refused() {
    let root = read("public-good-root.json");
    Root::parse(&root.to_string()).unwrap();
    for (root, said) in [
        ("{}".to_owned(), "is no trusted root"),
        (String::new(), "is no trusted root"),
        (changed(&root, "/certificateAuthorities", json!([])).to_string(), "no certificate authority"),
        (
            changed(&changed(&root, "/tlogs", json!([])), "/timestampAuthorities", json!([])).to_string(),
            "neither a transparency log nor",
        ),
        (changed(&root, "/tlogs/0/publicKey/rawBytes", json!("AAAA")).to_string(), "cannot be used"),
        (
            changed(&root, "/certificateAuthorities/0/certChain/certificates/0/rawBytes", json!("AAAA")).to_string(),
            "cannot be used",
        ),
    ] {
        let reason = Root::parse(&root).unwrap_err();
        assert!(reason.contains(said), "{said}: {reason}");
    }
}

/// What Sigstore's own suite says of bundles with statements, the same here.
#[test]
fn the_conformance_suite_and_we_agree() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/identity/fixtures/sigstore/conformance");
    let (mut accepted, mut refused) = (0, 0);
    for file in std::fs::read_dir(folder).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let Some(case) = name.strip_suffix(".json").filter(|case| !["intoto-root", "rekor2-root"].contains(case))
        else {
            continue;
        };
        let (root, repository_id) = match case.split('-').next().unwrap() {
            "intoto" => ("conformance/intoto-root.json", None),
            "rekor2" => ("conformance/rekor2-root.json", Some(BEACON_ID)),
            _ => ("public-good-root.json", Some(BEACON_ID)),
        };
        let mut trusted = Trusted { root: fixture(root), identity: BEACON, repository_id, ..Trusted::default() };
        let bundle = read(&format!("conformance/{name}"));
        let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
        let statement: Value = serde_json::from_slice(&payload).unwrap();
        let builder = statement["predicate"]["runDetails"]["builder"]["id"].as_str().unwrap().to_owned();
        trusted.builder = builder.leak();
        let verified = trusted.verify(&bundle);
        if case.ends_with("_fail") {
            let detail = verified.expect_err(case);
            assert!(!detail.contains("no attestor that is trusted"), "{case} is refused for its name: {detail}");
            refused += 1;
        } else if let Err(detail) = verified {
            // Its statement was made up: it is of another repository than its certificate. The signature is good.
            assert_eq!(case, "happy-path-intoto-in-dsse-v3", "{detail}");
            assert!(detail.contains("and its certificate is of a run of"), "{detail}");
        } else {
            accepted += 1;
        }
    }
    assert_eq!((accepted, refused), (2, 11));
}
