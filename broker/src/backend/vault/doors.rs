//! Other doors to what the roles reach: roles and users of the auth methods, and token roles, that give the same
//! policies. What the broker's own policy does not let it read, it does not see, and says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hallpass_core::time::Clock;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::login::Broker;
use crate::outbound::vault::{Ask, VaultError};

/// How often they are looked for: they change with the server's configuration.
const PERIOD: Duration = Duration::from_mins(5);
/// Most roles that are read of one auth method.
const MOST: usize = 500;

/// The doors that were found last.
pub(super) struct Doors {
    clock: Arc<dyn Clock>,
    /// The policies of the broker's roles.
    policies: Mutex<BTreeSet<String>>,
    found: tokio::sync::Mutex<Option<Found>>,
    /// What could not be seen, said once.
    unseen: Mutex<BTreeSet<String>>,
}

/// What was found.
struct Found {
    at: Duration,
    /// For these policies.
    wanted: BTreeSet<String>,
    doors: Vec<String>,
}

impl Doors {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let (policies, found, unseen) = Default::default();
        Self { clock, policies, found, unseen }
    }

    /// From now on, other doors to these policies are looked for.
    pub(super) fn look_for(&self, policies: BTreeSet<String>) {
        *self.policies.lock().unwrap_or_else(PoisonError::into_inner) = policies;
    }

    /// The doors, as paths of the server's configuration. `own` are not counted: what the broker itself comes in by.
    pub(super) async fn all(&self, broker: &Broker, own: &[String]) -> Result<Vec<String>, VaultError> {
        let now = self.clock.monotonic();
        let mut found = self.found.lock().await;
        let wanted = self.policies.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_fresh = |found: &&Found| now.saturating_sub(found.at) < PERIOD && found.wanted == wanted;
        if let Some(found) = found.as_ref().filter(is_fresh) {
            return Ok(found.doors.clone());
        }
        let mut doors = Vec::new();
        for (mount, folder) in self.folders(broker).await? {
            for path in self.below(broker, &format!("auth/{mount}{folder}")).await? {
                if !own.contains(&path) && self.gives(broker, &path, &wanted).await? {
                    doors.push(path);
                }
            }
        }
        *found = Some(Found { at: now, wanted, doors: doors.clone() });
        Ok(doors)
    }

    /// The auth methods, and where each keeps whom it lets in.
    async fn folders(&self, broker: &Broker) -> Result<Vec<(String, &'static str)>, VaultError> {
        let Some(answered) = self.seen("sys/auth", broker.ask(Ask::read("sys/auth")).await)? else {
            return Ok(Vec::new());
        };
        let Mounts { data } = answered.read()?;
        let folder = |method: Method<'_>| match method.r#type {
            "jwt" | "oidc" | "kubernetes" | "approle" => Some("role"),
            "token" => Some("roles"),
            "userpass" | "ldap" => Some("users"),
            "cert" => Some("certs"),
            _ => None,
        };
        let methods = data.into_iter().filter_map(|(mount, method)| {
            let method: Method<'_> = serde_json::from_str(method.get()).ok()?;
            Some((mount.to_owned(), folder(method)?))
        });
        Ok(methods.collect())
    }

    async fn below(&self, broker: &Broker, folder: &str) -> Result<Vec<String>, VaultError> {
        let listed = broker.ask(Ask::list(folder)).await;
        let Some(answered) = self.seen(folder, listed)? else { return Ok(Vec::new()) };
        let Listed { data } = answered.read()?;
        if data.keys.len() > MOST {
            tracing::warn!(folder, most = MOST, "not all of what may be doors is looked at");
        }
        Ok(data.keys.into_iter().take(MOST).map(|key| format!("{folder}/{key}")).collect())
    }

    /// Whether a token that is had there may do what one of the broker's roles may.
    async fn gives(&self, broker: &Broker, path: &str, wanted: &BTreeSet<String>) -> Result<bool, VaultError> {
        let Some(answered) = self.seen(path, broker.ask(Ask::read(path)).await)? else { return Ok(false) };
        let Read { data } = answered.read()?;
        let lists = [data.token_policies, data.policies, data.allowed_policies];
        Ok(lists.into_iter().flatten().flatten().any(|policy| wanted.contains(&policy)))
    }

    /// None where it may not be seen, or is not there.
    fn seen<T>(&self, path: &str, answered: Result<T, VaultError>) -> Result<Option<T>, VaultError> {
        match answered {
            Ok(answer) => Ok(Some(answer)),
            Err(VaultError::Refused { status: 404 | 405, .. }) => Ok(None),
            Err(VaultError::Refused { said, .. }) => {
                if self.unseen.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned()) {
                    tracing::info!(path, said, "the broker's policy does not let it see whether this is another door");
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

#[derive(Deserialize)]
struct Mounts<'a> {
    #[serde(borrow)]
    data: BTreeMap<&'a str, &'a RawValue>,
}

#[derive(Deserialize)]
struct Method<'a> {
    r#type: &'a str,
}

#[derive(Deserialize)]
struct Listed {
    data: Keys,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

#[derive(Deserialize)]
struct Read {
    data: Giving,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Giving {
    token_policies: Option<Vec<String>>,
    policies: Option<Vec<String>>,
    allowed_policies: Option<Vec<String>>,
}
