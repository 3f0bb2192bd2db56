//! The ends of what was made under a token. The server ends leases after it has answered that their token is revoked, and
//! tries for ever where it cannot: so each is ended here and seen to be gone before anything is said to be.

use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};

use super::login::Broker;
use crate::outbound::vault::{Ask, VaultError};

/// How many leases are looked at side by side.
const AT_ONCE: usize = 8;

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

/// Ends the leases of `path` whose token is revoked, whoever they were for: those of a token that was revoked are over by
/// then, and wait to be ended. So where none is over, none of an unheard answer is left.
pub(super) async fn end_those_over(broker: &Broker, path: &str) -> Result<(), String> {
    let below = format!("sys/leases/lookup/{path}");
    let keys = match broker.ask(Ask::list(&below)).await {
        Ok(answered) => {
            let Listed { data } = answered.read().map_err(|error| error.to_string())?;
            data.keys
        }
        Err(VaultError::Refused { status: 404, .. }) => return Ok(()),
        Err(error) => return Err(format!("sys/leases/lookup: {error}")),
    };
    let checked = futures_util::stream::iter(keys).map(async |key| {
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
