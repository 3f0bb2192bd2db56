//! Which configured issuer may verify a proof.
//!
//! What selects is not verified, so it selects and nothing else, and by one rule, so that nobody can choose by what is
//! written in a token among two ways to be believed:
//!
//! 1. Whoever's `iss` it is, byte for byte, verifies it, and nobody else. A SPIFFE ID in its `sub` changes nothing then.
//! 2. A token without `iss`, or with one that is nobody's, and a certificate are of the trust domain that they name.
//!
//! Each verifies by its own keys alone and gives its own name to the identity, so a token that names another one is
//! refused there and never tried elsewhere.
//!
//! Several issuers may have one `iss`, such as clusters that all call themselves the same. Their keys tell them apart:
//! what the key of exactly one has signed is its. Two that verify the same proof are one signer, and which of them it came
//! from cannot be said: then it is refused.

use std::sync::Arc;

use futures_util::future::join_all;

use super::Use;
use crate::catalog::Revision;
use crate::error::{Reason, Refusal};
use crate::id::IssuerName;
use crate::identity::{Evidence, Proof, VerifiedProof};
use crate::port::{IdentityVerifier, UnverifiedSource};
use crate::time::Timestamp;

type Candidate = Arc<dyn IdentityVerifier>;

/// The configured issuers that a proof could be of: at least one.
pub(super) fn candidates<'r>(
    revision: &'r Revision,
    proof: &Proof,
    source: UnverifiedSource,
    purpose: Use,
) -> Result<Vec<&'r Candidate>, Refusal> {
    let unknown = |detail: &str| Refusal::proof(Reason::UnknownIssuer, detail);
    let verifiers = &revision.verifiers;
    if let Some(issuer) = &source.unverified_issuer {
        let mut owners: Vec<_> = verifiers.iter().filter(|verifier| verifier.accepts(issuer)).collect();
        if !owners.is_empty() {
            // Of those whose `iss` it is, never of somebody else because none of them will do.
            owners.retain(|verifier| purpose.takes_own_tokens() || verifier.issuer().as_str() != IssuerName::RESERVED);
            return if owners.is_empty() { Err(unknown("the broker's own tokens mint nothing")) } else { Ok(owners) };
        }
    }
    match source.unverified_trust_domain {
        Ok(named) => {
            let own: Vec<_> = verifiers.iter().filter(|verifier| verifier.trust_domain() == Some(&named)).collect();
            if own.is_empty() {
                return Err(unknown("no configured issuer signs as the proof's `iss`, or for its trust domain"));
            }
            Ok(own)
        }
        Err(_) if source.unverified_issuer.is_some() => Err(unknown("no configured issuer signs as the proof's `iss`")),
        Err(refusal) if verifiers.iter().any(|verifier| verifier.trust_domain().is_some()) => Err(refusal),
        Err(_) => Err(match proof.evidence {
            Evidence::Token { .. } => Refusal::proof(Reason::MissingClaim, "the proof has no `iss`").about("iss"),
            Evidence::Certificate(_) => unknown("no trust domain is configured whose certificates are proofs"),
        }),
    }
}

/// Has the one whose key signed the proof verify it.
///
/// First those that hold the key that it names, without waiting for anybody. If none of these has signed it, the others,
/// at once: a key that one of them publishes since has to be fetched, within what each allows. Somebody who cannot be
/// reached is then no reason to refuse what another has signed, and no reason to accept what nobody has.
pub(super) async fn verify(candidates: &[&Candidate], proof: &Proof, now: Timestamp) -> Result<VerifiedProof, Refusal> {
    if let [only] = candidates {
        return only.verify(proof, now).await;
    }
    let (holders, others): (Vec<&Candidate>, Vec<&Candidate>) =
        candidates.iter().partition(|candidate| candidate.holds_key_of(proof));
    let mut refused = Vec::new();
    for round in [holders, others] {
        let verdicts = join_all(round.into_iter().map(|candidate| candidate.verify(proof, now))).await;
        let (mut signed, unsigned): (Vec<_>, Vec<_>) = verdicts.into_iter().partition(is_signed);
        match (signed.pop(), signed.is_empty()) {
            (Some(verdict), true) => return verdict,
            (Some(_), false) => {
                let detail = "keys of several configured issuers verify this proof: whose it is cannot be said";
                return Err(Refusal::proof(Reason::AmbiguousIssuer, detail));
            }
            (None, _) => refused.extend(unsigned.into_iter().filter_map(Result::err)),
        }
    }
    Err(most_telling(refused))
}

/// Whether it is this issuer's signature, whatever else is wrong: then nobody else is asked.
fn is_signed(verdict: &Result<VerifiedProof, Refusal>) -> bool {
    verdict.as_ref().err().is_none_or(|refusal| refusal.signature_verified)
}

/// Whether somebody has the key is not known while one of them is away; else whoever knows the key says what is wrong.
fn most_telling(mut refused: Vec<Refusal>) -> Refusal {
    let rank = |refusal: &Refusal| match refusal.reason {
        Reason::JwksUnavailable => 0,
        Reason::UnknownKid => 2,
        _ => 1,
    };
    refused.sort_by_key(rank);
    let none = || Refusal::proof(Reason::UnknownIssuer, "no configured issuer signs as the proof's `iss`");
    refused.into_iter().next().unwrap_or_else(none)
}

#[cfg(test)]
mod tests;
