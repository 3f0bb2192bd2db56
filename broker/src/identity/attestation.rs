//! Verification of signed statements about changes and builds, offline, by configured keys and certificate authorities.
//!
//! The invariant: nothing that a statement says is told or counts before a signature over its bytes was verified by a
//! configured key, or by the key of a certificate of the configured name and authority; and it then counts only where that
//! signer may vouch for that kind of thing.

mod certificate;
mod envelope;
mod statement;
#[cfg(test)]
mod tests;

use hallpass_core::attestation::{MAX_OFFERED, Said, Statement, Vouched};
use hallpass_core::error::{Reason, Refusal};
use hallpass_core::port::AttestationVerifier;
use hallpass_core::time::{Timestamp, Ttl};

use self::certificate::Signer;
pub use self::envelope::Envelope;
pub use self::statement::{PLAN, REVIEW, SLSA_PROVENANCE, read};
use crate::config::attestor::{Attestor, AttestorKind, KnownBy};

/// Clock difference tolerated on the time in a statement.
const SKEW: Ttl = Ttl::from_mins(2);

/// The attestors of one bundle revision.
#[derive(Debug)]
pub struct Attestors(Vec<Attestor>);

impl Attestors {
    /// Those of a bundle.
    #[must_use]
    pub fn new(attestors: Vec<Attestor>) -> Self {
        Self(attestors)
    }

    fn one(&self, offered: &str, now: Timestamp) -> Result<Vouched, Problem> {
        let envelope = Envelope::read(offered).map_err(Problem::unverified)?;
        let (mut signers, mut why) = (Vec::new(), None);
        for attestor in &self.0 {
            match &attestor.known_by {
                KnownBy::Keys(keys) if keys.iter().any(|key| envelope.is_signed_by(key)) => {
                    signers.push((attestor, Signer::default()));
                }
                KnownBy::Keys(_) => {}
                KnownBy::Certificates(signer) => match certificate::verify(&envelope, signer, now) {
                    Some(Ok(signer)) => signers.push((attestor, signer)),
                    Some(Err(problem)) => why = why.or(Some(problem)),
                    None => {}
                },
            }
        }
        if signers.is_empty() {
            let why = why.unwrap_or("no attestor that is trusted here signed it as it stands");
            return Err(Problem::unverified(why));
        }
        let read = statement::read(envelope.payload()).map_err(Problem::verified)?;
        let found = signers.into_iter().find(|(attestor, _)| kind_of(&read.said) == attestor.kind);
        let (attestor, signer) =
            found.ok_or_else(|| Problem::verified("whoever signed it may not vouch for such a thing"))?;
        if let Said::SlsaProvenance { builder, repository, commit, .. } = &read.said {
            if !attestor.builders.contains(builder) {
                return Err(Problem::verified(format!("whoever signed it may not speak for the builder {builder:?}")));
            }
            signer.agrees(repository.as_deref(), commit.as_deref()).map_err(Problem::verified)?;
        }
        let at = signer.earliest(read.at);
        in_time(at, attestor.max_age, now).map_err(Problem::verified)?;
        let digest = envelope.digest();
        let statement = Statement { digest, attestor: attestor.name.clone(), at, said: read.said };
        Ok(Vouched { statement, accounts_of: attestor.accounts_of.clone() })
    }
}

impl AttestationVerifier for Attestors {
    fn verify(&self, offered: &[String], now: Timestamp) -> Result<Vec<Vouched>, Refusal> {
        if offered.len() > MAX_OFFERED {
            let detail = format!("`attestations` has at most {MAX_OFFERED} entries");
            return Err(Refusal::request(Reason::BadAttestation, "attestations", detail));
        }
        let each = offered.iter().enumerate();
        each.map(|(at, offered)| self.one(offered, now).map_err(|problem| problem.refusal(at))).collect()
    }
}

const fn kind_of(said: &Said) -> AttestorKind {
    match said {
        Said::SlsaProvenance { .. } => AttestorKind::SlsaProvenance,
        Said::Review(_) => AttestorKind::Review,
        Said::Plan(_) => AttestorKind::Plan,
    }
}

fn in_time(at: Option<Timestamp>, max_age: Option<Ttl>, now: Timestamp) -> Result<(), String> {
    match (at, max_age) {
        (Some(at), _) if at > now.plus(SKEW) => Err(format!("it is of {}, which is yet to come", at.to_rfc3339())),
        (Some(at), Some(longest)) if at.plus(longest) < now => {
            Err(format!("it is of {}, and counts for {longest}", at.to_rfc3339()))
        }
        (None, Some(longest)) => Err(format!("it does not say of when it is, and counts for {longest} alone")),
        _ => Ok(()),
    }
}

/// What is wrong with a statement, and whether its signature had verified.
struct Problem {
    detail: String,
    verified: bool,
}

impl Problem {
    fn unverified(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), verified: false }
    }

    fn verified(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), verified: true }
    }

    /// Of the one at `at`.
    fn refusal(self, at: usize) -> Refusal {
        let place = format!("attestations.{at}");
        let detail = format!("`{place}`: {}", self.detail);
        let refusal = Refusal::request(Reason::BadAttestation, place, detail);
        if self.verified { refusal.after_signature() } else { refusal }
    }
}
