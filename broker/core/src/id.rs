//! Identifiers: ids that we make, and names that configuration gives.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

/// A UUIDv7 from an injected time and injected random bytes.
pub(crate) fn fresh_uuid(now: Timestamp, random: [u8; 10]) -> Uuid {
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// The id as a UUID.
            #[must_use]
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                // Only the canonical form: an id has one spelling, in logs as in paths.
                let id = Uuid::try_parse(text).map_err(|_| InvalidId)?;
                if id.hyphenated().to_string() == text { Ok(Self(id)) } else { Err(InvalidId) }
            }
        }
    };
}

/// A text that is not an id in its canonical, lower-case, hyphenated form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id: write a lower-case, hyphenated UUID")]
pub struct InvalidId;

uuid_id!(
    /// Identifies a grant.
    GrantId
);
uuid_id!(
    /// Identifies a recorded decision.
    DecisionId
);
uuid_id!(
    /// Identifies one request to the broker; answered in `X-Request-Id` and written into the audit log.
    RequestId
);
uuid_id!(
    /// Identifies a chain of re-exchanges by the same workload for the same role.
    LineageId
);
uuid_id!(
    /// Identifies one worker's exclusive, expiring hold on a due grant.
    ReservationId
);
uuid_id!(
    /// Identifies one append-only audit log (each replica writes its own).
    LogId
);
uuid_id!(
    /// Identifies a signing key of the broker's own.
    KeyId
);
uuid_id!(
    /// Identifies the revocation of a set of grants.
    RevocationId
);
uuid_id!(
    /// Identifies a quarantine.
    QuarantineId
);
uuid_id!(
    /// Identifies what a backend prepared ahead of any grant.
    SpareId
);

/// A name that breaks the rules of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {value:?}: {rule}")]
pub struct InvalidName {
    /// What was being named.
    pub kind: &'static str,
    /// The name as given, cut to 200 characters.
    pub value: String,
    /// What would be right.
    pub rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:path, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps a name.
            ///
            /// # Errors
            /// [`InvalidName`] says which rule the name breaks.
            pub fn new(value: impl Into<String>) -> Result<Self, InvalidName> {
                let value = value.into();
                if $check(&value) {
                    Ok(Self(value))
                } else {
                    Err(InvalidName { kind: $kind, value: value.chars().take(200).collect(), rule: $rule })
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(value: String) -> Result<Self, InvalidName> {
                Self::new(value)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(value: &str) -> Result<Self, InvalidName> {
                Self::new(value)
            }
        }
    };
}

fn is_segment(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    first && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'))
}

fn is_simple(text: &str) -> bool {
    text.len() <= 64 && is_segment(text)
}

fn is_path(text: &str) -> bool {
    text.len() <= 160 && text.split('/').count() <= 8 && text.split('/').all(is_segment)
}

fn is_policy_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/' | b':'))
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

name!(
    /// The name of a role, a path such as `payments/prod/deploy`.
    RoleName, "role", is_path,
    "use at most 8 segments of lower-case letters, digits, '-', '_' and '.', joined by '/', 160 characters in all"
);
name!(
    /// The name of an owner: a team that answers for roles.
    OwnerName, "owner", is_simple, "use at most 64 lower-case letters, digits, '-', '_' and '.'"
);
name!(
    /// The configured name of an issuer (not its URL).
    IssuerName, "issuer", is_simple, "use at most 64 lower-case letters, digits, '-', '_' and '.'"
);
name!(
    /// The configured name of a backend.
    BackendName, "backend", is_simple, "use at most 64 lower-case letters, digits, '-', '_' and '.'"
);
name!(
    /// The configured name of who signs statements about changes and builds.
    AttestorName, "attestor", is_simple, "use at most 64 lower-case letters, digits, '-', '_' and '.'"
);
name!(
    /// The name of an environment such as `production`.
    EnvironmentName, "environment", is_simple, "use at most 64 lower-case letters, digits, '-', '_' and '.'"
);
name!(
    /// The `@id` of a policy.
    PolicyId, "policy id", is_policy_id, "use at most 128 letters, digits and '-', '_', '.', '/', ':'"
);
name!(
    /// A bundle revision: the lower-case hexadecimal SHA-256 of its content.
    RevisionId, "revision", is_digest, "a revision is 64 lower-case hexadecimal digits"
);

impl RoleName {
    /// Whether it lies in the namespace of the built-in roles. Policies trust what comes by way of those, so
    /// configuration cannot make a role there.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.namespaces().next() == Some(IssuerName::RESERVED)
    }

    /// The namespaces that hold this role, outermost first: `payments`, `payments/prod` for `payments/prod/deploy`.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').filter_map(|(at, _)| self.0.get(..at))
    }
}

impl OwnerName {
    /// The owner of the built-in roles: whoever runs the broker. Configuration cannot use it.
    pub const RESERVED: &'static str = IssuerName::RESERVED;
}

impl IssuerName {
    /// The issuer name of the broker itself; configuration cannot use it.
    pub const RESERVED: &'static str = "hallpass";

    /// The broker itself as an issuer.
    #[must_use]
    pub fn hallpass() -> Self {
        Self(Self::RESERVED.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_names_are_paths_without_surprises() {
        for good in ["deploy", "payments/prod/deploy", "a.b/c-d/e_f"] {
            assert!(RoleName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "a/", "/a", "a//b", "A", "a b", "../etc", "a/..", "a/-b", "a/b/c/d/e/f/g/h/i", "é", "a\n"]
        {
            assert!(RoleName::new(bad).is_err(), "{bad:?}");
        }
        let role = RoleName::new("payments/prod/deploy").unwrap();
        assert_eq!(role.namespaces().collect::<Vec<_>>(), ["payments", "payments/prod"]);
    }

    #[test]
    fn an_id_has_one_spelling() {
        let text = "01890a5d-ac96-774b-bcce-b302099a8057";
        assert_eq!(text.parse::<GrantId>().unwrap().to_string(), text);
        for bad in [text.to_uppercase(), text.replace('-', ""), format!("{{{text}}}"), String::new()] {
            assert_eq!(bad.parse::<GrantId>(), Err(InvalidId), "{bad}");
        }
    }
}
