//! The life of a grant: its state's own data as nullable columns, and back by one exhaustive match.

use hallpass_core::grant::{Cause, Ending, Grant, GrantState, StateName};
use hallpass_core::port::StoreError;
use hallpass_core::time::Timestamp;

use super::Columns;

/// The columns of a life, read in this order.
pub(crate) const LIFE: &[&str] = &[
    "state",
    "deadline",
    "activated_at",
    "cause",
    "ending_actor",
    "ending_reason",
    "ending_at",
    "fenced_at",
    "attempts",
    "retry_at",
    "last_error",
    "confirmed_at",
    "ended_at",
];

/// A state taken apart: what it does not have is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Life<'a> {
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) activated_at: Option<Timestamp>,
    pub(crate) ending: Option<&'a Ending>,
    pub(crate) fenced_at: Option<Timestamp>,
    pub(crate) attempts: Option<u32>,
    pub(crate) retry_at: Option<Timestamp>,
    pub(crate) last_error: Option<&'a str>,
    pub(crate) confirmed_at: Option<Timestamp>,
    pub(crate) ended_at: Option<Timestamp>,
}

impl<'a> Life<'a> {
    pub(crate) fn of(grant: &'a Grant) -> Self {
        match &grant.state {
            GrantState::Pending { deadline } => Self { deadline: Some(*deadline), ..Self::default() },
            GrantState::Active { activated_at } => Self { activated_at: Some(*activated_at), ..Self::default() },
            GrantState::Revoking { activated_at, ending, fenced_at, attempts, retry_at, last_error } => Self {
                activated_at: *activated_at,
                ending: Some(ending),
                fenced_at: *fenced_at,
                attempts: Some(*attempts),
                retry_at: Some(*retry_at),
                last_error: last_error.as_deref(),
                ..Self::default()
            },
            GrantState::Revoked { activated_at, ending, attempts, confirmed_at } => Self {
                activated_at: *activated_at,
                ending: Some(ending),
                attempts: Some(*attempts),
                confirmed_at: Some(*confirmed_at),
                ended_at: Some(*confirmed_at),
                ..Self::default()
            },
            GrantState::Expired { activated_at, ending, fenced_at, ended_at } => Self {
                activated_at: *activated_at,
                ending: Some(ending),
                fenced_at: *fenced_at,
                ended_at: Some(*ended_at),
                ..Self::default()
            },
            GrantState::Failed { ending, ended_at } => {
                Self { ending: Some(ending), ended_at: Some(*ended_at), ..Self::default() }
            }
            GrantState::Abandoned { activated_at, ending, fenced_at, attempts, ended_at } => Self {
                activated_at: *activated_at,
                ending: Some(ending),
                fenced_at: *fenced_at,
                attempts: Some(*attempts),
                ended_at: Some(*ended_at),
                ..Self::default()
            },
        }
    }
}

/// Reads the columns of [`LIFE`].
pub(crate) fn read(columns: &mut Columns<'_>) -> Result<GrantState, StoreError> {
    let name = columns.parsed("state", StateName::parse)?;
    let deadline = columns.optional_time("deadline")?;
    let activated_at = columns.optional_time("activated_at")?;
    let ending = read_ending(columns)?;
    let fenced_at = columns.optional_time("fenced_at")?;
    let attempts: Option<u32> = columns.optional_natural("attempts")?;
    let retry_at = columns.optional_time("retry_at")?;
    let last_error: Option<String> = columns.value("last_error")?;
    let confirmed_at = columns.optional_time("confirmed_at")?;
    let ended_at = columns.optional_time("ended_at")?;

    let life =
        (name, deadline, activated_at, ending, fenced_at, attempts, retry_at, last_error, confirmed_at, ended_at);
    match life {
        (StateName::Pending, Some(deadline), None, None, None, None, None, None, None, None) => {
            Ok(GrantState::Pending { deadline })
        }
        (StateName::Active, None, Some(activated_at), None, None, None, None, None, None, None) => {
            Ok(GrantState::Active { activated_at })
        }
        (
            StateName::Revoking,
            None,
            activated_at,
            Some(ending),
            fenced_at,
            Some(attempts),
            Some(retry_at),
            last_error,
            None,
            None,
        ) => Ok(GrantState::Revoking { activated_at, ending, fenced_at, attempts, retry_at, last_error }),
        (
            StateName::Revoked,
            None,
            activated_at,
            Some(ending),
            None,
            Some(attempts),
            None,
            None,
            Some(confirmed_at),
            Some(ended_at),
        ) if confirmed_at == ended_at => Ok(GrantState::Revoked { activated_at, ending, attempts, confirmed_at }),
        (StateName::Expired, None, activated_at, Some(ending), fenced_at, None, None, None, None, Some(ended_at)) => {
            Ok(GrantState::Expired { activated_at, ending, fenced_at, ended_at })
        }
        (StateName::Failed, None, None, Some(ending), None, None, None, None, None, Some(ended_at)) => {
            Ok(GrantState::Failed { ending, ended_at })
        }
        (
            StateName::Abandoned,
            None,
            activated_at,
            Some(ending),
            fenced_at,
            Some(attempts),
            None,
            None,
            None,
            Some(ended_at),
        ) => Ok(GrantState::Abandoned { activated_at, ending, fenced_at, attempts, ended_at }),
        (
            StateName::Pending
            | StateName::Active
            | StateName::Revoking
            | StateName::Revoked
            | StateName::Expired
            | StateName::Failed
            | StateName::Abandoned,
            ..,
        ) => {
            let problem = format!("the columns of its life are not those of a grant that is {}", name.as_str());
            Err(columns.inconsistent("state", problem))
        }
    }
}

fn read_ending(columns: &mut Columns<'_>) -> Result<Option<Ending>, StoreError> {
    let cause: Option<String> = columns.value("cause")?;
    let actor: Option<String> = columns.value("ending_actor")?;
    let reason: Option<String> = columns.value("ending_reason")?;
    let at = columns.optional_time("ending_at")?;
    match (cause, actor, reason, at) {
        (None, None, None, None) => Ok(None),
        (Some(cause), actor, reason, Some(at)) => {
            Ok(Some(Ending { cause: Cause::from_stored(cause), actor, reason, at }))
        }
        (cause, _, _, at) => {
            let problem = format!("half an ending: cause {cause:?}, at {at:?}");
            Err(columns.inconsistent("cause", problem))
        }
    }
}
