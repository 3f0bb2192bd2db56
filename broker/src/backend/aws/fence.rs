//! Fences: a Deny on the sessions that are over, in one inline policy of each role, until they expire.
//!
//! AWS says that nothing revokes a session. What it does honour, at once for the services that evaluate policies and
//! after some seconds everywhere, is a Deny on `aws:userid`, which holds the role's unique id and the session's name. The
//! invariant: that policy is rendered whole from the record, under a reservation of its role, since IAM knows no
//! compare-and-swap; it is read back before anything is said of it, and asserted again until the last of its sessions
//! has expired.

mod document;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hallpass_core::id::BackendName;
use hallpass_core::port::{Ended, EndedGrant, EndedGrants, EndedPage, FenceName, FenceRule, RevokeError, Undone};
use hallpass_core::time::{Clock, Ttl};
use ring::digest;
use tokio::sync::OwnedMutexGuard;

pub(super) use self::document::Entry;
use self::document::{MAX_CHARACTERS, Others, Rendering, characters};
use super::handle::SessionHandle;
use super::iam::Iam;
use super::policy::role_name;
use super::query::CallFailed;
use super::signing::hex;
use crate::config::backend::AwsFence as Settings;

/// The kind of backend, as in the record.
const KIND: &str = "aws";
/// How often a fence that stands is read again.
const REREAD: Duration = Duration::from_secs(5);
/// How often one that holds nothing is: for how much room others leave.
const REREAD_EMPTY: Duration = Duration::from_secs(300);
/// Grants that are read from the record at once.
const PAGE: usize = 500;

/// Fences sessions of one account's roles.
pub(super) struct Fence {
    backend: BackendName,
    settings: Settings,
    iam: Arc<Iam>,
    ledger: Arc<dyn EndedGrants>,
    clock: Arc<dyn Clock>,
    reservations: Arc<Reservations>,
    /// The policy's name. With a digest of who writes it: two brokers at one role would undo each other's fences.
    policy: String,
}

/// Which roles' fences are being looked after, and what is known of them. One for all backends of a broker, over all
/// revisions of its bundle: whoever writes a role's policy holds the role's reservation. With several brokers over one
/// record it would be the record that gives them out.
#[derive(Debug, Default)]
pub struct Reservations {
    roles: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Standing>>>>,
    /// How many sessions each role's fence has room for, as far as that was looked at.
    places: Mutex<HashMap<String, u32>>,
}

/// What is known of a role's fence, in monotonic time.
#[derive(Debug, Default)]
struct Standing {
    /// Sessions that it fences, and since when.
    since: HashMap<String, Duration>,
    /// When it was last read, and held all of them.
    read_at: Option<Duration>,
    /// Sessions that there is no room for.
    left_out: usize,
    /// When it was last read how much room others leave.
    room_read_at: Option<Duration>,
}

impl Standing {
    fn room_is_old(&self, now: Duration) -> bool {
        self.room_read_at.is_none_or(|at| now.saturating_sub(at) >= REREAD_EMPTY)
    }
}

/// How many sessions a fence names where nobody else has written a policy.
fn most_places() -> u32 {
    /// As long as every role's unique id.
    const SOME_ROLE: &str = "AROAAAAAAAAAAAAAAAAAA";
    u32::try_from(Others::default().places(SOME_ROLE, MAX_CHARACTERS)).unwrap_or(u32::MAX)
}

impl Reservations {
    async fn hold(&self, role_arn: &str) -> OwnedMutexGuard<Standing> {
        let role = {
            let mut roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(roles.entry(role_arn.to_owned()).or_default())
        };
        role.lock_owned().await
    }

    fn places(&self, role_arn: &str) -> Option<u32> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).get(role_arn).copied()
    }

    fn note_places(&self, role_arn: &str, places: usize) {
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        self.places.lock().unwrap_or_else(PoisonError::into_inner).insert(role_arn.to_owned(), places);
    }

    fn known(&self) -> Vec<String> {
        self.roles.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

impl Fence {
    pub(super) fn new(
        backend: BackendName,
        settings: Settings,
        iam: Arc<Iam>,
        ledger: Arc<dyn EndedGrants>,
        clock: Arc<dyn Clock>,
        reservations: Arc<Reservations>,
        public_url: &str,
    ) -> Self {
        let writer = hex(digest::digest(&digest::SHA256, public_url.as_bytes()).as_ref());
        let policy = format!("hallpass-fence-{}", writer.get(..8).unwrap_or_default());
        Self { backend, settings, iam, ledger, clock, reservations, policy }
    }

    /// The rule that sessions of a role are held by. Nothing is asked of IAM: what room others leave was read when the
    /// fence was last looked at.
    pub(super) fn rule(&self, role_arn: String, fences_all_older: bool) -> FenceRule {
        let is_limited = !fences_all_older && !self.settings.fences_all_older;
        let places = is_limited.then(|| self.reservations.places(&role_arn).unwrap_or_else(most_places));
        FenceRule { name: role_arn, places }
    }

    /// Has a session fenced. It is said to be when the fence was read back after it has had the time to spread.
    pub(super) async fn set(&self, handle: &SessionHandle) -> Result<Undone, RevokeError> {
        let mut standing = self.reservations.hold(&handle.role_arn).await;
        if let Some(undone) = self.known(&standing, handle) {
            return Ok(undone);
        }
        let failed = |failed: CallFailed| RevokeError { internal: format!("the session is not fenced yet: {failed}") };
        if !self.assert(&mut standing, &handle.role_arn, Some(handle)).await.map_err(failed)? {
            // A role that is gone gives nothing to any session of it.
            return Ok(Undone::Fenced);
        }
        let no_room = || RevokeError {
            internal: format!(
                "the session is not fenced: IAM takes {MAX_CHARACTERS} characters of inline policies at one role, and \
                 there is room for the fences of {} of its sessions that are over, not for those of {} others",
                standing.since.len(),
                standing.left_out
            ),
        };
        self.known(&standing, handle).ok_or_else(no_room)
    }

    /// What can be said without asking IAM.
    fn known(&self, standing: &Standing, handle: &SessionHandle) -> Option<Undone> {
        let now = self.clock.monotonic();
        let since = *standing.since.get(&handle.session)?;
        let spread_at = since.saturating_add(self.settings.propagation.as_duration());
        if now < spread_at {
            let left = spread_at.saturating_sub(now).as_millis().div_ceil(1_000);
            return Some(Undone::Fencing { until: self.clock.now().plus(Ttl::from_secs(u64::try_from(left).ok()?)) });
        }
        let read_at = standing.read_at?;
        let is_fresh = now.saturating_sub(read_at) <= REREAD && read_at >= spread_at;
        is_fresh.then_some(Undone::Fenced)
    }

    /// Reads every fence again that is to stand, and sets it again where it does not.
    pub(super) async fn tend(&self, roles: &[String]) -> Result<(), RevokeError> {
        let in_use = self.ledger.fences(KIND, self.clock.now()).await;
        let in_use =
            in_use.map_err(|error| RevokeError { internal: format!("what is over cannot be told: {error}") })?;
        let mut all: Vec<String> = in_use.iter().chain(roles).cloned().chain(self.reservations.known()).collect();
        all.retain(|role| super::policy::account_of(role) == super::policy::account_of(&self.settings.role_arn));
        all.sort_unstable();
        all.dedup();
        let mut wrong = Vec::new();
        let mut left_out = 0_usize;
        for role in all {
            let mut standing = self.reservations.hold(&role).await;
            let now = self.clock.monotonic();
            // One that nothing is fenced of is looked at, too: for what an earlier run left there, and for its room.
            let every = if in_use.contains(&role) || !standing.since.is_empty() { REREAD } else { REREAD_EMPTY };
            if standing.read_at.is_some_and(|read_at| now.saturating_sub(read_at) < every) {
                left_out = left_out.saturating_add(standing.left_out);
                continue;
            }
            match self.assert(&mut standing, &role, None).await {
                Ok(_) => {}
                Err(failed) => {
                    wrong.push(format!("the fence of {} cannot be looked after: {failed}", role_name(&role)))
                }
            }
            left_out = left_out.saturating_add(standing.left_out);
        }
        metrics::gauge!("hallpass_aws_unfenced_sessions", "backend" => self.backend.to_string())
            .set(f64::from(u32::try_from(left_out).unwrap_or(u32::MAX)));
        if left_out > 0 {
            wrong.push(format!("{left_out} sessions that are over are not fenced: their roles have no room for it"));
        }
        if wrong.is_empty() { Ok(()) } else { Err(RevokeError { internal: wrong.join("; ") }) }
    }

    /// The sessions of one role that are over and have not expired: those that are fenced first, then the longest ending.
    async fn ended(&self, role_arn: &str) -> Result<Vec<Entry>, CallFailed> {
        let fence = FenceName { backend_kind: KIND, name: role_arn };
        let (now, mut after, mut sessions) = (self.clock.now(), None, Vec::new());
        loop {
            let ended = self.ledger.ended_alive(fence, now, EndedPage { after, limit: PAGE }).await;
            let ended = ended.map_err(|error| CallFailed::Unsent(format!("what is over cannot be told: {error}")))?;
            let Ended { grants, next } = ended;
            for EndedGrant { id, handle, fenced_at, expires_at, .. } in grants {
                let handle = handle.ok().as_ref().and_then(SessionHandle::read);
                match handle.filter(|handle| handle.role_arn == role_arn) {
                    Some(handle) => sessions.push(((fenced_at.is_none(), fenced_at, expires_at, id), handle.entry())),
                    // It takes its own step, which says why it cannot be undone; the others must not wait for it.
                    None => {
                        tracing::error!(grant = %id, "the handle of an AWS session does not read; it is not fenced")
                    }
                }
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
        sessions.sort_by_key(|(place, _)| *place);
        Ok(sessions.into_iter().map(|(_, entry)| entry).collect())
    }

    /// Has the policy of one role say what the record says, and remembers what it says. `false` where the role is gone.
    async fn assert(
        &self,
        standing: &mut Standing,
        role_arn: &str,
        also: Option<&SessionHandle>,
    ) -> Result<bool, CallFailed> {
        let mut entries = self.ended(role_arn).await?;
        // Whoever asks may be ahead of the record: a credential that was not wanted is undone before its grant is over.
        let also = also.map(SessionHandle::entry);
        entries.extend(also.filter(|also| !entries.iter().any(|entry| entry.session == also.session)));
        if self.settings.fences_all_older {
            entries.iter_mut().for_each(|entry| entry.fences_all_older = true);
        }
        self.write(standing, role_arn, &entries).await
    }

    async fn write(&self, standing: &mut Standing, role_arn: &str, entries: &[Entry]) -> Result<bool, CallFailed> {
        let name = role_name(role_arn);
        let Some(role) = self.iam.role(name).await? else {
            *standing = Standing { read_at: Some(self.clock.monotonic()), ..Standing::default() };
            return Ok(false);
        };
        let present = self.iam.inline_policy(name, &self.policy).await?;
        let others = present.as_ref().map(Others::read).transpose();
        let others = others.map_err(|why| {
            // Not overwritten: somebody meant something by it.
            CallFailed::NoAnswer(format!("the inline policy {} of {name} is not one to build on: {why}", self.policy))
        })?;
        let others = others.unwrap_or_default();
        let wanted = others.render(&role.id, entries, MAX_CHARACTERS);
        let is_as_wanted = wanted.document == present && wanted.left_out == 0 && wanted.older_than.is_none();
        if is_as_wanted && !standing.room_is_old(self.clock.monotonic()) {
            self.remember(standing, &wanted);
            return Ok(true);
        }
        let room = MAX_CHARACTERS.saturating_sub(self.taken_by_others(name).await?);
        standing.room_read_at = Some(self.clock.monotonic());
        self.reservations.note_places(role_arn, others.places(&role.id, room));
        let wanted = others.render(&role.id, entries, room);
        if wanted.document != present {
            let missing = standing.since.len();
            standing.since.retain(|session, _| present.as_ref().is_some_and(|p| p.to_string().contains(session)));
            if standing.since.len() < missing {
                tracing::warn!(role = name, policy = self.policy, "somebody changed a fence; it is set again");
                metrics::counter!("hallpass_aws_fences_set_again_total", "backend" => self.backend.to_string())
                    .increment(1);
            }
            match &wanted.document {
                Some(document) => self.iam.put_inline_policy(name, &self.policy, document).await?,
                None => self.iam.delete_inline_policy(name, &self.policy).await?,
            }
            if self.iam.inline_policy(name, &self.policy).await? != wanted.document {
                return Err(CallFailed::NoAnswer(format!("the fence of {name} does not read back as it was written")));
            }
        }
        self.remember(standing, &wanted);
        Ok(true)
    }

    fn remember(&self, standing: &mut Standing, wanted: &Rendering) {
        let now = self.clock.monotonic();
        let since = wanted.fenced.iter().map(|session| {
            let since = standing.since.get(session).copied().unwrap_or(now);
            (session.clone(), since)
        });
        standing.since = since.collect();
        standing.read_at = Some(now);
        standing.left_out = wanted.left_out;
        if let Some(than) = wanted.older_than {
            tracing::warn!(%than, "no room to fence each session: all that are older are fenced");
        }
    }

    /// Characters of the role's other inline policies.
    async fn taken_by_others(&self, role: &str) -> Result<usize, CallFailed> {
        let mut taken = 0_usize;
        for policy in self.iam.inline_policies(role).await?.iter().filter(|policy| **policy != self.policy) {
            let document = self.iam.inline_policy(role, policy).await?;
            taken = taken.saturating_add(document.as_ref().map_or(0, characters));
        }
        Ok(taken)
    }
}
