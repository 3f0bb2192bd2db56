//! Minting here, by a signature that leaves nothing behind: intent and activation are one commit.

use tracing::Instrument as _;

use super::failure::OUTLIVES;
use super::plan::{Intent, Planned};
use super::{Attempt, Opened, Subject};
use crate::audit::AuditAction;
use crate::credential::{Handle, IssueOrder, IssuedCredential};
use crate::error::ServiceError;
use crate::port::IssueError;
use crate::trace;

impl Attempt<'_> {
    /// Mints here, then records intent and activation in one commit.
    pub(super) async fn open_local(
        &self,
        subject: &Subject<'_>,
        planned: Planned,
    ) -> Result<Option<Opened>, ServiceError> {
        let (handle, mut issued) = match self.mint_local(subject, &planned.order).await {
            Ok(minted) => minted,
            Err(error) => return Err(self.refuse_issue(&subject.role.backend, error).await?),
        };
        let fingerprint = self.ports.sealer.fingerprint(issued.material.fingerprint_input());
        let Planned { grant, permits, assumed_start, replaced, .. } = planned;
        let now = self.ports.now();
        let activated = grant.activate(now, issued.expires_at, fingerprint).ok();
        // Whatever took too long to sign has not left the broker: nothing is recorded, and nothing is returned.
        let Some(mut grant) = activated.filter(|grant| grant.is_live(now)) else {
            let error = IssueError::Unavailable { internal: "its end came while it was being signed".to_owned() };
            return Err(self.refuse_issue(&subject.role.backend, error).await?);
        };
        fail::fail_point!("open::before-commit");
        let entries = vec![self.entry(&grant, AuditAction::GrantOpen), self.entry(&grant, AuditAction::GrantActivate)];
        grant.record.signed_by = issued.signed_by.take();
        let intent = Intent { grant, handle, permits, assumed_start, entries, replaced, spare: None };
        let opened = self.commit(subject, intent).await?;
        fail::fail_point!("open::after-commit");
        Ok(opened.map(|grant| Opened { grant, credential: issued }))
    }

    async fn mint_local(
        &self,
        subject: &Subject<'_>,
        order: &IssueOrder,
    ) -> Result<(Handle, IssuedCredential), IssueError> {
        let planned = subject.backend.plan(order)?;
        // A key that signs may live elsewhere; waiting for it has the same limit as any other call.
        let deadline = self.ports.limits.call_deadline.as_duration();
        let call = tokio::time::timeout(deadline, subject.backend.issue(order, &planned));
        let call = call.instrument(trace::mint(subject.backend.kind())).await;
        let late = |_| IssueError::Unavailable { internal: "no answer within the call deadline".to_owned() };
        let mut issued = call.map_err(late)??;
        if issued.expires_at > order.expires_at {
            return Err(IssueError::refused(OUTLIVES));
        }
        Ok((issued.handle.take().unwrap_or(planned), issued))
    }
}
