//! What a failed statement means: that the server refuses, that nothing happened, or that nobody knows.

use std::error::Error as _;

use hallpass_core::port::{ExtendError, IssueError, RevokeError};
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

/// Longest text of a server that is kept.
const MAX_TEXT: usize = 300;

/// Why something was not done.
#[derive(Debug)]
pub(super) struct Failure {
    nature: Nature,
    /// For the audit log: SQLSTATE and the server's words, which repeat no statement.
    internal: String,
    /// For the caller, where there is more to say than that the server refuses.
    told: Option<&'static str>,
    state: Option<SqlState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    /// The server answered, and will answer the same again.
    Refused,
    /// The server could not, or was not reached.
    Unavailable,
    /// It may have been done.
    Unknown,
}

impl Failure {
    /// Nothing was sent.
    pub(super) fn not_sent(internal: impl Into<String>) -> Self {
        Self { nature: Nature::Unavailable, internal: internal.into(), told: None, state: None }
    }

    /// The server will not do it.
    pub(super) fn refused(internal: impl Into<String>) -> Self {
        Self { nature: Nature::Refused, internal: internal.into(), told: None, state: None }
    }

    /// A user that was made would outlive its grant, or reach further than it may.
    pub(super) fn overreaching(internal: &str) -> Self {
        let told = "by the role's groups or statements its user would outlive the grant, or reach further than it may";
        Self { told: Some(told), ..Self::refused(internal) }
    }

    /// No connection came about. That the broker's own login is refused is no refusal of what was asked for.
    pub(super) fn connecting(error: &Error) -> Self {
        Self { nature: Nature::Unavailable, internal: told(error), told: None, state: error.code().cloned() }
    }

    /// A statement failed whose transaction was surely not committed.
    pub(super) fn before_commit(error: &Error) -> Self {
        let nature = match error.as_db_error() {
            Some(db) if is_lasting(db.code()) => Nature::Refused,
            _ => Nature::Unavailable,
        };
        Self { nature, internal: told(error), told: None, state: error.code().cloned() }
    }

    /// The commit failed, or its answer did not come.
    pub(super) fn at_commit(error: &Error) -> Self {
        Self {
            nature: Nature::Unknown,
            internal: format!("the answer to COMMIT: {}", told(error)),
            told: None,
            state: None,
        }
    }

    /// It is there already: of an earlier call whose answer was lost.
    pub(super) fn is_duplicate(&self) -> bool {
        self.state == Some(SqlState::DUPLICATE_OBJECT)
    }

    /// Whether the same again may do better at once: others changed what it was about.
    pub(super) fn is_race(&self) -> bool {
        let races = [
            SqlState::UNDEFINED_OBJECT,
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::INTERNAL_ERROR,
            SqlState::INVALID_GRANT_OPERATION,
            SqlState::DUPLICATE_OBJECT,
            SqlState::UNIQUE_VIOLATION,
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_FUNCTION,
        ];
        self.state.as_ref().is_some_and(|state| races.contains(state))
    }

    pub(super) fn into_unknown(self) -> Self {
        Self { nature: Nature::Unknown, ..self }
    }
}

/// Whether trying again helps nobody.
fn is_lasting(state: &SqlState) -> bool {
    let class = state.code().get(..2).unwrap_or_default();
    // Locks (55P03), cancellations and shutdowns (57), resources (53), connections (08), conflicts (40), the system (58).
    !matches!(class, "08" | "40" | "53" | "55" | "57" | "58" | "XX")
}

/// What went wrong, without the statement: that may hold what is secret.
fn told(error: &Error) -> String {
    let text = match error.as_db_error() {
        Some(db) => format!("{} {}", db.code().code(), words(db)),
        None => match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    };
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

/// The server repeats a part of the statement only where it cannot be read, and of values only what casts wrongly.
fn words(db: &DbError) -> &str {
    let class = db.code().code().get(..2).unwrap_or_default();
    if class == "22" || *db.code() == SqlState::SYNTAX_ERROR { "(its words are left out)" } else { db.message() }
}

impl From<Failure> for IssueError {
    fn from(failure: Failure) -> Self {
        match failure.nature {
            Nature::Refused => {
                let state = failure.state.as_ref().map(|state| format!(" (SQLSTATE {})", state.code()));
                let detail = failure.told.unwrap_or("the server does not let such a user be made");
                Self::refused(format!("{detail}{}", state.unwrap_or_default())).because(failure.internal)
            }
            Nature::Unavailable => Self::Unavailable { internal: failure.internal },
            Nature::Unknown => Self::OutcomeUnknown { internal: failure.internal },
        }
    }
}

impl From<Failure> for RevokeError {
    fn from(failure: Failure) -> Self {
        Self { internal: failure.internal }
    }
}

impl From<Failure> for ExtendError {
    fn from(failure: Failure) -> Self {
        match failure.nature {
            Nature::Refused => Self::Refused(failure.internal),
            Nature::Unavailable | Nature::Unknown => Self::Unavailable(failure.internal),
        }
    }
}
