//! Envelopes, bundles and the statements in them: never panics, what is kept of a statement is bounded, and nothing but what
//! was published verifies.
#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallpass_broker::config::attestor::{Attestor, AttestorKind, CertifiedSigner, Certifier, KnownBy, SignerName};
use hallpass_broker::identity::attestation::{Attestors, Envelope, read};
use hallpass_broker::sigstore::Root;
use hallpass_core::attestation::{AccountsOf, MAX_TOLD, Said};
use hallpass_core::id::AttestorName;
use hallpass_core::port::AttestationVerifier as _;
use hallpass_core::time::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::from_secs(1_782_000_000);
const PUBLISHED: &str = include_str!("../../../broker/src/identity/fixtures/sigstore/github-actions.json");
const ROOT: &str = include_str!("../../../broker/src/identity/fixtures/sigstore/public-good-root.json");
const STAMPED: &str = include_str!("../../../broker/src/identity/fixtures/sigstore/github-timestamped.json");
const STAMPED_ROOT: &str = include_str!("../../../broker/src/identity/fixtures/sigstore/github-root.json");

/// Parts of a bundle that are bytes in base64, which no fuzzer finds by itself. The first byte of an input chooses one, and
/// the rest takes its place.
const PARTS: &[(usize, &str)] = &[
    (0, "/verificationMaterial/certificate/rawBytes"),
    (0, "/verificationMaterial/tlogEntries/0/canonicalizedBody"),
    (0, "/verificationMaterial/tlogEntries/0/inclusionPromise/signedEntryTimestamp"),
    (0, "/verificationMaterial/tlogEntries/0/inclusionProof/hashes/0"),
    (0, "/dsseEnvelope/payload"),
    (0, "/dsseEnvelope/signatures/0/sig"),
    (1, "/verificationMaterial/certificate/rawBytes"),
    (1, "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp"),
];

static ATTESTORS: LazyLock<Attestors> = LazyLock::new(|| {
    let attestor = |name: &str, identity: &str, root: &str, repository_id: &str| Attestor {
        name: AttestorName::new(name).expect("a name"),
        kind: AttestorKind::SlsaProvenance,
        known_by: KnownBy::Certificates(Box::new(CertifiedSigner {
            name: SignerName::Uri(identity.to_owned()),
            certifier: Certifier::Sigstore {
                root: Root::parse(root).expect("a root"),
                oidc_issuer: "https://token.actions.githubusercontent.com".to_owned(),
                repository_id: Some(repository_id.to_owned()),
            },
            files: Vec::new(),
        })),
        builders: vec!["https://github.com/actions/runner/github-hosted".to_owned()],
        accounts_of: AccountsOf::new(),
        max_age: None,
    };
    Attestors::new(vec![
        attestor(
            "public",
            "https://github.com/github/artifact-attestations-workflows/.github/workflows/attest.yml@09b495c3f12c7881b3cc17209a327792065c1a1d",
            ROOT,
            "804070735",
        ),
        attestor(
            "stamped",
            "https://github.com/actions/attest-demo/.github/workflows/build-python.yml@refs/heads/main",
            STAMPED_ROOT,
            "763287532",
        ),
    ])
});

/// Both bundles, and the payloads of theirs, which are all that verifies.
static BUNDLES: LazyLock<[Value; 2]> =
    LazyLock::new(|| [PUBLISHED, STAMPED].map(|text| serde_json::from_str(text).expect("a bundle")));

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(envelope) = Envelope::read(text) {
            statement(envelope.payload());
        }
        verify(text.to_owned());
    }
    statement(data);
    let Some((chosen, rest)) = data.split_first() else { return };
    let Some((which, part)) = PARTS.get(usize::from(*chosen) % PARTS.len()) else { return };
    let mut bundle = BUNDLES[*which].clone();
    if let Some(place) = bundle.pointer_mut(part) {
        *place = json!(STANDARD.encode(rest));
        verify(bundle.to_string());
    }
});

/// Whatever verifies says what was published.
fn verify(text: String) {
    let Ok(verified) = ATTESTORS.verify(&[text], NOW) else { return };
    let published = BUNDLES.iter().map(|bundle| Envelope::read(&bundle.to_string()).expect("an envelope").digest());
    assert!(published.into_iter().any(|digest| verified.iter().all(|one| one.statement.digest == digest)));
}

fn statement(payload: &[u8]) {
    let Ok(read) = read(payload) else { return };
    let kept = match read.said {
        Said::SlsaProvenance { subjects, .. } => subjects.len(),
        Said::Review(told) | Said::Plan(told) => told.approvers.len(),
    };
    assert!(kept <= MAX_TOLD, "kept {kept} of one statement");
}
