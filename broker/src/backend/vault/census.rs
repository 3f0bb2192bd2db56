//! Which tokens there are at the server, and which of them are ours: by their metadata.
//!
//! A token says the same of itself for as long as it lives, so each is looked up once. Whoever asks while a count runs
//! waits for the next one, which they all share: a count that had begun before says nothing of what came after.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use hallpass_core::id::BackendName;
use hallpass_core::port::Belongs;
use hallpass_core::time::Clock;
use serde::Deserialize;

use super::login::Broker;
use super::parents::{self, BACKEND, GRANT, INSTANCE, Looked, PATH, SPARE};
use super::trace::Trace;
use crate::outbound::vault::{Ask, VaultError};

/// How many tokens are looked up side by side.
const AT_ONCE: usize = 8;

/// The tokens at the server.
pub(super) struct Census {
    instance: String,
    backend: BackendName,
    clock: Arc<dyn Clock>,
    /// What is known of each: none of one that is not ours.
    known: Mutex<HashMap<String, Option<Ours>>>,
    /// When the last whole count began, in monotonic time.
    counted: tokio::sync::Mutex<Option<Duration>>,
}

/// What is known of a token of ours.
#[derive(Clone, Debug)]
struct Ours {
    belongs: Belongs,
    engine: crate::config::backend::vault::Engine,
    path: Option<String>,
}

impl Census {
    pub(super) fn new(instance: &str, backend: BackendName, clock: Arc<dyn Clock>) -> Self {
        let (known, counted) = Default::default();
        Self { instance: instance.to_owned(), backend, clock, known, counted }
    }

    /// The accessors of all tokens, with the trace of each that is ours.
    pub(super) async fn all(&self, broker: &Broker) -> Result<Vec<(String, Option<Trace>)>, VaultError> {
        self.count(broker).await?;
        let known = self.known();
        let traced = known.iter().map(|(accessor, ours)| (accessor.clone(), ours.as_ref().map(|o| o.trace(accessor))));
        Ok(traced.collect())
    }

    /// The accessors of what was made for somebody: more than one where an answer was lost and it was asked for again.
    pub(super) async fn of(&self, broker: &Broker, whose: Belongs) -> Result<Vec<String>, VaultError> {
        self.count(broker).await?;
        let is_theirs = |ours: &Option<Ours>| ours.as_ref().is_some_and(|ours| ours.belongs == whose);
        Ok(self.known().iter().filter(|(_, ours)| is_theirs(ours)).map(|(accessor, _)| accessor.clone()).collect())
    }

    /// Counts, unless somebody has since this was called.
    async fn count(&self, broker: &Broker) -> Result<(), VaultError> {
        let asked = self.clock.monotonic();
        let mut counted = self.counted.lock().await;
        if counted.is_some_and(|began| began > asked) {
            return Ok(());
        }
        let began = self.clock.monotonic();
        let accessors = match broker.ask(Ask::list("auth/token/accessors")).await {
            Ok(answered) => answered.read().map(|Listed { data }| data.keys)?,
            // It lists the token that asks, too.
            Err(error) => return Err(error),
        };
        let unknown: Vec<_> = {
            let mut known = self.known();
            let listed: std::collections::HashSet<_> = accessors.iter().collect();
            known.retain(|accessor, _| listed.contains(accessor));
            accessors.into_iter().filter(|accessor| !known.contains_key(accessor)).collect()
        };
        let looked_up = futures_util::stream::iter(unknown).map(async |accessor| {
            if let Some(looked) = parents::look_up(broker, &accessor).await? {
                // At once, so that a count that is given up is not for nothing.
                self.known().insert(accessor, self.ours(&looked));
            }
            Ok(())
        });
        looked_up.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        *counted = Some(began);
        Ok(())
    }

    fn ours(&self, looked: &Looked) -> Option<Ours> {
        let is = |name: &str, value: &str| looked.meta(name) == Some(value);
        if !is(INSTANCE, &self.instance) || !is(BACKEND, self.backend.as_str()) {
            return None;
        }
        let grant = looked.meta(GRANT).and_then(|id| id.parse().ok()).map(Belongs::ToGrant);
        let belongs = grant.or_else(|| looked.meta(SPARE).and_then(|id| id.parse().ok()).map(Belongs::ToSpare))?;
        Some(Ours { belongs, engine: looked.engine(), path: looked.meta(PATH).map(str::to_owned) })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Option<Ours>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ours {
    fn trace(&self, accessor: &str) -> Trace {
        let mut trace = Trace::planned(self.belongs, self.engine, self.path.as_deref());
        trace.accessor = Some(accessor.to_owned());
        trace
    }
}

#[derive(Deserialize)]
struct Listed {
    data: Keys,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}
