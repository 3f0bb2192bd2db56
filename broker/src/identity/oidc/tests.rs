use std::collections::BTreeMap;

use hallpass_core::identity::VerifiedIdentity;
use hallpass_core::port::ProofReader;
use serde::Deserialize;
use serde_json::Value;

use super::*;
use crate::config::issuer::KeySource;
use crate::identity::jose::JwsReader;
use crate::identity::testing::{accept, clock, received, settings, verifier};

/// Cases of a shared catalogue, as tokens of a second implementation.
#[derive(Deserialize)]
struct Fixtures {
    key_sets: BTreeMap<String, Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    title: String,
    issuer: String,
    expect: String,
    token: String,
}

fn fixtures() -> Fixtures {
    serde_json::from_str(include_str!("../fixtures/proofs.json")).unwrap()
}

/// One broker per issuer profile of the fixtures: it finds the verifier by the unverified issuer, as core does.
struct Broker(BTreeMap<String, OidcVerifier>);

impl Broker {
    fn new(fixtures: &Fixtures) -> Self {
        let algorithms = |profile: &str| match profile {
            "rs-only" => vec![JwsAlgorithm::RS256],
            "eddsa" => vec![JwsAlgorithm::EdDSA],
            _ => vec![JwsAlgorithm::ES256, JwsAlgorithm::RS256],
        };
        Self(
            fixtures
                .key_sets
                .iter()
                .map(|(profile, keys)| {
                    let mut settings = settings(KeySource::Inline(keys.to_string()));
                    settings.algorithms = algorithms(profile);
                    (profile.clone(), verifier(settings, &clock()))
                })
                .collect(),
        )
    }

    async fn authenticate(&self, profile: &str, token: &str) -> Result<VerifiedIdentity, Refusal> {
        let verifier = &self.0[profile];
        let unverified = JwsReader.unverified_issuer(&received(token))?;
        if !verifier.accepts(&unverified) {
            return Err(Refusal::proof(Reason::UnknownIssuer, "no such issuer"));
        }
        accept(verifier, token).await
    }
}

/// What this broker answers where the catalogue leaves it open, or speaks of a later step than authentication.
fn expected(case: &Case) -> &str {
    match (case.id.as_str(), case.expect.as_str()) {
        // The fully-specified name of RFC 9864 is not on the issuer's list.
        ("ALG-014", _) => "alg_not_allowed",
        // Deeper than the documented limit.
        ("ENC-014", _) => "malformed_claims",
        // Leeway forgives a clock, but this proof also says that it expired before it was issued.
        ("TIME-016", _) => "malformed_claims",
        // Issued in the future and expired before that: both are said of it.
        ("TIME-012", _) => "not_yet_valid|malformed_claims",
        // Lower-case media types are the same; `azp` is ignored; the twin of a signature is the same proof, whose id
        // can be used once.
        ("TYP-004" | "TYP-008" | "SIG-006", _) => "accept",
        // Refused later, by policy or by the store.
        (_, "deny" | "replayed") => "accept",
        (_, reason) => reason,
    }
}

#[tokio::test]
async fn every_catalogued_proof_is_accepted_or_refused_for_the_catalogued_reason() {
    let fixtures = fixtures();
    let broker = Broker::new(&fixtures);
    let (controls, others): (Vec<_>, Vec<_>) = fixtures.cases.iter().partition(|case| case.id.starts_with("CTL-"));
    assert!(controls.len() >= 7 && others.len() >= 80);
    let mut wrong = Vec::new();
    for case in controls.into_iter().chain(others) {
        let outcome = broker.authenticate(&case.issuer, &case.token).await;
        let got = outcome.map_or_else(|refusal| refusal.reason.as_str(), |_| "accept");
        if !expected(case).split('|').any(|expected| expected == got) {
            wrong.push(format!("{} {}: expected {}, got {got}", case.id, case.title, expected(case)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
