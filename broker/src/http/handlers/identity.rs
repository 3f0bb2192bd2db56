//! `/v1/whoami` and `/v1/decisions`: what the broker sees of a caller, and what it would decide.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hallpass_core::error::{Reason, ServiceError};
use hallpass_core::policy::{Action, Decision, Outcome};
use hallpass_core::request::Purpose;
use hallpass_core::service::inspect::{self, Caller, Preview};
use hallpass_sdk::wire::{DecisionAnswer, DecisionRequest, Outcome as Answered, WhoAmI};

use super::{json, readable};
use crate::http::extract::{Bearer, Context, Json};
use crate::http::failure::{Failure, Fault, Unreadable};
use crate::http::router::ApiState;
use crate::http::wire;

/// Shows what the broker sees of the caller's proof. Nothing is consumed.
#[utoipa::path(
    get,
    path = "/v1/whoami",
    operation_id = "whoami",
    tag = "identity",
    responses((status = 200, description = "The caller.", body = WhoAmI)),
    security(("proof" = []))
)]
pub(in crate::http) async fn whoami(
    State(state): State<Arc<ApiState>>,
    Context(origin): Context,
    Bearer(proof): Bearer,
) -> Result<Response, Failure> {
    let caller = inspect::caller(&state.ports, &proof, &origin).await?;
    let digest = ring::digest::digest(&ring::digest::SHA256, proof.token.expose().as_bytes());
    let digest = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    json(&wire::who_am_i(caller.identity(), caller.groups(), digest))
}

/// Says what would be decided, without minting or consuming a proof.
#[utoipa::path(
    post,
    path = "/v1/decisions",
    operation_id = "preview_decision",
    tag = "identity",
    request_body = DecisionRequest,
    responses((status = 200, description = "The decision, a refusal too.", body = DecisionAnswer)),
    security(("proof" = []))
)]
pub(in crate::http) async fn decisions(
    State(state): State<Arc<ApiState>>,
    Context(origin): Context,
    Bearer(proof): Bearer,
    Json(body): Json<DecisionRequest>,
) -> Result<Response, Failure> {
    let asked = body.and_then(|body| preview(body.value));
    let wanted = readable(&state, &proof, asked, &origin).await?;
    let caller = inspect::caller(&state.ports, &proof, &origin).await?;
    let decided = match caller.preview(&state.ports, &wanted).await {
        // A policy that cannot be evaluated allows nothing, and whether there is one is not the caller's to know.
        Err(ServiceError::Refused(_)) => None,
        decided => decided?,
    };
    let may_read = caller.role(&state.ports, &wanted.role).await.is_ok();
    json(&answer(&caller, decided.as_ref(), may_read))
}

fn preview(asked: DecisionRequest) -> Result<Preview, Unreadable> {
    if asked.action != Action::Mint.as_str() {
        return Err(Unreadable::content("action", "this version previews `mint` alone"));
    }
    Ok(Preview {
        role: asked.role,
        action: Action::Mint,
        purpose: Purpose::stated(asked.purpose.as_deref())
            .map_err(|refusal| Unreadable::new(Fault::Content, refusal))?,
        ttl: asked.ttl.map(wire::life),
        ticket: wire::ticket(asked.ticket)?,
    })
}

/// A denial reads the same for a role that does not exist and for one that the caller may not even read.
fn answer(caller: &Caller, decided: Option<&Decision>, may_read: bool) -> DecisionAnswer {
    let allowed = decided.filter(|decision| decision.verdict.outcome == Outcome::Allow);
    let shown = allowed.or_else(|| decided.filter(|_| may_read));
    let determining = shown.map(|decision| &decision.verdict.determining);
    let denied = allowed.is_none();
    DecisionAnswer {
        outcome: if denied { Answered::Deny } else { Answered::Allow },
        policy_revision: caller.revision().id.to_string(),
        determining_policies: determining.into_iter().flatten().map(ToString::to_string).collect(),
        obligations: allowed.map(|decision| wire::obligations(&decision.verdict.obligations)).unwrap_or_default(),
        terms: None,
        reason: denied.then(|| Reason::RoleNotAvailable.as_str().to_owned()),
        detail: denied.then(|| "the role does not exist, or policy does not allow it to this identity".to_owned()),
    }
}
