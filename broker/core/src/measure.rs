//! What the domain counts. The names are described in the broker, which holds the list of all of them.

use std::time::Duration;

use crate::grant::{Grant, GrantState};

/// A grant's end taking hold: its backend confirmed it, or verifiers refuse the credential from now on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndTakenHold {
    class: &'static str,
    /// From when the end was asked for, or due.
    after: Duration,
}

impl EndTakenHold {
    /// What a grant that was just changed says of it; `None` for changes of another kind.
    pub(crate) fn of(grant: &Grant) -> Option<Self> {
        let (asked, held) = match &grant.state {
            GrantState::Revoked { ending, confirmed_at, .. } => (ending.at, *confirmed_at),
            GrantState::Revoking { ending, fenced_at: Some(fenced_at), .. } => (ending.at, *fenced_at),
            _ => return None,
        };
        let after = u64::try_from(held.as_millis().saturating_sub(asked.as_millis())).unwrap_or(0);
        Some(Self { class: grant.record.class().as_str(), after: Duration::from_millis(after) })
    }

    /// Counts it, once the change is recorded.
    pub(crate) fn count(self) {
        metrics::histogram!("hallpass_revocation_lag_seconds", "class" => self.class).record(self.after);
    }
}
