//! `POST /oauth2/token`: a proof for a credential that is one token (RFC 8693).

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallpass_core::credential::{CredentialMaterial, SingleToken};
use hallpass_core::error::{Reason, Refusal, ServiceError, Step};
use hallpass_core::identity::{ClientCertificate, Evidence, Proof, TokenType};
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
    let Exchange { proof, actor, request, issued_as, with_receipt } = Exchange::read(form, key, certificate.as_ref())?;
    let tokens: Vec<_> = [Some(&proof), actor.as_ref()].into_iter().flatten().filter_map(token_of).collect();
    let possession = shown.verify(&state, Some(Presented::InBody(&tokens)))?;
    let by_dpop = possession.is_some();
    // Keys are shown with the request: whoever acts is bound to them, and the subject's own proof may be bound to one.
    let shown_with =
        |proof: Proof| Proof { certificate: certificate.clone(), ..proof.with_possession(possession.clone()) };
    let (proof, actor) = (shown_with(proof), actor.map(shown_with));
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
    fn read(
        mut form: Parameters,
        key: Option<String>,
        certificate: Option<&Arc<ClientCertificate>>,
    ) -> Result<Self, Unreadable> {
        form.refuse_repeats(&["audience", "resource"])?;
        let named = form.require("grant_type")?;
        if named != grant_type::TOKEN_EXCHANGE {
            let detail = format!("the one grant type here is {}", grant_type::TOKEN_EXCHANGE);
            let refusal = Refusal::request(Reason::MalformedRequest, "grant_type", detail);
            return Err(Unreadable::new(Fault::GrantType, refusal));
        }
        let token = Secret::new(form.require("subject_token")?);
        let token_type = proof_type("subject_token_type", &form.require("subject_token_type")?)?;
        let proof = proof_of("subject_token", token, token_type, certificate)?;
        let actor = actor(&mut form, certificate)?;
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
            actor.as_ref().map(written_of).unwrap_or_default(),
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
        Ok(Self { proof, actor, request, issued_as, with_receipt })
    }
}

/// The token that a proof is; a certificate is none.
fn token_of(proof: &Proof) -> Option<&str> {
    proof.token().ok().map(Secret::expose)
}

/// What was sent as a proof.
fn written_of(proof: &Proof) -> &[u8] {
    match &proof.evidence {
        Evidence::Token { token, .. } => token.expose().as_bytes(),
        Evidence::Certificate(certificate) => certificate.leaf(),
    }
}

/// What the caller says that its proof is.
#[derive(Clone, Copy)]
enum ProofType {
    Token(TokenType),
    Certificate,
}

/// A type that can be no proof here is refused before anything is parsed.
fn proof_type(parameter: &str, identifier: &str) -> Result<ProofType, Unreadable> {
    match identifier {
        token_type::JWT => Ok(ProofType::Token(TokenType::Jwt)),
        token_type::ID_TOKEN => Ok(ProofType::Token(TokenType::IdToken)),
        token_type::ACCESS_TOKEN => Ok(ProofType::Token(TokenType::AccessToken)),
        token_type::MTLS => Ok(ProofType::Certificate),
        _ => {
            let detail = "a proof is a `jwt`, an `id_token` or an `access_token` (RFC 8693 section 3), or `mtls`, the client \
                          certificate of the connection";
            let refusal = Refusal::request(Reason::WrongTokenType, parameter, detail);
            Err(Unreadable::new(Fault::Content, refusal))
        }
    }
}

/// What is sent as a proof of this type. A certificate is the one that the connection has shown the key of, and named once
/// more in the token, so that nobody's proof is a certificate that it did not mean to show: what is only sent proves nothing.
fn proof_of(
    parameter: &'static str,
    token: Secret,
    is: ProofType,
    certificate: Option<&Arc<ClientCertificate>>,
) -> Result<Proof, Unreadable> {
    let refuse = |reason, detail: &str| {
        Unreadable::new(Fault::Content, Refusal::proof(reason, format!("`{parameter}`: {detail}")).about(parameter))
    };
    if let ProofType::Token(token_type) = is {
        return Ok(Proof::of_token(token, token_type));
    }
    let named = first_certificate(token.expose()).ok_or_else(|| {
        let detail = "a certificate is sent as a JSON array of certificates in base64 (as `x5c`, RFC 7515 section 4.1.6), \
                      that of the connection first";
        refuse(Reason::BadEncoding, detail)
    })?;
    let Some(shown) = certificate else {
        return Err(refuse(
            Reason::PopRequired,
            "show the certificate as the client certificate of the connection, too",
        ));
    };
    if named != shown.leaf() {
        let detail = "its first certificate is not the client certificate of the connection";
        return Err(refuse(Reason::PopMismatch, detail));
    }
    Ok(Proof::of_certificate(Arc::clone(shown)))
}

fn first_certificate(text: &str) -> Option<Vec<u8>> {
    let chain: Vec<String> =
        serde_json::from_str(text).ok().filter(|_| text.len() <= 2 * ClientCertificate::MAX_BYTES)?;
    STANDARD.decode(chain.first()?).ok().filter(|der| !der.is_empty())
}

/// Who acts for the subject. RFC 8693 §2.1: both actor parameters, or neither.
fn actor(form: &mut Parameters, certificate: Option<&Arc<ClientCertificate>>) -> Result<Option<Proof>, Unreadable> {
    match (form.take("actor_token").map(Secret::new), form.take("actor_token_type")) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(Unreadable::content("actor_token_type", "`actor_token` needs `actor_token_type`")),
        (None, Some(_)) => Err(Unreadable::content("actor_token", "`actor_token_type` needs `actor_token`")),
        (Some(token), Some(identifier)) => {
            let token_type = proof_type("actor_token_type", &identifier)?;
            proof_of("actor_token", token, token_type, certificate).map(Some)
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
