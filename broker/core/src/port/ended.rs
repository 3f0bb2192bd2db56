//! Grants that are over in the record while their credentials may still work: what a fence at a backend is rendered from.

use async_trait::async_trait;

use super::StoreError;
use crate::credential::Handle;
use crate::id::{BackendName, GrantId};
use crate::time::Timestamp;

/// The part of the record that a backend renders its fences from, whole and each time anew: a fence that was only ever
/// added to would depend on every step in between.
#[async_trait]
pub trait EndedGrants: Send + Sync {
    /// Grants of one fence ([`FenceRule`](super::FenceRule)) at a kind of backend that are ending, or were given up with a
    /// fence that stands, and whose credentials a verifier could still accept at `now`. In the order of their expiry,
    /// `limit` of them at most, those `after` a place where a page before ended.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn ended_alive(&self, fence: FenceName<'_>, now: Timestamp, page: EndedPage) -> Result<Ended, StoreError>;

    /// The fences at a kind of backend that hold anything at `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn fences(&self, backend_kind: &str, now: Timestamp) -> Result<Vec<String>, StoreError>;
}

/// Which fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FenceName<'a> {
    /// The kind of backend that it is at.
    pub backend_kind: &'a str,
    /// Its name there.
    pub name: &'a str,
}

/// A part of what a fence holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedPage {
    /// Where the part before ended.
    pub after: Option<(Timestamp, GrantId)>,
    /// How many at most.
    pub limit: usize,
}

/// What was asked for, and where to go on.
#[derive(Debug)]
pub struct Ended {
    /// The grants.
    pub grants: Vec<EndedGrant>,
    /// Where the next part begins, where there may be one.
    pub next: Option<(Timestamp, GrantId)>,
}

/// A grant that is over and whose credential may still work.
#[derive(Debug)]
pub struct EndedGrant {
    /// Which.
    pub id: GrantId,
    /// The backend that minted, by the name that it had.
    pub backend: BackendName,
    /// What it takes to undo the credential. One that cannot be opened must not hide the others.
    pub handle: Result<Handle, StoreError>,
    /// When the grant was opened.
    pub created_at: Timestamp,
    /// The latest instant at which the credential can work.
    pub expires_at: Timestamp,
    /// Since when verifiers refuse it, as far as that is known.
    pub fenced_at: Option<Timestamp>,
}
