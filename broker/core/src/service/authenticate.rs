//! Who is calling: routes a proof to its configured issuer, has it verified, and checks that it holds now.

use tracing::Instrument as _;

mod route;

use super::{Ports, rates};
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::catalog::Revision;
use crate::delegation::counted_for;
use crate::error::{Reason, Refusal, ServiceError};
use crate::identity::{Proof, Shown, VerifiedIdentity};
use crate::request::Origin;
use crate::trace;

/// What a proof is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// To have a credential minted. A token of the broker's own is no proof for that: re-exchanging it would launder
    /// the identity behind it.
    Mint,
    /// To have a credential minted for whoever it proves, by somebody who acts for that one. A token of the broker's own
    /// will do: the identity behind it is asked, and what is minted ends with the grant that the token belongs to.
    BeActedFor,
    /// To act for somebody who has a credential minted.
    Act,
    /// To read, end or keep alive what is there, or to ask.
    Manage,
}

impl Use {
    const fn takes_own_tokens(self) -> bool {
        matches!(self, Self::BeActedFor | Self::Manage)
    }

    const fn mints(self) -> bool {
        !matches!(self, Self::Manage)
    }
}

/// Verifies `proof` and says who is calling. A refusal is audited here.
///
/// # Errors
/// [`ServiceError::Refused`] at the proof step; [`ServiceError::Unavailable`] when keys or the store do not answer.
pub async fn authenticate(
    ports: &Ports,
    revision: &Revision,
    proof: &Proof,
    purpose: Use,
    origin: &Origin,
) -> Result<VerifiedIdentity, ServiceError> {
    let mut signer = None;
    match verify(ports, revision, proof, purpose, origin, &mut signer).instrument(trace::verify()).await {
        Ok(identity) => Ok(identity),
        Err(ServiceError::Refused(mut refusal)) => {
            if purpose == Use::Act {
                refusal.detail = format!("`actor_token`: {}", refusal.detail);
            }
            record_refusal(ports, &refusal, signer, origin).await?;
            Err(match refusal.reason {
                // No fault of the caller's: the same proof can be good again in a moment.
                Reason::JwksUnavailable => ServiceError::unavailable(refusal.reason, refusal.detail),
                _ => refusal.into(),
            })
        }
        Err(other) => Err(other),
    }
}

/// `signer` becomes whose signature it is, as soon as that verified.
async fn verify(
    ports: &Ports,
    revision: &Revision,
    proof: &Proof,
    purpose: Use,
    origin: &Origin,
    signer: &mut Option<Actor>,
) -> Result<VerifiedIdentity, ServiceError> {
    let now = ports.now();
    let source = ports.reader.read(proof)?;
    let candidates = route::candidates(revision, proof, source, purpose)?;
    let verified = route::verify(&candidates, proof, now).await?;
    *signer = Some(Actor::Identity { issuer: verified.issuer.clone(), subject: verified.subject.clone() });
    let shown = Shown { by_another: purpose == Use::BeActedFor, ..proof.shown() };
    let identity = VerifiedIdentity::accept(verified, shown, origin.source, now).map_err(Refusal::after_signature)?;
    if purpose != Use::BeActedFor
        && let Some(only) = &identity.proof().may_act
    {
        let detail = format!("the proof is good with {:?} acting alone", only.subject);
        return Err(Refusal::proof(Reason::NotAllowedActor, detail).about("may_act").after_signature().into());
    }
    if purpose.mints()
        && let Some(restored_at) = ports.store.in_force().restored_at
    {
        identity.confirm_unused_before(restored_at).map_err(Refusal::after_signature)?;
    }
    let mut behind = None;
    if let Some(id) = identity.proof().grant {
        let key_id = identity.proof().key_id.as_deref();
        let live = ports.store.live_grant(id, now).await?;
        behind = live.filter(|grant| grant.can_have_token(key_id, identity.expires_at()));
        if behind.is_none() {
            let detail = "the grant behind this token has ended, or never had this token";
            return Err(Refusal::proof(Reason::GrantEnded, detail).after_signature().into());
        }
    }
    if let Some(possession) = &proof.possession {
        // Last: only who proved who it is takes room among those that are remembered.
        let whose = behind.as_ref().map_or_else(|| rates::counted_for(&identity), |grant| counted_for(&grant.record));
        ports.possessions.take(possession, whose, now)?;
    }
    Ok(identity)
}

async fn record_refusal(
    ports: &Ports,
    refusal: &Refusal,
    signer: Option<Actor>,
    origin: &Origin,
) -> Result<(), ServiceError> {
    let now = ports.now();
    let actor = Actor::Unverified { source: origin.source.map(|address| address.to_string()) };
    let told = if refusal.signature_verified {
        ports.refusals.take_of(signer.as_ref().unwrap_or(&actor), refusal.reason, now)
    } else {
        ports.refusals.take(origin.source, refusal.reason, now)
    };
    if !told {
        return Ok(());
    }
    let entry = AuditEntry::denied(now, actor, AuditAction::ProofVerify, AuditObject::Broker, refusal)
        .in_request(origin.request_id);
    Ok(ports.store.record(vec![entry], None).await?)
}
