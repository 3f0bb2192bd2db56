//! The rows of revocations follow: what a revocation ends is treated as ended from its commit on, and here its grants
//! come to say so themselves.

use std::fmt::Write as _;

use ring::digest::{SHA256, digest};

use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::credential::Effect;
use crate::id::{GrantId, RevocationId};
use crate::port::{Followed, StoreError};
use crate::service::Ports;

/// What a tick did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticked {
    /// How many grants began to end.
    pub ended: usize,
    /// How many revocations became complete.
    pub completed: usize,
    /// Whether there is more to do at once.
    pub more: bool,
}

/// One step of each revocation that runs: a few milliseconds of the store's writer, so that requests are never kept
/// waiting. One that fails is logged, tried again at the next tick, and holds all the same.
pub async fn tick(ports: &Ports) -> Ticked {
    let mut ticked = Ticked::default();
    for revocation in &ports.store.in_force().revocations {
        match step(ports, revocation.id).await {
            Ok(followed) => {
                ticked.ended = ticked.ended.saturating_add(followed.ended);
                ticked.completed = ticked.completed.saturating_add(usize::from(!followed.more));
                ticked.more |= followed.more;
            }
            Err(error) => {
                tracing::error!(revocation = %revocation.id, %error, "the rows of a revocation do not follow; it holds");
            }
        }
    }
    if ticked.ended > 0 {
        // What lives elsewhere is due to be undone.
        ports.nudge.notify_one();
    }
    ticked
}

async fn step(ports: &Ports, id: RevocationId) -> Result<Followed, StoreError> {
    let followed = ports.store.follow_revocation(id, &kinds_fenced_by_record(ports), ports.now()).await?;
    fail::fail_point!("revocation::after-chunk");
    if followed.more {
        if !followed.measured {
            ports.store.measure_revocation(id).await?;
        }
        return Ok(followed);
    }
    let grants = ports.store.revoked_grants(id).await?;
    let object = AuditObject::Revocation { id };
    let entry = AuditEntry::success(ports.now(), Actor::Broker, AuditAction::RevocationComplete, object)
        .with("grants", &grants.len().to_string())
        .with("grants_sha256", &hexadecimal(&digest_of(&grants)));
    fail::fail_point!("revocation::before-completion");
    ports.store.complete_revocation(id, digest_of(&grants), ports.now(), entry).await?;
    Ok(followed)
}

/// Kinds of backends whose own records are the rule that verifiers consult: to record is to fence.
fn kinds_fenced_by_record(ports: &Ports) -> Vec<String> {
    let revision = ports.governance.current();
    let local = revision.backends.values().filter(|backend| backend.effect() == Effect::Local);
    local.map(|backend| backend.kind().to_owned()).collect()
}

/// SHA-256 of the ids, each followed by a line feed.
fn digest_of(sorted: &[GrantId]) -> [u8; 32] {
    let mut text = String::with_capacity(sorted.len().saturating_mul(37));
    for id in sorted {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{id}");
    }
    let mut bytes = [0_u8; 32];
    bytes.iter_mut().zip(digest(&SHA256, text.as_bytes()).as_ref()).for_each(|(to, from)| *to = *from);
    bytes
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
