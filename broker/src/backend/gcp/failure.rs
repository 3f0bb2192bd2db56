//! What Google Cloud says when it does not do what it is asked to.
//! <https://cloud.google.com/iam/docs/troubleshooting-workload-identity-federation>,
//! <https://cloud.google.com/apis/design/errors>

use hallpass_core::port::{IssueError, scrubbed};
use serde::Deserialize;

use crate::backend::rest::Answered;

/// Of the Security Token Service (RFC 6749 §5.2).
#[derive(Debug, Default, Deserialize)]
struct OAuth {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

/// Of other APIs.
#[derive(Debug, Default, Deserialize)]
struct Other {
    #[serde(default)]
    error: Status,
}

#[derive(Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    status: String,
    #[serde(default)]
    message: String,
}

/// In Google's words, for the operator: they name projects and accounts.
pub(super) fn told(answered: &Answered) -> String {
    let (word, message) = words(answered);
    format!("{} {word} {message}", answered.status)
}

fn words(answered: &Answered) -> (String, String) {
    let oauth = answered.read::<OAuth>().map(|oauth| (oauth.error, oauth.error_description));
    let other = answered.read::<Other>().map(|Other { error }| (error.status, error.message));
    let (word, message) = oauth.or(other).unwrap_or_default();
    (scrubbed(&word), scrubbed(&message))
}

/// The broker's own session was not made: no credential can have been.
pub(super) fn of_session(answered: &Answered) -> IssueError {
    let (word, _) = words(answered);
    let detail = match (answered.status, word.as_str()) {
        (408 | 429, _) | (500.., _) => return IssueError::Unavailable { internal: format!("sts: {}", told(answered)) },
        (_, "invalid_target") => "the workload identity pool or its provider is not there, or disabled",
        (_, "unauthorized_client") => "the provider's attribute condition does not let the broker in",
        (_, "invalid_grant") => {
            "the provider does not take the broker's token: it cannot fetch the broker's keys, or expects another audience or issuer"
        }
        _ => "the Security Token Service does not take the broker's token",
    };
    refused(detail, answered)
}

/// The service account's token was not made.
pub(super) fn of_token(answered: &Answered) -> IssueError {
    let detail = match answered.status {
        400 => "Google Cloud makes no such token: the scope, or so long a life, is not allowed",
        401 => "Google Cloud does not take the broker's session",
        403 => "the broker may not make tokens of the role's service account: it needs Workload Identity User on it",
        404 => "the role's service account is not there",
        429 => return IssueError::Unavailable { internal: format!("iamcredentials: {}", told(answered)) },
        // Of something in between that waited too long: it may have passed the request on.
        408 => return IssueError::OutcomeUnknown { internal: format!("iamcredentials: {}", told(answered)) },
        status @ 300..=499 => {
            return refused(&format!("Google Cloud makes no token as it is asked for ({status})"), answered);
        }
        _ => return IssueError::OutcomeUnknown { internal: format!("iamcredentials: {}", told(answered)) },
    };
    refused(detail, answered)
}

/// A token was made, and could not be bounded: it is dropped, and lives until it expires, held by nobody.
pub(super) fn of_boundary(answered: &Answered) -> IssueError {
    let internal = format!("a token was made and dropped, since it could not be bounded: sts: {}", told(answered));
    IssueError::OutcomeUnknown { internal }
}

fn refused(detail: &str, answered: &Answered) -> IssueError {
    IssueError::refused(detail).because(told(answered))
}
