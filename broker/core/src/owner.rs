//! Owners: the teams that answer for roles.

use serde::{Deserialize, Serialize};

use crate::id::{IssuerName, OwnerName};
use crate::time::Timestamp;

/// A team that answers for roles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Stable name.
    pub name: OwnerName,
    /// How to reach the team: e-mail addresses, channels, pager ids. At least one, for an owner that resolves.
    pub contacts: Vec<String>,
    /// Identities that belong to the team.
    pub members: Vec<Member>,
    /// Whether the team still exists and still answers. Roles of an inactive owner cannot be minted.
    pub active: bool,
    /// Who takes over when the team ends.
    pub successor: Option<OwnerName>,
    /// When somebody last confirmed this entry.
    pub verified_at: Option<Timestamp>,
}

/// One member of an owner: an identity that can prove itself, and the code-host accounts that are the same person's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Issuer that the member proves itself with.
    pub issuer: IssuerName,
    /// Subject at that issuer, compared byte for byte.
    pub subject: String,
    /// Accounts at code hosts, such as `github:1234567`, that are the same person's.
    pub accounts: Vec<String>,
}

impl Owner {
    /// Whether the owner can be reached and can act: active, with a contact and at least one member.
    #[must_use]
    pub fn resolves(&self) -> bool {
        self.active && !self.contacts.is_empty() && !self.members.is_empty()
    }

    /// Whether the identity `subject` of `issuer` belongs to this owner.
    #[must_use]
    pub fn has_member(&self, issuer: &IssuerName, subject: &str) -> bool {
        self.members.iter().any(|member| &member.issuer == issuer && member.subject == subject)
    }
}

/// What a grant remembers of its owner, so that its answer does not change when the bundle does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerSnapshot {
    /// Stable name.
    pub name: OwnerName,
    /// Contacts at the time of the decision.
    pub contacts: Vec<String>,
}

impl From<&Owner> for OwnerSnapshot {
    fn from(owner: &Owner) -> Self {
        Self { name: owner.name.clone(), contacts: owner.contacts.clone() }
    }
}
