//! Looking after one backend: its session, its spares, and what is alive there that should not be.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::id::{BackendName, SpareId};
use crate::port::{
    Belongs, CredentialBackend, InventoryItem, InventoryScope, ItemKind, RevokeError, Spare, SpareRule, StoreError,
    scrubbed,
};
use crate::role::{Role, RoleState};
use crate::service::Ports;
use crate::time::{Timestamp, Ttl};

/// How long a backend may take to list what is alive there.
const INVENTORY_DEADLINE: Duration = Duration::from_mins(1);
/// How many spares one tick makes at most, of all roles: the next tick makes the rest.
const MADE_AT_ONCE: usize = 16;
/// A spare is replaced when less than this of its life is left, in parts of a hundred: a grant takes none with less than
/// three quarters of what it is granted.
const FRESH_PERCENT: u64 = 80;

/// What is remembered of a backend between two ticks.
#[derive(Debug, Default)]
pub struct Care {
    /// What was alive there though nothing in the record answers for it, and since when it is known.
    strays: Mutex<HashMap<String, Timestamp>>,
}

/// What was found at a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Credentials of grants that are alive, and spares.
    pub ours: usize,
    /// Credentials of ours whose grants are over, or unknown.
    pub strays: usize,
    /// Of those, how many were undone.
    pub undone: usize,
    /// Credentials that somebody else made.
    pub others: usize,
    /// Other doors to what the backend's credentials reach.
    pub doors: usize,
}

/// Why a backend is not looked after.
#[derive(Debug, thiserror::Error)]
pub enum CareFailed {
    /// The backend refuses, or does not answer.
    #[error("the backend: {0}")]
    Backend(#[from] RevokeError),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Renews the broker's session with the backend, and has it assert again what must hold there.
///
/// # Errors
/// [`CareFailed::Backend`].
pub async fn tend(ports: &Ports, backend: &dyn CredentialBackend) -> Result<(), CareFailed> {
    Ok(within(ports.limits.call_deadline.as_duration(), backend.tend()).await?)
}

/// Keeps as many spares as the backend wants for each of its roles. Those that are of no use any more are undone.
///
/// # Errors
/// [`CareFailed`]; what was made is kept.
pub async fn stock(ports: &Ports, name: &BackendName, backend: &dyn CredentialBackend) -> Result<(), CareFailed> {
    let revision = ports.governance.current();
    let mut wanted: HashMap<&str, (&Arc<Role>, SpareRule)> = HashMap::new();
    let roles = revision.catalog.roles.values();
    for role in roles.filter(|role| &role.backend == name && role.state == RoleState::Active) {
        if let Some(rule) = backend.spares(role) {
            wanted.insert(&role.digest, (role, rule));
        }
    }
    // Also those of an earlier run, and those that were offered to a grant that was then refused.
    let known = ports.spares.ids();
    for spare in ports.store.spares().await? {
        if &spare.backend == name && !known.contains(&spare.id) {
            ports.spares.put(spare);
        }
    }
    let now = ports.now();
    let is_fresh = |spare: &Spare| {
        let rule = wanted.get(spare.role_digest.as_str()).map(|(_, rule)| rule);
        let lives = rule.is_some_and(|rule| spare.expires_at.since(now) >= freshness(rule.life));
        lives && backend.recognises(&spare.handle)
    };
    for spare in ports.spares.clear(name, is_fresh) {
        discard(ports, backend, spare).await?;
    }
    let (mut made, mut failed) = (0_usize, None);
    for (digest, (role, rule)) in wanted {
        while ports.spares.count(name, digest) < rule.count && made < MADE_AT_ONCE {
            let spare = match make(ports, name, backend, role, rule).await {
                Ok(spare) => spare,
                // What is wrong with one role keeps no other from its spares.
                Err(error) => {
                    failed.get_or_insert(error);
                    break;
                }
            };
            ports.store.keep_spare(&spare).await?;
            ports.spares.put(spare);
            made = made.saturating_add(1);
        }
    }
    failed.map_or(Ok(()), Err)
}

fn freshness(life: Ttl) -> Ttl {
    Ttl::from_secs(life.as_secs().saturating_mul(FRESH_PERCENT) / 100)
}

async fn make(
    ports: &Ports,
    name: &BackendName,
    backend: &dyn CredentialBackend,
    role: &Role,
    rule: SpareRule,
) -> Result<Spare, CareFailed> {
    let id: SpareId = ports.fresh_id().map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let deadline = ports.limits.call_deadline.as_duration();
    let made = within(deadline, async {
        let made = backend.make_spare(role, id, ports.now().plus(rule.life)).await;
        made.map_err(|error| RevokeError { internal: error.to_string() })
    });
    let made = made.await?;
    fail::fail_point!("care::after-make-spare");
    Ok(Spare {
        id,
        backend: name.clone(),
        role: role.name.clone(),
        role_digest: role.digest.clone(),
        handle: made.handle,
        expires_at: made.expires_at,
    })
}

/// First from the record, so that no grant takes it; if the backend does not hear of it, the inventory finds it.
async fn discard(ports: &Ports, backend: &dyn CredentialBackend, spare: Spare) -> Result<(), CareFailed> {
    if ports.store.forget_spare(spare.id).await? {
        fail::fail_point!("care::after-forget-spare");
        within(ports.limits.call_deadline.as_duration(), backend.revoke(&spare.handle)).await?;
    }
    Ok(())
}

/// Compares what is alive at the backend with the record, and undoes what is ours and has no live grant. Nothing is a
/// stray at first sight: a credential whose grant is just being written must not be taken for one.
///
/// # Errors
/// [`CareFailed`]; what was not undone is found again.
pub async fn reconcile(
    ports: &Ports,
    name: &BackendName,
    backend: &dyn CredentialBackend,
    care: &Care,
) -> Result<Counted, CareFailed> {
    if backend.inventory_scope() == InventoryScope::None {
        return Ok(Counted::default());
    }
    let revision = ports.governance.current();
    let roles: Vec<_> = revision.catalog.roles.values().filter(|role| &role.backend == name).map(Arc::clone).collect();
    backend.serve(&roles);
    let items = within(INVENTORY_DEADLINE, backend.inventory()).await?;
    let mut counted = Counted::default();
    let (mut strays, mut failed) = (HashMap::new(), None);
    for item in items {
        match item.kind {
            ItemKind::Door => counted.doors = counted.doors.saturating_add(1),
            ItemKind::Credential if item.belongs == Belongs::ToOthers => {
                counted.others = counted.others.saturating_add(1);
            }
            ItemKind::Credential if is_stray(ports, item.belongs).await? => {
                counted.strays = counted.strays.saturating_add(1);
                let known_since = care.known_since(&item.name).unwrap_or_else(|| ports.now());
                let is_due = ports.now() >= known_since.plus(ports.limits.settling());
                // One that cannot be undone keeps no other from being.
                let undone = if is_due { undo(ports, name, backend, &item).await.map(|()| true) } else { Ok(false) };
                match undone {
                    Ok(true) => counted.undone = counted.undone.saturating_add(1),
                    Ok(false) => {
                        strays.insert(item.name, known_since);
                    }
                    Err(error) => {
                        strays.insert(item.name, known_since);
                        failed = Some(error);
                    }
                }
            }
            ItemKind::Credential => counted.ours = counted.ours.saturating_add(1),
        }
    }
    *care.strays.lock().unwrap_or_else(PoisonError::into_inner) = strays;
    failed.map_or(Ok(counted), Err)
}

impl Care {
    fn known_since(&self, name: &str) -> Option<Timestamp> {
        self.strays.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }
}

/// Whether the record knows nothing that it is there for.
async fn is_stray(ports: &Ports, belongs: Belongs) -> Result<bool, StoreError> {
    let grant = match belongs {
        Belongs::ToOthers => return Ok(false),
        Belongs::ToGrant(id) => id,
        Belongs::ToSpare(id) => match ports.store.spare_taken_by(id).await? {
            None => return Ok(true),
            Some(None) => return Ok(false),
            Some(Some(grant)) => grant,
        },
    };
    Ok(ports.store.grant(grant).await?.is_none_or(|grant| grant.state_name().is_final()))
}

async fn undo(
    ports: &Ports,
    name: &BackendName,
    backend: &dyn CredentialBackend,
    item: &InventoryItem,
) -> Result<(), CareFailed> {
    let Some(handle) = &item.handle else { return Ok(()) };
    let undone = within(ports.limits.call_deadline.as_duration(), backend.revoke(handle)).await?;
    let object = match item.belongs {
        Belongs::ToGrant(id) => AuditObject::Grant { id },
        Belongs::ToSpare(_) | Belongs::ToOthers => AuditObject::Broker,
    };
    tracing::warn!(backend = %name, item = %item.name, ?undone, "something alive at a backend had no live grant");
    let entry = AuditEntry::success(ports.now(), Actor::Broker, AuditAction::ReconcileUndo, object)
        .with("backend", name.as_str())
        .with("item", &item.name);
    Ok(ports.store.record(vec![entry], None).await?)
}

async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, RevokeError>> + Send,
) -> Result<T, RevokeError> {
    let late = |_| RevokeError { internal: "no answer within the call deadline".to_owned() };
    let told = |error: RevokeError| RevokeError { internal: scrubbed(&error.internal) };
    tokio::time::timeout(deadline, call).await.map_err(late)?.map_err(told)
}
