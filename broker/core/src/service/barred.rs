//! How the caller and the audit log are told that a command in force stops a grant.

use crate::error::{Reason, Refusal, ServiceError, Step};
use crate::in_force::Bar;
use crate::time::{Timestamp, Ttl};

/// A grant that is stopped by a command in force.
pub(super) struct Barred {
    /// For the record.
    pub(super) refusal: Refusal,
    passes: bool,
}

impl Barred {
    /// Stopped by `bar`, told at `now`. The caller learns that it is stopped and until when, and not by whom or why.
    pub(super) fn by(bar: Bar, now: Timestamp) -> Self {
        match bar {
            Bar::Revoked(id) => Self {
                refusal: Refusal::new(
                    Step::Policy,
                    Reason::BeingRevoked,
                    "grants like this one are being revoked; try again when that is done",
                )
                .because(format!("by revocation {id}"))
                .after(Ttl::from_secs(1)),
                passes: true,
            },
            Bar::Quarantined { id, until } => Self {
                refusal: Refusal::new(
                    Step::Policy,
                    Reason::Quarantined,
                    format!("grants like this one are stopped until {until}, unless somebody lifts that before"),
                )
                .because(format!("by quarantine {id}"))
                .after(until.since(now)),
                passes: false,
            },
        }
    }
}

impl From<Barred> for ServiceError {
    fn from(barred: Barred) -> Self {
        let Barred { refusal, passes } = barred;
        if passes {
            return Self::Conflict { reason: refusal.reason, detail: refusal.detail, retry_after: refusal.retry_after };
        }
        Self::Refused(refusal)
    }
}
