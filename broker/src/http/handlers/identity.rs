//! `/v1/whoami` and `/v1/decisions`: what the broker sees of a caller, and what it would decide.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hallpass_core::policy::Action;
use hallpass_core::request::{GrantRequest, Purpose};
use hallpass_core::service::inspect;
use hallpass_sdk::wire::{DecisionAnswer, DecisionRequest, WhoAmI};

use super::{acting, json, readable};
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
    let digest = proof.digest().iter().map(|byte| format!("{byte:02x}")).collect();
    json(&wire::who_am_i(caller.identity(), caller.groups(), digest))
}

/// Says what would be decided, without minting or consuming a proof: neither the caller's nor that of whoever would act.
///
/// How many grants there may be is counted when one is opened, and not here.
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
    let asked = body.and_then(|mut body| {
        let actor = acting(body.value.actor_token.take(), body.value.actor_certificate, &proof)?;
        Ok((actor, preview(body.value)?))
    });
    let (actor, wanted) = readable(&state, &proof, asked, &origin).await?;
    let (caller, foreseen) = match actor {
        None => {
            let caller = inspect::caller(&state.ports, &proof, &origin).await?;
            let foreseen = caller.preview(&state.ports, &wanted, &origin).await?;
            (caller, foreseen)
        }
        Some(actor) => inspect::preview_for_actor(&state.ports, &proof, &actor, &wanted, &origin).await?,
    };
    let may_read = caller.role(&state.ports, &wanted.role).await.is_ok();
    json(&wire::foreseen(caller.revision(), &foreseen, may_read))
}

fn preview(asked: DecisionRequest) -> Result<GrantRequest, Unreadable> {
    if asked.action != Action::Mint.as_str() {
        return Err(Unreadable::content("action", "this version previews `mint` alone"));
    }
    Purpose::stated(asked.purpose.as_deref()).map_err(|refusal| Unreadable::new(Fault::Content, refusal))?;
    Ok(GrantRequest {
        role: asked.role,
        purpose: asked.purpose,
        ttl: asked.ttl.map(wire::life),
        ticket: wire::ticket(asked.ticket)?,
        task: wire::task(asked.task)?,
        scope: wire::scope(asked.scope)?,
        csr: None,
        heartbeat: None,
        replaces: wire::replaces(asked.replaces.as_deref())?,
        attestations: wire::attestations(asked.attestations)?,
        idempotency: None,
        single_token: false,
    })
}
