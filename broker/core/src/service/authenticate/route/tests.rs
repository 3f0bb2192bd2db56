use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::catalog::Catalog;
use crate::spiffe::{SpiffeId, TrustDomain};
use crate::testing::{ScriptedPolicy, received, sample};

/// An issuer that says what it is told to say, and remembers being asked.
struct Told {
    name: IssuerName,
    issuer: Option<&'static str>,
    trust_domain: Option<TrustDomain>,
    holds: bool,
    verdict: Result<(), Reason>,
    after_signature: bool,
    asked: Mutex<usize>,
}

impl Told {
    fn of(name: &str, issuer: &'static str, holds: bool, verdict: Result<(), Reason>) -> Arc<Self> {
        let (name, issuer) = (IssuerName::new(name).unwrap(), Some(issuer));
        let (trust_domain, asked, after_signature) = (None, Mutex::default(), false);
        Arc::new(Self { name, issuer, trust_domain, holds, verdict, after_signature, asked })
    }

    fn of_trust_domain(name: &str, trust_domain: &str) -> Arc<Self> {
        let told = Arc::into_inner(Self::of(name, "", true, Ok(()))).unwrap();
        Arc::new(Self { issuer: None, trust_domain: Some(TrustDomain::new(trust_domain).unwrap()), ..told })
    }

    fn after_signature(self: Arc<Self>) -> Arc<Self> {
        Arc::new(Self { after_signature: true, ..Arc::into_inner(self).unwrap() })
    }

    fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

#[async_trait]
impl IdentityVerifier for Told {
    fn issuer(&self) -> &IssuerName {
        &self.name
    }

    fn accepts(&self, unverified_issuer: &str) -> bool {
        self.issuer == Some(unverified_issuer)
    }

    fn trust_domain(&self) -> Option<&TrustDomain> {
        self.trust_domain.as_ref()
    }

    fn holds_key_of(&self, _: &Proof) -> bool {
        self.holds
    }

    async fn verify(&self, _: &Proof, _: Timestamp) -> Result<VerifiedProof, Refusal> {
        *self.asked.lock().unwrap() += 1;
        let refusal = |reason| {
            let refusal = Refusal::proof(reason, "as told");
            if self.after_signature { refusal.after_signature() } else { refusal }
        };
        self.verdict.map_err(refusal)?;
        Ok(VerifiedProof { issuer: self.name.clone(), ..sample::proof("repo:acme/app", "jti") })
    }
}

fn revision(verifiers: Vec<Arc<Told>>) -> Revision {
    Revision {
        id: sample::revision('a'),
        catalog: Catalog::default(),
        policy: Arc::new(ScriptedPolicy::new('a')),
        verifiers: verifiers.into_iter().map(|told| told as Candidate).collect(),
        attestors: Arc::new(crate::port::NoAttestors),
        backends: std::collections::BTreeMap::new(),
    }
}

/// A token's source by what is written in it.
fn written(issuer: Option<&str>, subject: &str) -> UnverifiedSource {
    let id = SpiffeId::parse(subject).map_err(|rule| Refusal::proof(Reason::BadSpiffeId, rule.to_string()));
    UnverifiedSource {
        unverified_issuer: issuer.map(str::to_owned),
        unverified_trust_domain: id.map(|id| id.trust_domain().clone()),
    }
}

fn routed(revision: &Revision, issuer: Option<&str>, subject: &str, purpose: Use) -> Result<Vec<String>, Reason> {
    let found = candidates(revision, &received("token"), written(issuer, subject), purpose);
    found.map(|found| found.iter().map(|one| one.issuer().to_string()).collect()).map_err(|refusal| refusal.reason)
}

const GITHUB: &str = "https://token.actions.test";
const SVID: &str = "spiffe://td1.test/ns/prod/sa/deployer";

#[test]
fn whoever_owns_the_iss_is_asked_and_the_trust_domain_only_where_nobody_does() {
    let all = revision(vec![
        Told::of("github", GITHUB, true, Ok(())),
        Told::of_trust_domain("one", "td1.test"),
        Told::of_trust_domain("two", "td2.test"),
        Told::of(IssuerName::RESERVED, "https://broker.test", true, Ok(())),
    ]);
    let to = |issuer, subject| routed(&all, issuer, subject, Use::Mint);
    assert_eq!(to(Some(GITHUB), "repo:acme/app"), Ok(vec!["github".to_owned()]));
    // An SVID is its trust domain's, whatever else nobody's `iss` it has …
    assert_eq!(to(None, SVID), Ok(vec!["one".to_owned()]));
    assert_eq!(to(Some("https://oidc.td1.test"), SVID), Ok(vec!["one".to_owned()]));
    // … and with the `iss` of another issuer that issuer's alone, in both directions.
    assert_eq!(to(Some(GITHUB), SVID), Ok(vec!["github".to_owned()]));
    assert_eq!(to(Some("https://token.actions.test/"), "repo:acme/app"), Err(Reason::UnknownIssuer));
    // The broker's own tokens do not become another's because they may not mint.
    assert_eq!(to(Some("https://broker.test"), SVID), Err(Reason::UnknownIssuer));
    assert_eq!(routed(&all, Some("https://broker.test"), SVID, Use::Manage), Ok(vec![IssuerName::RESERVED.to_owned()]));
    assert_eq!(to(None, "spiffe://td9.test/x"), Err(Reason::UnknownIssuer));
    assert_eq!(to(None, "spiffe://TD1.test/x"), Err(Reason::BadSpiffeId));
    assert_eq!(to(None, "repo:acme/app"), Err(Reason::BadSpiffeId));
    assert_eq!(to(Some("https://evil.test"), "repo:acme/app"), Err(Reason::UnknownIssuer));
}

#[test]
fn without_a_trust_domain_a_token_needs_an_iss() {
    let all = revision(vec![Told::of("github", GITHUB, true, Ok(()))]);
    assert_eq!(routed(&all, None, "repo:acme/app", Use::Mint), Err(Reason::MissingClaim));
    assert_eq!(routed(&all, None, SVID, Use::Mint), Err(Reason::UnknownIssuer));
}

/// Which of several clusters with one `iss` verified, and how often each was asked.
async fn judged(clusters: &[Arc<Told>]) -> Result<String, Reason> {
    let all: Vec<Candidate> = clusters.iter().map(|told| Arc::clone(told) as Candidate).collect();
    let all: Vec<&Candidate> = all.iter().collect();
    let verdict = verify(&all, &received("token"), sample::NOW).await;
    verdict.map(|proof| proof.issuer.to_string()).map_err(|refusal| refusal.reason)
}

fn cluster(name: &str, holds: bool, verdict: Result<(), Reason>) -> Arc<Told> {
    Told::of(name, "https://kubernetes.default.svc", holds, verdict)
}

#[tokio::test]
async fn the_key_tells_issuers_with_one_iss_apart_and_nobody_waits_for_the_others() {
    let (a, b) = (cluster("a", false, Err(Reason::JwksUnavailable)), cluster("b", true, Ok(())));
    assert_eq!(judged(&[Arc::clone(&a), Arc::clone(&b)]).await, Ok("b".to_owned()));
    assert_eq!((a.asked(), b.asked()), (0, 1), "the one that cannot be reached is left alone");

    // A key that nobody holds yet: all are asked, and one that is away refuses nothing.
    let (a, b) = (cluster("a", false, Err(Reason::JwksUnavailable)), cluster("b", false, Ok(())));
    assert_eq!(judged(&[Arc::clone(&a), Arc::clone(&b)]).await, Ok("b".to_owned()));
    assert_eq!((a.asked(), b.asked()), (1, 1));

    // A key id that two use for keys of their own: the one whose key it is not is not asked twice.
    let (a, b) = (cluster("a", true, Err(Reason::BadSignature)), cluster("b", false, Ok(())));
    assert_eq!(judged(&[Arc::clone(&a), Arc::clone(&b)]).await, Ok("b".to_owned()));
    assert_eq!((a.asked(), b.asked()), (1, 1));
}

#[tokio::test]
async fn nobody_is_believed_for_want_of_somebody_else() {
    let unknown = || cluster("a", false, Err(Reason::UnknownKid));
    assert_eq!(judged(&[unknown(), cluster("b", true, Err(Reason::BadSignature))]).await, Err(Reason::BadSignature));
    assert_eq!(judged(&[unknown(), cluster("b", false, Err(Reason::UnknownKid))]).await, Err(Reason::UnknownKid));
    // Whether the one that is away has the key is not known: that is no acceptance, and no last word.
    let away = cluster("b", false, Err(Reason::JwksUnavailable));
    assert_eq!(judged(&[unknown(), away]).await, Err(Reason::JwksUnavailable));
}

#[tokio::test]
async fn what_one_has_signed_and_refuses_is_not_tried_elsewhere() {
    let strict = cluster("a", true, Err(Reason::ClaimConflict)).after_signature();
    let lax = cluster("b", false, Ok(()));
    assert_eq!(judged(&[strict, Arc::clone(&lax)]).await, Err(Reason::ClaimConflict));
    assert_eq!(lax.asked(), 0);
}

#[tokio::test]
async fn what_two_have_signed_is_nobodys() {
    let (a, b) = (cluster("a", true, Ok(())), cluster("b", true, Ok(())));
    assert_eq!(judged(&[a, b]).await, Err(Reason::AmbiguousIssuer));
    let (a, b) = (cluster("a", false, Ok(())), cluster("b", false, Err(Reason::Expired)).after_signature());
    assert_eq!(judged(&[a, b]).await, Err(Reason::AmbiguousIssuer));
}
