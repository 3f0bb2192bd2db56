//! The commands in force: revocations whose rows still follow, quarantines, and that an older copy was put back. What a
//! store keeps in memory beside the record, changed by the commit of each command and by nothing else.

use std::sync::Arc;

use crate::audit::Actor;
use crate::grant::{Grant, GrantRecord, StateName};
use crate::id::{QuarantineId, RevocationId};
use crate::quarantine::{Quarantine, Roles};
use crate::revocation::Revocation;
use crate::time::Timestamp;

/// Revocations that run and quarantines that are not lifted, oldest first.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// Revocations that are not complete.
    pub revocations: Vec<Arc<Revocation>>,
    /// Quarantines that are not lifted.
    pub quarantines: Vec<Arc<Quarantine>>,
    /// When an older copy of the store was put back the last time: what was used, ended and opened between is not known.
    pub restored_at: Option<Timestamp>,
}

/// Why a grant can be neither opened, nor activated, nor renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// This revocation selects it and still runs.
    Revoked(RevocationId),
    /// This quarantine stops it.
    Quarantined {
        /// Which.
        id: QuarantineId,
        /// Until when, unless it is lifted before.
        until: Timestamp,
    },
}

impl InForce {
    /// Revocations that may run at once: each is asked for every grant that is opened.
    pub const MAX_REVOCATIONS: usize = 64;

    /// Revocations of one author that may run at once: nobody should be able to take all places.
    pub const MAX_REVOCATIONS_OF_ONE: usize = 8;

    /// Of all places, those that are kept for whoever runs the broker: what a distrusted key signed must end, however many
    /// sets others are ending.
    pub const RESERVED_REVOCATIONS: usize = Self::MAX_REVOCATIONS_OF_ONE;

    /// Whether one more revocation by `author` may run.
    #[must_use]
    pub fn has_room_for_revocation(&self, author: &Actor) -> bool {
        let of = |author: &Actor| self.revocations.iter().filter(|running| running.author == *author).count();
        let others = self.revocations.len().saturating_sub(of(&Actor::LocalAdministrator));
        of(author) < Self::MAX_REVOCATIONS_OF_ONE
            && (*author == Actor::LocalAdministrator || others < Self::MAX_REVOCATIONS - Self::RESERVED_REVOCATIONS)
    }

    /// Whether `wanted` may be in force, too.
    #[must_use]
    pub fn has_room_for_quarantine(&self, wanted: &Quarantine) -> bool {
        let alike = || self.quarantines.iter().filter(|other| other.is_halt() == wanted.is_halt());
        let of_one = alike().filter(|other| other.author == wanted.author).count();
        if wanted.is_halt() {
            return alike().count() < Quarantine::RESERVED_FOR_HALTS && of_one < Quarantine::MAX_HALTS_OF_ONE;
        }
        let places = Quarantine::MAX_IN_FORCE - Quarantine::RESERVED_FOR_HALTS;
        let of_some_roles = alike().filter(|other| other.roles != Roles::All).count();
        of_one < Quarantine::MAX_IN_FORCE_OF_ONE
            && alike().count() < places
            && (wanted.roles == Roles::All || of_some_roles < places - Quarantine::RESERVED_FOR_EVERY_ROLE)
    }

    /// The revocation that ends `grant`, although its row may not say so yet.
    #[must_use]
    pub fn ends(&self, grant: &Grant) -> Option<RevocationId> {
        self.ends_in(&grant.record, grant.state_name())
    }

    /// The same of a grant of this record that is in `state`.
    #[must_use]
    pub fn ends_in(&self, record: &GrantRecord, state: StateName) -> Option<RevocationId> {
        self.revocations.iter().find(|revocation| revocation.ends(record, state)).map(|revocation| revocation.id)
    }

    /// The quarantine that stops a grant of this record at `now`.
    #[must_use]
    pub fn stops(&self, record: &GrantRecord, now: Timestamp) -> Option<Bar> {
        let found = self.quarantines.iter().find(|quarantine| quarantine.stops(record, now))?;
        Some(Bar::Quarantined { id: found.id, until: found.until })
    }

    /// Whether a verifier that asks the broker should accept the credential of `grant` now. The one answer to whether a
    /// grant is alive: ask for what is in force before the row is read, so that a row that was read too early is not
    /// believed.
    #[must_use]
    pub fn is_live(&self, grant: &Grant, now: Timestamp) -> bool {
        grant.is_live(now) && self.ends(grant).is_none()
    }
}
