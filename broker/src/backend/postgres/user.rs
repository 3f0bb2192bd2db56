//! A user of the server that belongs to a grant: its name, what the server knows it by, and what it takes to undo it.

use hallpass_core::credential::{Handle, IssueOrder};
use hallpass_core::id::GrantId;
use hallpass_core::secret::SecretBytes;
use serde::{Deserialize, Serialize};

use super::parameters::Parameters;
use super::statement::{Statement, Values};

/// What the names of all users begin with.
pub(super) const PREFIX: &str = "hp_";
/// How much of the role's name is in it. With what else there is, 60 bytes of the 63 that a name may have.
const SLUG_BYTES: usize = 30;
/// RFC 4648 §6, in lower case: no letter that a database would fold.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The name of a grant's user. Of the grant's id there is all, so that two grants never share one.
pub(super) fn name(role: &str, grant: GrantId) -> String {
    let slug = role.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
    let slug: String = slug.take(SLUG_BYTES).collect();
    format!("{PREFIX}{slug}_{}", base32(grant))
}

/// Whether `name` is one of a user of this grant, of whatever role.
pub(super) fn is_name_of(name: &str, grant: GrantId) -> bool {
    name.starts_with(PREFIX) && name.ends_with(&format!("_{}", base32(grant)))
}

fn base32(grant: GrantId) -> String {
    let id = grant.as_uuid().as_u128();
    // 26 digits of 5 bits: two bits more than there are.
    let digit = |at: u32| BASE32.get(((id >> (5 * at)) & 31) as usize).copied().map(char::from);
    (0..26).rev().filter_map(digit).collect()
}

/// What it takes to undo a user, and to extend its life: all of it, since its role may be another by then, or gone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Undoing {
    /// The user.
    pub(super) user: String,
    /// Its id at the server, by which sessions are found even after somebody dropped it. Known after it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) oid: Option<u32>,
    /// Where its statements run.
    pub(super) database: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reassign_owned_to: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) renew: Vec<Statement>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) revocation: Vec<Statement>,
    #[serde(default, skip_serializing_if = "Values::is_empty")]
    pub(super) values: Values,
}

impl Undoing {
    pub(super) fn of(order: &IssueOrder, parameters: &Parameters, database: &str) -> Self {
        Self {
            user: name(order.role.name.as_str(), order.grant),
            oid: None,
            database: database.to_owned(),
            reassign_owned_to: parameters.reassign_owned_to.clone(),
            renew: parameters.renew.clone(),
            revocation: parameters.revocation.clone(),
            values: values(order, database),
        }
    }

    /// Of a user that was found at the server.
    pub(super) fn found(user: String, oid: u32, database: String, reassign_owned_to: Option<String>) -> Self {
        Self {
            user,
            oid: Some(oid),
            database,
            reassign_owned_to,
            renew: Vec::new(),
            revocation: Vec::new(),
            values: Values::new(),
        }
    }

    pub(super) fn to_handle(&self) -> Result<Handle, serde_json::Error> {
        Ok(Handle(SecretBytes::new(serde_json::to_vec(self)?)))
    }

    pub(super) fn from_handle(handle: &Handle) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(handle.0.expose())
    }
}

/// What statements are filled in with, but for the expiration.
fn values(order: &IssueOrder, database: &str) -> Values {
    let values = [
        ("name", name(order.role.name.as_str(), order.grant)),
        ("grant", order.grant.to_string()),
        ("role", order.role.name.as_str().to_owned()),
        ("owner", order.owner.name.as_str().to_owned()),
        ("purpose", order.purpose.clone()),
        ("issuer", order.issuer.clone()),
        ("subject", order.subject.clone()),
        ("database", database.to_owned()),
    ];
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What stands in the comment of a user: for the inventory, and for whoever looks at the server.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Comment {
    /// Origin of the broker.
    pub(super) hallpass: String,
    /// Its name for the server.
    pub(super) backend: String,
    pub(super) grant: GrantId,
    pub(super) owner: String,
    pub(super) role: String,
    pub(super) purpose: String,
    pub(super) database: String,
    #[serde(default)]
    pub(super) reassign_owned_to: Option<String>,
}

#[cfg(test)]
mod tests {
    use hallpass_core::testing::sample;

    use super::*;

    #[test]
    fn a_name_is_the_grants_own_and_short_enough() {
        let grant: GrantId = sample::id(7);
        let long = name(&"payments/PROD/very-long/".repeat(5), grant);
        assert!(long.len() <= 63 && long.is_ascii(), "{long}");
        assert!(is_name_of(&long, grant) && !is_name_of(&long, sample::id(8)));
        assert_ne!(name("a", grant), name("a", sample::id(8)));
        assert_eq!(base32(uuid::Uuid::from_u128(0).into()), "a".repeat(26));
        assert_eq!(base32(uuid::Uuid::from_u128(33).into()), format!("{}bb", "a".repeat(24)));
    }
}
