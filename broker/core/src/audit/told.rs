//! What a log tells of the grants that are not over, to hold a database against.
//!
//! An entry and the change that it tells of are one commit. So a grant that is live where the log has it ended, or has
//! never heard of it, that is over where the log has it live, or that may work for longer than the log says, was changed
//! by somebody else than the broker. Of a log only what is not over is remembered: not more than a database has live.

use std::collections::HashMap;

use super::{AuditAction, AuditEntry, AuditObject, AuditOutcome};
use crate::grant::StateName;
use crate::id::GrantId;
use crate::time::Timestamp;

/// The grants that a log has live.
#[derive(Debug, Default)]
pub struct Told {
    live: HashMap<GrantId, Live>,
}

#[derive(Clone, Copy, Debug)]
struct Live {
    state: StateName,
    /// None where the log does not say, or has it renewed: then each renewal has a bound of its own.
    expires_at: Option<Timestamp>,
}

/// A grant as a database has it, of those that are not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveRow {
    /// Its id.
    pub id: GrantId,
    /// Its state: one that is not final.
    pub state: StateName,
    /// When its credential can work no longer.
    pub expires_at: Timestamp,
}

/// What is told of a grant, and is not so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It is live in the database; the log has it ended, or does not know it.
    NotLive {
        /// Its state in the database.
        kept: StateName,
    },
    /// It is live by the log; in the database it is over, or gone.
    Gone {
        /// Its state by the log.
        told: StateName,
    },
    /// It is live by both, in another state.
    State {
        /// Its state by the log.
        told: StateName,
        /// Its state in the database.
        kept: StateName,
    },
    /// It may work for longer than the log says.
    Longer {
        /// Until when, by the log.
        told: Timestamp,
        /// Until when, in the database.
        kept: Timestamp,
    },
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotLive { kept } => {
                write!(f, "is {} in the database; the log has it ended, or never opened", kept.as_str())
            }
            Self::Gone { told } => write!(f, "is {} by the log; in the database it is over, or gone", told.as_str()),
            Self::State { told, kept } => {
                write!(f, "is {} by the log, and {} in the database", told.as_str(), kept.as_str())
            }
            Self::Longer { told, kept } => {
                write!(f, "may work until {told} by the log, and until {kept} in the database")
            }
        }
    }
}

impl Told {
    /// Hears the next entry of the log.
    pub fn hear(&mut self, entry: &AuditEntry) {
        if entry.outcome != AuditOutcome::Success {
            return;
        }
        let ids = match &entry.object {
            AuditObject::Grant { id } => std::slice::from_ref(id),
            AuditObject::Grants { ids } => ids,
            _ => return,
        };
        for id in ids {
            match entry.action {
                AuditAction::GrantOpen => {
                    let expires_at = entry.detail.get("expires_at");
                    let expires_at = expires_at.and_then(|at| Timestamp::parse_rfc3339(at).ok());
                    self.live.insert(*id, Live { state: StateName::Pending, expires_at });
                }
                AuditAction::GrantActivate => self.is_now(id, StateName::Active),
                AuditAction::GrantRevoke | AuditAction::GrantFence => self.is_now(id, StateName::Revoking),
                AuditAction::GrantRenew => {
                    if let Some(live) = self.live.get_mut(id) {
                        live.expires_at = None;
                    }
                }
                AuditAction::GrantConfirm
                | AuditAction::GrantExpire
                | AuditAction::GrantFail
                | AuditAction::GrantAbandon => {
                    self.live.remove(id);
                }
                _ => {}
            }
        }
    }

    fn is_now(&mut self, id: &GrantId, state: StateName) {
        if let Some(live) = self.live.get_mut(id) {
            live.state = state;
        }
    }

    /// How many it has live.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// Holds the next grant of a database against it. Each is asked about once.
    pub fn compare(&mut self, row: &LiveRow) -> Option<Difference> {
        let (kept, until) = (row.state, row.expires_at);
        let Some(told) = self.live.remove(&row.id) else { return Some(Difference::NotLive { kept }) };
        if told.state != kept {
            return Some(Difference::State { told: told.state, kept });
        }
        let told = told.expires_at.filter(|told| *told < until)?;
        Some(Difference::Longer { told, kept: until })
    }

    /// Those that it has live, and that were not asked about.
    pub fn left(self) -> impl Iterator<Item = (GrantId, Difference)> {
        self.live.into_iter().map(|(id, live)| (id, Difference::Gone { told: live.state }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Actor;
    use crate::testing::sample::{self, NOW};
    use crate::time::Ttl;

    fn told(entries: &[(AuditAction, u64)]) -> Told {
        let mut told = Told::default();
        for (action, grant) in entries {
            let object = AuditObject::Grant { id: sample::id(*grant) };
            let entry = AuditEntry::success(NOW, Actor::Broker, *action, object);
            told.hear(&entry.with("expires_at", &NOW.plus(Ttl::from_mins(10)).to_rfc3339()));
        }
        told
    }

    fn row(grant: u64, state: StateName) -> LiveRow {
        LiveRow { id: sample::id(grant), state, expires_at: NOW.plus(Ttl::from_mins(10)) }
    }

    #[test]
    fn what_is_told_and_kept_alike_is_no_difference() {
        use AuditAction::{GrantActivate, GrantExpire, GrantFence, GrantOpen, GrantRevoke};
        let mut told = told(&[
            (GrantOpen, 1),
            (GrantOpen, 2),
            (GrantActivate, 2),
            (GrantOpen, 3),
            (GrantActivate, 3),
            (GrantRevoke, 3),
            (GrantFence, 3),
            (GrantOpen, 4),
            (GrantExpire, 4),
        ]);
        assert_eq!(told.live(), 3);
        for row in [row(1, StateName::Pending), row(2, StateName::Active), row(3, StateName::Revoking)] {
            assert_eq!(told.compare(&row), None);
        }
        assert_eq!(told.left().count(), 0);
    }

    #[test]
    fn what_the_broker_did_not_do_is_a_difference() {
        use AuditAction::{GrantActivate, GrantExpire, GrantOpen, GrantRenew, GrantRevoke};
        let live = [(GrantOpen, 1), (GrantActivate, 1)];
        let after = |action: &[(AuditAction, u64)]| told(&[&live, action].concat());
        let kept = StateName::Active;
        assert_eq!(after(&[(GrantExpire, 1)]).compare(&row(1, kept)), Some(Difference::NotLive { kept }));
        assert_eq!(after(&[]).compare(&row(2, kept)), Some(Difference::NotLive { kept }), "it was never opened");
        let told = StateName::Revoking;
        assert_eq!(after(&[(GrantRevoke, 1)]).compare(&row(1, kept)), Some(Difference::State { told, kept }));
        let left: Vec<_> = after(&[]).left().collect();
        assert_eq!(left, [(sample::id(1), Difference::Gone { told: kept })]);
        let longer = LiveRow { expires_at: NOW.plus(Ttl::from_mins(11)), ..row(1, kept) };
        assert!(matches!(after(&[]).compare(&longer), Some(Difference::Longer { .. })));
        assert_eq!(after(&[(GrantRenew, 1)]).compare(&longer), None, "it was renewed");

        // What was refused, or failed, is none that was done.
        let mut told = after(&[]);
        let object = AuditObject::Grant { id: sample::id(1) };
        let mut refused = AuditEntry::success(NOW, Actor::Broker, GrantRevoke, object);
        refused.outcome = AuditOutcome::Denied;
        told.hear(&refused);
        assert_eq!(told.compare(&row(1, kept)), None);
    }
}
