//! What a role of Vault gives, and so how it can be stopped.

use hallpass_core::credential::RevocationClass;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The engine that makes a role's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Vault itself: a token.
    Token,
    /// A user of a database, which the end of its lease drops.
    Database,
    /// A user of RabbitMQ, which the end of its lease deletes.
    RabbitMq,
    /// A certificate, which the authority's revocation list names after its end.
    Pki,
    /// An SSH certificate, which nothing takes back.
    Ssh,
    /// A token of a service account, which nothing takes back.
    Kubernetes,
    /// A secret that somebody wrote, the same for everybody.
    Kv,
    /// Any other: nothing is promised of what the end of its lease does.
    Other,
}

/// A path whose engine is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownEngine {
    /// What is wrong and what would be right.
    pub problem: String,
}

impl Engine {
    const ALL: [Self; 7] =
        [Self::Database, Self::RabbitMq, Self::Pki, Self::Ssh, Self::Kubernetes, Self::Kv, Self::Other];

    /// The engine of a role with these parameters: a token where there is no `path`, what `engine` says, or what the
    /// usual mount is named after.
    ///
    /// # Errors
    /// [`UnknownEngine`].
    pub fn of(parameters: &Value) -> Result<Self, UnknownEngine> {
        let (path, engine) = (parameters.get("path"), parameters.get("engine"));
        let known = || Self::ALL.map(Self::as_str).join(", ");
        match (path, engine) {
            (None, None) => Ok(Self::Token),
            (None, Some(_)) => Err(UnknownEngine { problem: "goes with `path`".to_owned() }),
            (Some(_), Some(engine)) => {
                let named = engine.as_str().and_then(|name| Self::ALL.into_iter().find(|one| one.as_str() == name));
                named.ok_or_else(|| UnknownEngine { problem: format!("must be one of {}", known()) })
            }
            (Some(path), None) => {
                let mount = path.as_str().and_then(|path| path.split('/').next()).unwrap_or_default();
                let usual = Self::ALL
                    .into_iter()
                    .filter(|one| *one != Self::Other)
                    .find(|one| mount == one.as_str() || (*one == Self::Kv && mount == "secret"));
                usual.ok_or_else(|| UnknownEngine {
                    problem: format!("is missing: the mount {mount:?} does not tell it; one of {}", known()),
                })
            }
        }
    }

    /// The word used in configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Database => "database",
            Self::RabbitMq => "rabbitmq",
            Self::Pki => "pki",
            Self::Ssh => "ssh",
            Self::Kubernetes => "kubernetes",
            Self::Kv => "kv",
            Self::Other => "other",
        }
    }

    /// How what it gives can be stopped.
    #[must_use]
    pub const fn class(self) -> RevocationClass {
        match self {
            Self::Token | Self::Database | Self::RabbitMq => RevocationClass::Hard,
            Self::Pki => RevocationClass::Fenced,
            Self::Ssh | Self::Kubernetes | Self::Kv | Self::Other => RevocationClass::ExpiryOnly,
        }
    }
}
