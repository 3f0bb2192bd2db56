//! Roles and owners as the world sees them.

use hallpass_core::catalog::Revision;
use hallpass_core::owner::{Member, Owner};
use hallpass_core::role::{Role, RoleState};
use hallpass_sdk::wire;

use super::{at, grant, lasting};

/// A role, with what the `revision`'s backend can do about its credentials.
pub(in crate::http) fn role(role: &Role, revision: &Revision) -> wire::Role {
    let backend = revision.backends.get(&role.backend);
    wire::Role {
        name: role.name.to_string(),
        digest: Some(role.digest.clone()),
        state: state(role.state),
        owner: role.owner.to_string(),
        description: role.description.clone(),
        backend: role.backend.to_string(),
        environment: role.environment.as_ref().map(ToString::to_string),
        ttl: wire::TtlRule { default: lasting(role.ttl.default), max: lasting(role.ttl.max) },
        purpose: wire::PurposeRule {
            required: role.purpose.default.is_none(),
            default: role.purpose.default.clone(),
            pattern: role.purpose.pattern.as_ref().map(|pattern| pattern.as_str().to_owned()),
        },
        revocation_class: backend.map(|backend| grant::class(backend.class(role))),
        revocation_floor: role.revocation_floor.map(grant::class),
        review_every: role.review_every.map(lasting),
        review_at: role.review_at.map(at),
        stage: role.stage.clone(),
        tier: role.tier.clone(),
    }
}

const fn state(state: RoleState) -> wire::RoleState {
    match state {
        RoleState::Proposed => wire::RoleState::Proposed,
        RoleState::Active => wire::RoleState::Active,
        RoleState::Suspended => wire::RoleState::Suspended,
        RoleState::Retired => wire::RoleState::Retired,
    }
}

/// An owner.
pub(in crate::http) fn owner(owner: &Owner) -> wire::Owner {
    wire::Owner {
        name: owner.name.to_string(),
        contacts: owner.contacts.clone(),
        members: owner.members.iter().map(member).collect(),
        active: owner.active,
        successor: owner.successor.as_ref().map(ToString::to_string),
        verified_at: owner.verified_at.map(at),
    }
}

fn member(member: &Member) -> wire::Member {
    wire::Member {
        issuer: member.issuer.to_string(),
        subject: member.subject.clone(),
        accounts: member.accounts.clone(),
    }
}
