//! Opening a grant so that a caller who hangs up neither stops it half-way nor leaves a credential that nobody has.
//!
//! The opening runs in a task of its own: the server drops a handler whose connection is gone, wherever it stands.
//! What it opened is then handed from owner to owner inside a [`Handover`]; whoever drops it before the connection took
//! the bytes ends the grant.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use hallpass_core::credential::IssuedCredential;
use hallpass_core::grant::Grant;
use hallpass_core::id::GrantId;
use hallpass_core::identity::Proof;
use hallpass_core::request::{GrantRequest, Origin};
use hallpass_core::service::open::{open, open_for_actor};
use hallpass_core::service::undelivered::undelivered;
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot;
use tracing::Instrument as _;

use super::failure::Failure;
use super::measure;
use super::router::ApiState;

/// A grant that was opened, its credential, and the duty to hand it over.
pub(super) struct Issued {
    pub(super) grant: Grant,
    pub(super) credential: IssuedCredential,
    pub(super) handover: Handover,
}

/// Opens a grant, whatever becomes of the caller meanwhile.
pub(super) async fn issue(
    state: &Arc<ApiState>,
    proof: Proof,
    actor: Option<Proof>,
    request: GrantRequest,
    origin: Origin,
) -> Result<Issued, Failure> {
    let (hand, taken) = oneshot::channel();
    let worker = Arc::clone(state);
    let began = state.ports.clock.monotonic();
    let opening = async move {
        let opened = match &actor {
            None => open(&worker.ports, &proof, &request, &origin).await,
            Some(actor) => open_for_actor(&worker.ports, &proof, actor, &request, &origin).await,
        };
        let outcome = opened.map(|opened| {
            measure::opened(&opened.grant, worker.ports.clock.monotonic().saturating_sub(began));
            // A repetition under the same key supersedes the grant; without a key nobody can ask for it again.
            let wanted = request.idempotency.is_none();
            let id = opened.grant.record.id;
            let handover = Handover { state: worker, id, origin, ends_if_dropped: wanted };
            Issued { grant: opened.grant, credential: opened.credential, handover }
        });
        // With nobody to take it, the outcome comes back and is dropped here, which is all that is to be done.
        drop(hand.send(outcome));
    };
    state.tasks.spawn(opening.in_current_span());
    match taken.await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(Failure::Crashed),
    }
}

/// The duty to hand a credential over. Dropped undone, it ends the grant.
pub(super) struct Handover {
    state: Arc<ApiState>,
    id: GrantId,
    origin: Origin,
    ends_if_dropped: bool,
}

impl Handover {
    /// A body of these bytes, which are handed over when the connection takes them.
    pub(super) fn body(self, bytes: Vec<u8>) -> Body {
        Body::new(Delivery { bytes: Some(bytes.into()), handover: self })
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        if !self.ends_if_dropped || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let (state, id, origin) = (Arc::clone(&self.state), self.id, self.origin);
        measure::undelivered();
        self.state.tasks.spawn(async move {
            match undelivered(&state.ports, id, &origin).await {
                Ok(()) => tracing::info!(grant = %id, "the caller hung up; its grant is ended"),
                Err(error) => tracing::error!(grant = %id, %error, "the caller hung up; its grant lives until its end"),
            }
        });
    }
}

/// A body in one frame.
struct Delivery {
    bytes: Option<Bytes>,
    handover: Handover,
}

impl hyper::body::Body for Delivery {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = self.bytes.take();
        self.handover.ends_if_dropped = false;
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX)))
    }
}
