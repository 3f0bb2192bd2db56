//! The ends of what was made under a token. The server ends leases after it has answered that their token is revoked, and
//! tries for ever where it cannot: so each is ended here and seen to be gone before anything is said to be.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use hallpass_core::time::Clock;
use serde::{Deserialize, Serialize};

use super::login::Broker;
use crate::outbound::vault::{Ask, VaultError};

/// How many leases are looked at side by side.
const AT_ONCE: usize = 8;
/// How many are before it is noted how far it came: what is given up begins there again.
const PART: usize = 64;
/// How many one call looks at. What is left is for the next one, so that none outlasts its deadline.
const MOST_AT_A_CALL: usize = 1_024;

/// Ends a lease, and makes sure that it is gone.
pub(super) async fn end(broker: &Broker, lease: &str) -> Result<(), String> {
    let body = ToRevoke { lease_id: lease, sync: true };
    let ask = Ask::write("sys/leases/revoke", &body).map_err(|error| error.to_string())?.repeatable();
    match broker.ask(ask).await {
        Ok(_) => {}
        Err(error) if error.is_absent() => {}
        Err(error) => return Err(format!("sys/leases/revoke: {error}")),
    }
    match look_up(broker, lease).await {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err("its lease is still there after it was revoked".to_owned()),
        Err(error) => Err(format!("whether its lease is gone could not be seen: sys/leases/lookup: {error}")),
    }
}

/// Ends the leases of a path whose token is revoked, whoever they were for: those of a token that was revoked are over by
/// then, and wait to be ended. So where none is over, none of an unheard answer is left.
///
/// A path may have more live leases than one call can look at. A walk through them keeps its place, and all who wait for
/// one share it: one that began after their token was revoked is as good as their own.
#[derive(Debug, Default)]
pub(super) struct Walks {
    paths: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Walk>>>>,
    /// Since when, in monotonic time, a token is known to be revoked, by its accessor: of those that still wait.
    revoked: Mutex<HashMap<String, Duration>>,
}

#[derive(Debug, Default)]
struct Walk {
    /// When the walk under way began, and what it has not looked at.
    under_way: Option<(Duration, Vec<String>)>,
    /// When the last that came to its end began.
    finished: Option<Duration>,
}

impl Walks {
    /// Ends the leases of `path` that are over, among them all of the token of `accessor`, which is revoked.
    pub(super) async fn end_those_over(
        &self,
        broker: &Broker,
        clock: &dyn Clock,
        accessor: &str,
        path: &str,
    ) -> Result<(), String> {
        let now = clock.monotonic();
        let since = *self.revoked().entry(accessor.to_owned()).or_insert(now);
        let walk = {
            let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(paths.entry(path.to_owned()).or_default())
        };
        let mut walk = walk.lock().await;
        let mut looked_at = 0_usize;
        while walk.finished.is_none_or(|began| began < since) {
            let began = clock.monotonic();
            if walk.under_way.is_none() {
                walk.under_way = Some((began, list(broker, path).await?));
            }
            let Walk { under_way: Some((began, left)), finished } = &mut *walk else { continue };
            while let Some(from) = (!left.is_empty()).then(|| left.len().saturating_sub(PART)) {
                if looked_at >= MOST_AT_A_CALL {
                    return Err(format!("{} leases of {path} are still to be looked at; it goes on there", left.len()));
                }
                end_if_over(broker, path, left.get(from..).unwrap_or_default()).await?;
                looked_at = looked_at.saturating_add(left.len().saturating_sub(from));
                left.truncate(from);
            }
            *finished = Some(*began);
            walk.under_way = None;
        }
        self.revoked().remove(accessor);
        Ok(())
    }

    fn revoked(&self) -> std::sync::MutexGuard<'_, HashMap<String, Duration>> {
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn list(broker: &Broker, path: &str) -> Result<Vec<String>, String> {
    match broker.ask(Ask::list(&format!("sys/leases/lookup/{path}"))).await {
        Ok(answered) => {
            let Listed { data } = answered.read().map_err(|error| error.to_string())?;
            Ok(data.keys)
        }
        Err(VaultError::Refused { status: 404, .. }) => Ok(Vec::new()),
        Err(error) => Err(format!("sys/leases/lookup: {error}")),
    }
}

async fn end_if_over(broker: &Broker, path: &str, keys: &[String]) -> Result<(), String> {
    let checked = futures_util::stream::iter(keys.to_vec()).map(async |key| {
        let lease = format!("{path}/{key}");
        match look_up(broker, &lease).await {
            Ok(Some(ttl)) if ttl <= 0 => end(broker, &lease).await,
            Ok(_) => Ok(()),
            Err(error) => Err(format!("sys/leases/lookup: {error}")),
        }
    });
    checked.buffer_unordered(AT_ONCE).try_collect().await
}

/// How many seconds a lease has left; none where it is gone.
async fn look_up(broker: &Broker, lease: &str) -> Result<Option<i64>, VaultError> {
    let ask = Ask::write("sys/leases/lookup", &ToLookUp { lease_id: lease })?.repeatable();
    match broker.ask(ask).await {
        Ok(answered) => answered.read().map(|LookedUp { data }| Some(data.ttl)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

#[derive(Serialize)]
struct ToRevoke<'a> {
    lease_id: &'a str,
    sync: bool,
}

#[derive(Serialize)]
struct ToLookUp<'a> {
    lease_id: &'a str,
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
struct LookedUp {
    data: Left,
}

#[derive(Deserialize)]
struct Left {
    #[serde(default)]
    ttl: i64,
}
