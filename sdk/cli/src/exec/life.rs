//! How long to ask for: no longer than we can speak for the grant.

use hallpass_sdk::Client;
use hallpass_sdk::wire::{CreateGrant, DecisionRequest, Duration};

use crate::output::Output;

/// The life to ask for. After a proof that cannot be refreshed has expired, neither heartbeat nor revocation would be
/// accepted, so the grant had better end before.
pub(super) async fn within_proof(
    client: &Client,
    request: &CreateGrant,
    output: &Output,
) -> anyhow::Result<Option<Duration>> {
    if client.proof_is_refreshable() {
        return Ok(request.ttl);
    }
    let Some(expires_at) = client.unverified_proof_expiry().await? else { return Ok(request.ttl) };
    let left = Duration::from_secs(expires_at.seconds_since(client.now()));
    if left.as_secs() == 0 {
        // The broker says so with the right words, or its clock differs from ours.
        return Ok(request.ttl);
    }
    let wanted = match request.ttl {
        Some(ttl) => Some(ttl),
        None => default_life(client, request).await,
    };
    let asked = bound(request.ttl, wanted, left);
    if asked != request.ttl {
        output.warn(&format!("the proof cannot be refreshed and expires in {left}: asking for no longer than that"));
    }
    Ok(asked)
}

/// What the broker would give when nothing is asked; `None` when it does not tell.
async fn default_life(client: &Client, request: &CreateGrant) -> Option<Duration> {
    let question = DecisionRequest {
        purpose: request.purpose.clone(),
        ticket: request.ticket.clone(),
        attestations: request.attestations.clone(),
        ..DecisionRequest::mint(&request.role)
    };
    client.decide(&question).await.ok()?.terms?.ttl
}

fn bound(asked: Option<Duration>, wanted: Option<Duration>, left: Duration) -> Option<Duration> {
    match wanted {
        Some(wanted) if wanted <= left => asked,
        _ => Some(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_asked_than_the_proof_lives() {
        let [short, left, long] = [60, 300, 900].map(Duration::from_secs);
        assert_eq!(bound(Some(short), Some(short), left), Some(short));
        assert_eq!(bound(Some(long), Some(long), left), Some(left));
        assert_eq!(bound(None, Some(short), left), None, "the role's default is short enough");
        assert_eq!(bound(None, Some(long), left), Some(left));
        assert_eq!(bound(None, None, left), Some(left), "what is not known is bounded");
    }
}
