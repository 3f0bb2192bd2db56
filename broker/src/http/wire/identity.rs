//! Who somebody is, as the world sees it.

use hallpass_core::binding::BindingKey;
use hallpass_core::delegation::Acting;
use hallpass_core::grant::Holder;
use hallpass_core::id::OwnerName;
use hallpass_core::identity::VerifiedIdentity;
use hallpass_core::provenance::Provenance;
use hallpass_sdk::wire;

use super::{at, members};

pub(super) fn of_holder(holder: &Holder) -> wire::Identity {
    wire::Identity {
        issuer: holder.issuer.to_string(),
        kind: holder.principal.as_str().to_owned(),
        subject: holder.subject.clone(),
        attributes: members(&holder.attributes),
    }
}

pub(super) fn of_acting(acting: &Acting) -> wire::Acting {
    wire::Acting {
        issuer: acting.issuer.to_string(),
        kind: acting.principal.as_str().to_owned(),
        subject: acting.subject.clone(),
    }
}

/// What the broker sees of a caller. `proof_digest` names a proof that has no id of its own.
pub(in crate::http) fn who_am_i<'a>(
    identity: &VerifiedIdentity,
    groups: impl Iterator<Item = &'a OwnerName>,
    proof_digest: String,
) -> wire::WhoAmI {
    let proof = identity.proof();
    wire::WhoAmI {
        issuer: proof.issuer.to_string(),
        kind: proof.principal.as_str().to_owned(),
        subject: proof.subject.clone(),
        attributes: members(&proof.attributes),
        binding: identity.binding_key().map(binding),
        provenance: provenance(&proof.provenance),
        proof: wire::ProofSummary {
            id: proof.proof_id.clone().unwrap_or(proof_digest),
            key_id: proof.key_id.clone(),
            expires_at: at(identity.expires_at()),
            audiences: proof.audiences.clone(),
        },
        groups: groups.map(ToString::to_string).collect(),
    }
}

pub(super) fn binding(key: BindingKey) -> wire::Binding {
    wire::Binding { by: key.binding().as_str().to_owned(), thumbprint: key.thumbprint() }
}

pub(super) fn provenance(provenance: &Provenance) -> wire::Provenance {
    let from = provenance.clone();
    wire::Provenance {
        repository: from.repository,
        repository_id: from.repository_id,
        repository_owner_id: from.repository_owner_id,
        git_ref: from.git_ref,
        ref_protected: from.ref_protected,
        commit: from.commit,
        workflow: from.workflow,
        workflow_ref: from.workflow_ref,
        run: from.run,
        run_attempt: from.run_attempt,
        job: from.job,
        actor: from.actor,
        actor_id: from.actor_id,
        event: from.event,
        pull_request: from.pull_request,
        environment: from.environment,
        runner: from.runner,
        attestation_digests: from.attestation_digests,
    }
}
