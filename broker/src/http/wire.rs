//! Where the domain and the wire meet: wire types never go further in than this, domain types no further out.

mod attestation;
mod audit;
mod catalog;
mod command;
mod configuration;
mod credential;
mod decision;
mod grant;
mod identity;
mod request;

use hallpass_core::time::{Timestamp, Ttl};
use hallpass_sdk::wire;

pub(super) use attestation::attestations;
pub(super) use audit::{consistency, entry, inclusion, receipt};
pub(super) use catalog::{owner, role};
pub(super) use command::{
    begun, preview, quarantine, quarantine_path, quarantining, revocation_path, revoke_set, standing,
};
pub(super) use configuration::{configuration, difference, findings, publication, revision};
pub(super) use credential::credential;
pub(super) use decision::foreseen;
pub(super) use grant::{Origins, grant};
pub(super) use identity::who_am_i;
pub(super) use request::{grant_request, life, replaces, scope, task, ticket};

/// An instant; one outside the years that RFC 3339 can write is moved to their end.
fn at(instant: Timestamp) -> wire::Timestamp {
    const YEAR_9999_END: i64 = 253_402_300_799_999;
    let millis = instant.as_millis().clamp(0, YEAR_9999_END);
    wire::Timestamp::from_unix_millis(millis).unwrap_or_else(|_| wire::Timestamp::new(time::OffsetDateTime::UNIX_EPOCH))
}

fn lasting(ttl: Ttl) -> wire::Duration {
    wire::Duration::from_secs(ttl.as_secs())
}

/// The word that serde has for a closed set's member.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// The members of a value that is an object.
fn members(value: impl serde::Serialize) -> serde_json::Map<String, serde_json::Value> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::Object(members)) => members,
        _ => serde_json::Map::new(),
    }
}
