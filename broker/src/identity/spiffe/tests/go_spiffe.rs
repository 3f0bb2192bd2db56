//! go-spiffe's own examples, with its verdicts (`tests/cases/go_spiffe.json`, made by `tests/spiffe/go`): SPIFFE IDs, trust
//! bundles, and SVIDs that its libraries signed. Where the broker says otherwise stands in
//! `tests/cases/spiffe_differences.json`, each with its reason, and nowhere else.

mod live;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::*;
use crate::identity::jwks::KeySet;

/// What is judged. Which members it has depends on its kind.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Candidate {
    kind: String,
    text: String,
    domain: String,
    bundle: String,
    audience: Vec<String>,
    chain: Vec<String>,
    at: i64,
}

/// What is said of it, and what was read where it was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
struct Verdict {
    accepted: bool,
    read_domain: Option<String>,
    path: Option<String>,
    id: Option<String>,
    x509: usize,
    jwt: BTreeSet<String>,
    sequence: Option<u64>,
    hint: Option<u64>,
}

impl Verdict {
    /// What is refused gives nothing.
    fn of(accepted: Option<Self>) -> Self {
        accepted.map(|verdict| Self { accepted: true, ..verdict }).unwrap_or_default()
    }
}

#[derive(Debug, Deserialize)]
struct Example {
    from: String,
    #[serde(flatten)]
    candidate: Candidate,
    #[serde(flatten)]
    verdict: Verdict,
}

#[derive(Debug, Deserialize)]
struct Examples {
    /// When the tokens were made.
    at: i64,
    examples: Vec<Example>,
}

/// A deviation that is meant.
#[derive(Debug, Deserialize)]
struct Difference {
    kind: String,
    text: Option<String>,
    from: Option<String>,
    ours: Verdict,
    why: String,
}

impl Difference {
    fn is_of(&self, example: &Example) -> bool {
        self.kind == example.candidate.kind
            && self.text.as_ref().is_none_or(|text| *text == example.candidate.text)
            && self.from.as_ref().is_none_or(|from| *from == example.from)
    }
}

fn cases<T: DeserializeOwned>(name: &str) -> T {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/cases").join(name);
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// What the broker says of a candidate at this time.
async fn ours(candidate: &Candidate, now: Timestamp) -> Verdict {
    let text = &candidate.text;
    let names = |set: &KeySet| set.keys().filter_map(|key| key.key_id().map(str::to_owned)).collect();
    let of_set = |set: KeySet| Verdict {
        x509: set.authorities().len(),
        jwt: names(&set),
        sequence: set.sequence(),
        hint: set.refresh_hint().map(Ttl::as_secs),
        ..Verdict::default()
    };
    let verdict = match candidate.kind.as_str() {
        "id" => SpiffeId::parse(text).ok().map(|id| Verdict {
            read_domain: Some(id.trust_domain().to_string()),
            path: Some(id.path().to_owned()).filter(|path| !path.is_empty()),
            ..Verdict::default()
        }),
        "trust_domain" => TrustDomain::new(text.clone())
            .ok()
            .map(|domain| Verdict { read_domain: Some(domain.to_string()), ..Verdict::default() }),
        "bundle" => KeySet::parse_bundle(text.as_bytes()).ok().map(of_set),
        "jwt_bundle" => KeySet::of_workload_api(&[], text.as_bytes()).ok().map(of_set),
        "x509_bundle" => KeySet::of_workload_api(&STANDARD.decode(text).unwrap(), &[]).ok().map(of_set),
        "jwt_svid" => judged_by(candidate, &received(text), now).await,
        "x509_svid" => {
            let chain: Vec<_> = candidate.chain.iter().map(|der| STANDARD.decode(der).unwrap()).collect();
            let chain: Vec<_> = chain.iter().map(Vec::as_slice).collect();
            judged_by(candidate, &shown(&chain), Timestamp::from_secs(candidate.at)).await
        }
        other => panic!("no such kind: {other:?}"),
    };
    Verdict::of(verdict)
}

async fn judged_by(candidate: &Candidate, proof: &Proof, now: Timestamp) -> Option<Verdict> {
    let mut settings = settings(&candidate.domain, BundleSource::Inline(candidate.bundle.clone()));
    settings.algorithms = vec![JwsAlgorithm::ES256, JwsAlgorithm::ES384, JwsAlgorithm::RS256];
    // go-spiffe takes any audience where none is asked for; the broker always asks for its own.
    settings.rules.audiences = candidate.audience.clone();
    if settings.rules.audiences.is_empty() {
        settings.rules.audiences = vec!["audience".to_owned()];
    }
    let clock = Arc::new(MockClock::starting_at(now));
    let identity = judged(&verifier_of(settings, &clock), proof, now).await.ok()?;
    Some(Verdict { id: Some(identity.subject().to_owned()), ..Verdict::default() })
}

#[tokio::test]
async fn what_go_spiffe_accepts_and_refuses_is_accepted_and_refused_or_its_reason_is_written_down() {
    let Examples { at, examples } = cases("go_spiffe.json");
    let differences: Vec<Difference> = cases("spiffe_differences.json");
    let mut met = BTreeSet::new();
    let mut deviations = Vec::new();
    let (mut accepted, mut refused) = (0, 0);
    for example in &examples {
        let ours = ours(&example.candidate, Timestamp::from_secs(at)).await;
        if example.verdict.accepted {
            accepted += 1
        } else {
            refused += 1
        }
        let meant = differences.iter().position(|difference| difference.is_of(example));
        let expected = meant.map_or(&example.verdict, |at| &differences[at].ours);
        if let Some(at) = meant {
            assert_ne!(*expected, example.verdict, "{}: that is no difference", differences[at].why);
            met.insert(at);
        }
        if ours != *expected {
            let (from, text) = (&example.from, &example.candidate.text);
            deviations.push(format!("{from}: {text:?}: {ours:?} in place of {expected:?}"));
        }
    }
    println!(
        "{} examples of go-spiffe: {accepted} that it accepts, {refused} that it refuses; {} agree, {} differ for a reason",
        examples.len(),
        examples.len() - met.len() - deviations.len(),
        met.len()
    );
    for difference in &differences {
        println!(
            "differs: {} {}: {}",
            difference.kind,
            difference.from.as_ref().or(difference.text.as_ref()).unwrap(),
            difference.why
        );
    }
    assert!(deviations.is_empty(), "{} deviate:\n  {}", deviations.len(), deviations.join("\n  "));
    assert_eq!(met.len(), differences.len(), "a difference that no example shows");
    assert!(accepted > 150 && refused > 600, "{accepted} and {refused}");
}
