//! The token roles that parents come from, as they are: a spare that was made before its token role was tightened has what
//! that no longer gives, and is used for nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::login::Broker;
use crate::config::role::hex;
use crate::outbound::vault::{Ask, VaultError};

/// What is known of each, by its name: a digest of all that the server says of it. None where the broker may not read it.
#[derive(Debug, Default)]
pub(super) struct TokenRoles(Mutex<HashMap<String, Option<String>>>);

impl TokenRoles {
    /// How a spare that is about to be made says later what it was made by.
    pub(super) async fn mark(&self, broker: &Broker, name: &str) -> Result<Option<String>, VaultError> {
        let known = self.known(name);
        let seen = match known {
            Some(seen) => seen,
            None => self.look(broker, name).await?,
        };
        Ok(seen.map(|seen| format!("{name} {seen}")))
    }

    /// Whether a token role is still as it was when this mark was made, as far as was looked.
    pub(super) fn is_as_it_was(&self, mark: &str) -> bool {
        let Some((name, seen)) = mark.rsplit_once(' ') else { return false };
        self.known(name).is_none_or(|now| now.is_none_or(|now| now == seen))
    }

    /// Looks at all again that spares were made by.
    pub(super) async fn tend(&self, broker: &Broker) -> Result<(), VaultError> {
        let names: Vec<String> = self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        for name in names {
            self.look(broker, &name).await?;
        }
        Ok(())
    }

    fn known(&self, name: &str) -> Option<Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    async fn look(&self, broker: &Broker, name: &str) -> Result<Option<String>, VaultError> {
        let path = format!("auth/token/roles/{name}");
        let seen = match broker.ask(Ask::read(&path)).await {
            Ok(answered) => {
                let read: Value = answered.read()?;
                let said = read.get("data").map(Value::to_string).unwrap_or_default();
                Some(hex(digest(&SHA256, said.as_bytes()).as_ref()))
            }
            // Not permitted to see it. Where it is gone nothing is made by it, nor with what was.
            Err(VaultError::Refused { status: 403, .. }) => None,
            Err(VaultError::Refused { status: 404, .. }) => Some("gone".to_owned()),
            Err(error) => return Err(error),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), seen.clone());
        Ok(seen)
    }
}
