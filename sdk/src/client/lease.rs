//! A lease: a live credential whose grant is kept alive with heartbeats and ended when it is closed.
//!
//! A grant that is opened so ends by itself when its holder dies, however it dies: the broker stops hearing of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Client;
use super::error::{Error, ErrorKind};
use crate::wire::{self, CreateGrant, Credential, EndsWhen, Grant, GrantState, RevokeRequest};

/// How a lease tells that it is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// How often. Three in a deadline let two be lost.
    pub every: Duration,
    /// The grant ends when the broker hears nothing for this long.
    pub deadline: wire::Duration,
}

impl Heartbeat {
    /// Three heartbeats within `deadline`, but never more than ten a second.
    #[must_use]
    pub fn within(deadline: wire::Duration) -> Self {
        let every = (Duration::from(deadline) / 3).max(Duration::from_millis(100));
        Self { every, deadline }
    }
}

impl Default for Heartbeat {
    /// Every 15 s, with a deadline of 45 s: with the broker's own time to notice, a dead holder's grant ends within a
    /// minute.
    fn default() -> Self {
        Self::within(wire::Duration::from_secs(45))
    }
}

/// What the last heartbeat told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseHealth {
    /// The grant lives.
    Live,
    /// The last heartbeat did not get through; the grant may end.
    Unconfirmed(Arc<str>),
    /// The grant has ended or is being ended: the credential works no longer, or not for long.
    Ended {
        /// Where the grant stands.
        state: GrantState,
        /// Why, in the broker's word.
        cause: Option<String>,
    },
}

/// A live credential and its grant. Dropping it stops the heartbeats, after which the broker ends the grant by itself;
/// [`Lease::close`] ends it now.
pub struct Lease {
    client: Client,
    grant: Grant,
    credential: Credential,
    health: watch::Receiver<LeaseHealth>,
    beating: JoinHandle<()>,
}

impl Client {
    /// Opens a grant and keeps it alive.
    ///
    /// # Errors
    /// As [`Client::create_grant`].
    pub async fn open_lease(&self, mut request: CreateGrant, heartbeat: Heartbeat) -> Result<Lease, Error> {
        let ends_when = EndsWhen { heartbeat: Some(heartbeat.deadline), ..request.ends_when.unwrap_or_default() };
        request.ends_when = Some(ends_when);
        let opened = self.create_grant(&request).await?;
        let (tell, health) = watch::channel(LeaseHealth::Live);
        // A ticker of no length at all would panic.
        let every = heartbeat.every.max(Duration::from_millis(1));
        let beating = tokio::spawn(beat(self.clone(), opened.grant.id.clone(), every, tell));
        Ok(Lease { client: self.clone(), grant: opened.grant, credential: opened.credential, health, beating })
    }
}

impl Lease {
    /// The record, as it was when the grant was opened.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The credential.
    #[must_use]
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// What the heartbeats tell, as it changes. After [`LeaseHealth::Ended`] nothing more comes.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<LeaseHealth> {
        self.health.clone()
    }

    /// Stops the heartbeats and ends the grant.
    ///
    /// # Errors
    /// Any [`Error`]; the grant then ends at its heartbeat's deadline.
    pub async fn close(self, reason: impl Into<String>) -> Result<Grant, Error> {
        self.beating.abort();
        self.client.revoke(&self.grant.id, &RevokeRequest { reason: Some(reason.into()) }).await
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

async fn beat(client: Client, id: String, every: Duration, tell: watch::Sender<LeaseHealth>) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is immediate, and opening was a sign of life.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let health = match timeout(every, client.heartbeat(&id)).await {
            Ok(Ok(grant)) => health_of(&grant),
            Ok(Err(error)) => after_refusal(&client, &id, &error).await,
            Err(_) => LeaseHealth::Unconfirmed(Arc::from("no answer before the next heartbeat is due")),
        };
        let ended = matches!(health, LeaseHealth::Ended { .. });
        tell.send_if_modified(|told| {
            let changed = *told != health;
            *told = health;
            changed
        });
        if ended {
            return;
        }
    }
}

fn health_of(grant: &Grant) -> LeaseHealth {
    match grant.state {
        GrantState::Active | GrantState::Pending | GrantState::Unknown => LeaseHealth::Live,
        state => LeaseHealth::Ended { state, cause: grant.cause.clone() },
    }
}

/// A refused heartbeat ends nothing by itself: only the grant's own state does.
async fn after_refusal(client: &Client, id: &str, error: &Error) -> LeaseHealth {
    if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound)
        && let Ok(grant) = client.grant(id).await
        && let ended @ LeaseHealth::Ended { .. } = health_of(&grant)
    {
        return ended;
    }
    LeaseHealth::Unconfirmed(Arc::from(error.to_string()))
}
