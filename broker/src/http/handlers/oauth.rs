//! `/oauth2/introspect` and `/oauth2/revoke`: about tokens that this broker minted.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use hallpass_core::binding::Binding;
use hallpass_core::error::{ServiceError, Step};
use hallpass_core::grant::Grant;
use hallpass_core::identity::{Proof, TokenType};
use hallpass_core::port::Presented;
use hallpass_core::secret::Secret;
use hallpass_core::service::{inspect, revoke};
use hallpass_sdk::wire::Introspection;
use http::StatusCode;
use serde_json::Value;

use super::json;
use crate::http::desk::OwnToken;
use crate::http::extract::{Bearer, Certificate, Context, Form, MaybeBearer, UnverifiedPossession};
use crate::http::failure::Failure;
use crate::http::measure;
use crate::http::openapi;
use crate::http::router::ApiState;

/// Says whether a token works now (RFC 7662).
///
/// A token that does not, that is not of this broker or that the caller may not ask about is `{"active": false}`,
/// indistinguishably (§2.2).
#[utoipa::path(
    post,
    path = "/oauth2/introspect",
    operation_id = "introspect",
    tag = "exchange",
    request_body(content = openapi::TokenForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "Whether it works, and what it says.", body = Introspection)),
    security(("proof" = []))
)]
pub(in crate::http) async fn introspect(
    State(state): State<Arc<ApiState>>,
    Context(origin): Context,
    Bearer(proof): Bearer,
    Form(mut form): Form,
) -> Result<Response, Failure> {
    form.refuse_repeats(&[])?;
    let token = form.require("token")?;
    let caller = inspect::caller(&state.ports, &proof, &origin).await?;
    let own = state.tokens.read(&token).filter(|own| state.ports.now() < own.expires_at);
    let Some(own) = own else { return json(&Introspection::default()) };
    let live = caller.introspect(&state.ports, own.grant).await?;
    let live = live.filter(|grant| grant.can_have_token(Some(&own.key_id), own.expires_at));
    json(&live.map(|grant| shown(own, &grant, &state.public_url)).unwrap_or_default())
}

fn shown(own: OwnToken, grant: &Grant, issuer: &str) -> Introspection {
    let mut audiences = own.audiences;
    let aud = match audiences.len() {
        1 => audiences.pop().map(Value::String),
        _ => Some(Value::from(audiences)),
    };
    let dpop = own.binding_key.is_some_and(|key| key.binding() == Binding::Dpop);
    Introspection {
        active: true,
        iss: Some(issuer.to_owned()),
        sub: Some(own.subject),
        aud,
        client_id: own.client_id,
        scope: own.scope,
        token_type: Some(if dpop { "DPoP" } else { "Bearer" }.to_owned()),
        exp: Some(own.expires_at.as_secs()),
        iat: Some(own.issued_at.as_secs()),
        nbf: None,
        jti: own.token_id,
        grant_id: Some(grant.record.id.to_string()),
        act: own.act,
        cnf: own
            .binding_key
            .map(|key| BTreeMap::from([key.confirmation()].map(|(name, value)| (name.to_owned(), value)))),
        claims: serde_json::Map::new(),
    }
}

/// Ends the grant of a token (RFC 7009).
///
/// Whoever has a token may end it, and has its key where it is bound to one. One that is not of this broker is no error (§2.2). A proof is not needed; where one
/// comes, it must hold, and it may give its identity more rights than the token has.
#[utoipa::path(
    post,
    path = "/oauth2/revoke",
    operation_id = "revoke_token",
    tag = "exchange",
    request_body(content = openapi::TokenForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "It is ending, or there was nothing to end."),
        (status = 409, description = "Its grant cannot end now.")
    ),
    security((), ("proof" = []))
)]
pub(in crate::http) async fn revoke(
    State(state): State<Arc<ApiState>>,
    Context(origin): Context,
    MaybeBearer(proof): MaybeBearer,
    Certificate(certificate): Certificate,
    shown: UnverifiedPossession,
    Form(mut form): Form,
) -> Result<Response, Failure> {
    form.refuse_repeats(&[])?;
    let token = form.require("token")?;
    let own = state.tokens.read(&token);
    let by_proof = match (&proof, &own) {
        (None, _) => None,
        (Some(proof), None) => {
            inspect::caller(&state.ports, proof, &origin).await?;
            None
        }
        (Some(proof), Some(own)) => {
            let reason = Some("its token was presented for revocation".to_owned());
            match revoke::revoke(&state.ports, proof, own.grant, reason, &origin).await {
                Err(ServiceError::NotFound) => None,
                Err(ServiceError::Refused(refusal)) if refusal.step == Step::Policy => None,
                ended => Some(ended?),
            }
        }
    };
    if let (None, Some(own)) = (by_proof, own) {
        // What was shown with a proof of the caller's own was shown for that.
        let shown = match proof {
            Some(proof) => proof,
            None => {
                let possession = shown.verify(&state, Some(Presented::InBody(&[&token])))?;
                let proof = Proof::of_token(Secret::new(token), TokenType::AccessToken);
                Proof { certificate, ..proof.with_possession(possession) }
            }
        };
        revoke::revoke_by_credential(&state.ports, &shown, own.binding_key, own.grant, &origin).await?;
    }
    measure::end_requested();
    Ok(StatusCode::OK.into_response())
}
