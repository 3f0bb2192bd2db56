//! A quarantine: new grants that are like this are not opened, and live ones not renewed, until an instant.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::audit::Actor;
use crate::grant::GrantRecord;
use crate::id::{QuarantineId, RoleName};
use crate::selector::Selector;
use crate::time::{Timestamp, Ttl};

/// Stops what would be opened or renewed. It ends nothing that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// Its id.
    pub id: QuarantineId,
    /// Which grants it stops.
    pub selector: Selector,
    /// Of which roles.
    pub roles: Roles,
    /// Who asked for it.
    pub author: Actor,
    /// Why, in words.
    pub reason: String,
    /// Since when.
    pub created_at: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// When and by whom it was lifted; at its end, by the broker.
    pub lifted: Option<Lifted>,
}

/// How a quarantine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifted {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: Actor,
}

/// The roles that the author of a quarantine may suspend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Roles {
    /// Every role, those to come included.
    All,
    /// These.
    Some(BTreeSet<RoleName>),
}

impl Quarantine {
    /// The longest quarantine: what must be stopped for longer is a change of policy.
    pub const MAX_LENGTH: Ttl = Ttl::from_hours(30 * 24);

    /// Quarantines in force at once: each is asked for every grant that is opened.
    pub const MAX_IN_FORCE: usize = 256;

    /// Quarantines of one author in force at once: nobody should be able to take all places from those who will need one.
    pub const MAX_IN_FORCE_OF_ONE: usize = 32;

    /// Of all places, those that are kept for whoever may stop everything: the members of a team must not be able to take
    /// all places from those who answer for the whole.
    pub const RESERVED_FOR_EVERY_ROLE: usize = 32;

    /// Of all places, those that are kept for halts, which take no others: however many quarantines there are, everything
    /// can be stopped.
    pub const RESERVED_FOR_HALTS: usize = 8;

    /// Halts of one author in force at once.
    pub const MAX_HALTS_OF_ONE: usize = 2;

    /// Whether it stops everything.
    #[must_use]
    pub fn is_halt(&self) -> bool {
        self.roles == Roles::All && self.selector.criteria().is_none()
    }

    /// Whether a grant of this record may not be opened or renewed at `now`.
    ///
    /// The token of `hallpass-broker operator-token` can be had even then: a halt must not lock out whoever could lift
    /// it.
    #[must_use]
    pub fn stops(&self, record: &GrantRecord, now: Timestamp) -> bool {
        now < self.until && self.roles.hold(&record.role) && !record.role.is_reserved() && self.selector.selects(record)
    }
}

impl Roles {
    /// Whether `role` is one of them.
    #[must_use]
    pub fn hold(&self, role: &RoleName) -> bool {
        match self {
            Self::All => true,
            Self::Some(roles) => roles.contains(role),
        }
    }
}
