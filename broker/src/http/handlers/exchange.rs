//! `POST /oauth2/token`: a proof for a credential that is one token (RFC 8693).

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hallpass_core::credential::{CredentialMaterial, SingleToken};
use hallpass_core::error::{Reason, Refusal, ServiceError, Step};
use hallpass_core::identity::{Proof, TokenType};
use hallpass_core::port::Presented;
use hallpass_core::request::GrantRequest;
use hallpass_core::secret::Secret;
use hallpass_core::time::{Timestamp, Ttl};
use hallpass_sdk::wire::{self, TokenResponse, grant_type, token_type};

use super::{bytes_of, idempotency, json_body, receipt};
use crate::http::extract::{Certificate, Context, Form, IdempotencyKey, UnverifiedPossession};
use crate::http::failure::{Failure, Fault, Unreadable};
use crate::http::form::Parameters;
use crate::http::issuance::{Issued, issue};
use crate::http::measure;
use crate::http::openapi;
use crate::http::router::ApiState;
use crate::http::wire::{attestations, life, scope, task, ticket};

/// Exchanges a proof for a credential that is one token (RFC 8693).
///
/// The proof is in the body, so that the call needs no `Authorization`. A role whose credential is more than one token
/// answers `invalid_target`: open a grant at `/v1/grants` for it.
#[utoipa::path(
    post,
    path = "/oauth2/token",
    operation_id = "exchange",
    tag = "exchange",
    params(
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$",
            description = "Makes a repetition of the same request safe: the earlier grant is ended, a fresh one opened."),
        ("DPoP" = Option<String>, Header,
            description = "Shows a key (RFC 9449): the grant is bound to it, and so is a token of the broker's own."),
    ),
    request_body(content = openapi::ExchangeForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "The credential: it is shown this once.", body = TokenResponse),
        (status = 409, description = "The key is in use."),
        (status = 502, description = "The backend refused.")
    ),
    security(())
)]
pub(in crate::http) async fn exchange(
    State(state): State<Arc<ApiState>>,
    Context(origin): Context,
    IdempotencyKey(key): IdempotencyKey,
    Certificate(certificate): Certificate,
    shown: UnverifiedPossession,
    Form(form): Form,
) -> Result<Response, Failure> {
    let Exchange { proof, actor, request, issued_as, with_receipt } = Exchange::read(form, key)?;
    // Whoever calls is whoever acts, where somebody does.
    let caller = actor.as_ref().unwrap_or(&proof).token().map_err(ServiceError::from)?;
    let possession = shown.verify(&state, Some(Presented::InBody(caller.expose())))?;
    let by_dpop = possession.is_some();
    let (proof, actor) = match actor {
        None => (Proof { certificate, ..proof.with_possession(possession) }, None),
        Some(actor) => (proof, Some(Proof { certificate, ..actor.with_possession(possession) })),
    };
    let issued = issue(&state, proof, actor, request, origin).await?;
    let receipt = receipt(&state, &issued.grant, with_receipt).await?;
    answer(&state, issued, issued_as, by_dpop, receipt)
}

/// A token exchange that was asked for.
struct Exchange {
    proof: Proof,
    actor: Option<Proof>,
    request: GrantRequest,
    issued_as: &'static str,
    with_receipt: bool,
}

impl Exchange {
    fn read(mut form: Parameters, key: Option<String>) -> Result<Self, Unreadable> {
        form.refuse_repeats(&["audience", "resource"])?;
        let named = form.require("grant_type")?;
        if named != grant_type::TOKEN_EXCHANGE {
            let detail = format!("the one grant type here is {}", grant_type::TOKEN_EXCHANGE);
            let refusal = Refusal::request(Reason::MalformedRequest, "grant_type", detail);
            return Err(Unreadable::new(Fault::GrantType, refusal));
        }
        let token = Secret::new(form.require("subject_token")?);
        let token_type = proof_type("subject_token_type", &form.require("subject_token_type")?)?;
        let actor = actor(&mut form)?;
        let issued_as = issued_as(form.take("requested_token_type"))?;
        let role = target(&mut form)?;
        let ttl = form.take("ttl").map(|text| ttl(&text)).transpose()?;
        let scope = scope(
            form.take("scope").unwrap_or_default().split(' ').map(str::to_owned).filter(|s| !s.is_empty()).collect(),
        )?;
        let (purpose, ticket) = (form.take("purpose"), ticket(form.take("ticket"))?);
        let task = task(form.take("task"))?;
        let attestations = offered(&mut form)?;
        let with_receipt = flag(&mut form, "receipt")?;
        // Says which client this is and proves nothing (RFC 6749 §3.2.1).
        form.take("client_id");
        measure::ignored_parameters(form.rest().len());
        let seconds = ttl.map(|ttl| ttl.as_secs().to_be_bytes());
        let digest_parts = [
            b"token".as_slice(),
            role.as_bytes(),
            purpose.as_deref().unwrap_or_default().as_bytes(),
            ticket.as_deref().unwrap_or_default().as_bytes(),
            seconds.as_ref().map_or(&[], <[u8; 8]>::as_slice),
            issued_as.as_bytes(),
            &[u8::from(with_receipt)],
            task.as_deref().unwrap_or_default().as_bytes(),
            actor
                .as_ref()
                .and_then(|actor| actor.token().ok())
                .map(|token| token.expose().as_bytes())
                .unwrap_or_default(),
        ];
        let idempotency =
            idempotency(key, digest_parts.into_iter().chain(scope.iter().chain(&attestations).map(String::as_bytes)));
        let request = GrantRequest {
            role,
            purpose,
            ttl,
            ticket,
            task,
            scope,
            csr: None,
            heartbeat: None,
            replaces: None,
            attestations,
            idempotency,
            single_token: true,
        };
        Ok(Self { proof: Proof::of_token(token, token_type), actor, request, issued_as, with_receipt })
    }
}

/// What the caller says that its proof is. A type that can be no proof here is refused before anything is parsed.
fn proof_type(parameter: &str, identifier: &str) -> Result<TokenType, Unreadable> {
    match identifier {
        token_type::JWT => Ok(TokenType::Jwt),
        token_type::ID_TOKEN => Ok(TokenType::IdToken),
        token_type::ACCESS_TOKEN => Ok(TokenType::AccessToken),
        _ => {
            let detail = "a proof is a `jwt`, an `id_token` or an `access_token` (RFC 8693 section 3)";
            let refusal = Refusal::request(Reason::WrongTokenType, parameter, detail);
            Err(Unreadable::new(Fault::Content, refusal))
        }
    }
}

/// Who acts for the subject. RFC 8693 §2.1: both actor parameters, or neither.
fn actor(form: &mut Parameters) -> Result<Option<Proof>, Unreadable> {
    match (form.take("actor_token").map(Secret::new), form.take("actor_token_type")) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(Unreadable::content("actor_token_type", "`actor_token` needs `actor_token_type`")),
        (None, Some(_)) => Err(Unreadable::content("actor_token", "`actor_token_type` needs `actor_token`")),
        (Some(token), Some(identifier)) => {
            Ok(Some(Proof::of_token(token, proof_type("actor_token_type", &identifier)?)))
        }
    }
}

/// How the answer names its token: as asked for, or as the access token that it is (RFC 8693 §2.2.1).
fn issued_as(requested: Option<String>) -> Result<&'static str, Unreadable> {
    match requested.as_deref() {
        None | Some(token_type::ACCESS_TOKEN) => Ok(token_type::ACCESS_TOKEN),
        Some(token_type::JWT) => Ok(token_type::JWT),
        Some(_) => {
            let detail = "ask for an `access_token` or a `jwt` (RFC 8693 section 3), or for none";
            Err(Unreadable::content("requested_token_type", detail))
        }
    }
}

/// The one role that is wanted. A request for several targets would get the rights of all in one token.
fn target(form: &mut Parameters) -> Result<String, Unreadable> {
    let (audiences, resources) = (form.take_all("audience"), form.take_all("resource"));
    let mut roles = audiences.into_iter();
    match (roles.next(), roles.next(), resources.is_empty()) {
        (Some(role), None, true) => Ok(role),
        (None, _, true) => Err(Unreadable::content("audience", "name the role in `audience`")),
        _ => {
            let detail = "name exactly one role, in `audience`, and no `resource`";
            let refusal = Refusal::new(Step::Request, Reason::RoleNotAvailable, detail).about("audience");
            Err(Unreadable::new(Fault::Content, refusal))
        }
    }
}

/// `15m`, or whole seconds.
fn ttl(text: &str) -> Result<Ttl, Unreadable> {
    let seconds = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok().map(Ttl::from_secs));
    let parsed = seconds.unwrap_or_else(|| text.parse::<wire::Duration>().ok().map(life));
    parsed.ok_or_else(|| Unreadable::content("ttl", "`ttl` is a duration such as 15m, or whole seconds"))
}

/// A JSON array of envelopes in one parameter: a parameter does not come twice here (RFC 6749 §3.2).
fn offered(form: &mut Parameters) -> Result<Vec<String>, Unreadable> {
    let Some(text) = form.take("attestations") else { return Ok(Vec::new()) };
    let read = serde_json::from_str::<Vec<String>>(&text);
    let wrong = |_| Unreadable::content("attestations", "`attestations` is a JSON array of envelopes, each as text");
    read.map_err(wrong).and_then(attestations)
}

/// `true` or `false`; not given, it is not meant.
fn flag(form: &mut Parameters, name: &str) -> Result<bool, Unreadable> {
    match form.take(name).as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Unreadable::content(name, format!("`{name}` is true or false"))),
    }
}

fn answer(
    state: &ApiState,
    issued: Issued,
    issued_as: &'static str,
    by_dpop: bool,
    receipt: Option<wire::Receipt>,
) -> Result<Response, Failure> {
    let Issued { grant, credential, handover } = issued;
    let Some(SingleToken { token, is_bearer }) = credential.material.single_token() else {
        // The use-case was told that one token is all that can be answered.
        tracing::error!(grant = %grant.record.id, "a backend that says it makes one token made something else");
        let detail = "this role's credential is not one token; ask for it at /v1/grants";
        return Err(ServiceError::Backend { reason: Reason::BackendRefused, detail: detail.to_owned() }.into());
    };
    // The broker's own tokens name the key; those of others work for whoever has them.
    let is_bound = by_dpop && matches!(credential.material, CredentialMaterial::Jwt { .. });
    let token_type = match (is_bound, is_bearer) {
        (true, _) => "DPoP",
        (false, true) => "Bearer",
        (false, false) => "N_A",
    };
    let scope = &grant.record.terms.scope;
    let response = TokenResponse {
        access_token: wire::Secret::new(token.expose().to_owned()),
        issued_token_type: issued_as.to_owned(),
        token_type: token_type.to_owned(),
        expires_in: expires_in(credential.expires_at, state.ports.now()),
        scope: (!scope.is_empty()).then(|| scope.join(" ")),
        grant_id: grant.record.id.to_string(),
        receipt,
    };
    Ok(json_body(handover.body(bytes_of(&response)?)))
}

/// Whole seconds that a token still works for (RFC 6749 §5.1), rounded down; one for the last, begun second: clients take
/// a token that expires in 0 for a dead one.
fn expires_in(expires_at: Timestamp, now: Timestamp) -> u64 {
    let whole = expires_at.since(now).as_secs();
    if whole == 0 && now < expires_at { 1 } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_lives_never_expires_in_no_time() {
        let at = Timestamp::from_millis;
        for (left, told) in [(600_000, 600), (1_999, 1), (1_000, 1), (999, 1), (1, 1), (0, 0), (-5_000, 0)] {
            assert_eq!(expires_in(at(10_000 + left), at(10_000)), told, "{left} ms are left");
        }
    }
}
