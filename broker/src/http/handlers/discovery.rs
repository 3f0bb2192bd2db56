//! `/.well-known`: what others need to know to trust what the broker signs.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hallpass_sdk::wire::grant_type;
use serde_json::{Value, json};

use super::{bytes_of, public};
use crate::http::failure::Failure;
use crate::http::openapi;
use crate::http::router::ApiState;

/// Long enough to spare the broker, short enough that a new endpoint is found within a coffee.
const METADATA_CACHE: &str = "public, max-age=300";
/// A removed key must be forgotten soon.
const KEYS_CACHE: &str = "public, max-age=60";

/// Describes the broker as an OAuth authorization server (RFC 8414 §3).
#[utoipa::path(
    get,
    path = "/.well-known/oauth-authorization-server",
    operation_id = "authorization_server_metadata",
    tag = "discovery",
    responses((status = 200, description = "The metadata.", body = openapi::ServerMetadata)),
    security(())
)]
pub(in crate::http) async fn authorization_server(State(state): State<Arc<ApiState>>) -> Result<Response, Failure> {
    Ok(public("application/json", METADATA_CACHE, bytes_of(&metadata(&state))?))
}

/// Describes the broker as an OpenID Connect issuer (OpenID Connect Discovery §4).
///
/// For clouds and others that trust what it signs. Nobody logs in here, so there is no authorization endpoint.
#[utoipa::path(
    get,
    path = "/.well-known/openid-configuration",
    operation_id = "openid_configuration",
    tag = "discovery",
    responses((status = 200, description = "The metadata.", body = openapi::ServerMetadata)),
    security(())
)]
pub(in crate::http) async fn openid_configuration(State(state): State<Arc<ApiState>>) -> Result<Response, Failure> {
    let mut metadata = metadata(&state);
    if let Value::Object(members) = &mut metadata {
        members.insert("subject_types_supported".to_owned(), json!(["public"]));
        members.insert("id_token_signing_alg_values_supported".to_owned(), json!(state.keys.algorithms()));
        members.insert("claims_supported".to_owned(), json!(CLAIMS));
    }
    Ok(public("application/json", METADATA_CACHE, bytes_of(&metadata)?))
}

/// Gives the keys that verify what the broker signs (RFC 7517 §5).
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    operation_id = "jwks",
    tag = "discovery",
    responses((status = 200, description = "The key set.", body = openapi::JwkSet)),
    security(())
)]
pub(in crate::http) async fn jwks(State(state): State<Arc<ApiState>>) -> Response {
    public("application/json", KEYS_CACHE, state.keys.jwks())
}

/// What a token of the broker's own can say: the claims of RFC 9068 §2.2, and the grant's answers.
const CLAIMS: &[&str] = &[
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "jti",
    "client_id",
    "scope",
    "grant_id",
    "role",
    "owner",
    "purpose",
    "repository",
    "repository_id",
    "commit",
    "run",
    "status",
    "cnf",
];

/// Describes this interface (OpenAPI 3.1).
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    tag = "discovery",
    responses((status = 200, description = "This document.", body = Object)),
    security(())
)]
pub(in crate::http) async fn interface() -> Response {
    public("application/json", METADATA_CACHE, openapi::json())
}

fn metadata(state: &ApiState) -> Value {
    let at = |path: &str| format!("{}{path}", state.public_url);
    json!({
        "issuer": state.public_url,
        "token_endpoint": at("/oauth2/token"),
        "jwks_uri": at("/.well-known/jwks.json"),
        "introspection_endpoint": at("/oauth2/introspect"),
        "revocation_endpoint": at("/oauth2/revoke"),
        // What verifies checkpoints of the audit log and receipts for grants (C2SP signed-note).
        "hallpass_audit_verifier_key": state.ports.evidence.checkpoints.verifier_key().to_string(),
        "grant_types_supported": [grant_type::TOKEN_EXCHANGE],
        // RFC 8414 requires the member, and strict relying parties want `id_token` in it.
        "response_types_supported": ["id_token"],
        "token_endpoint_auth_methods_supported": ["none"],
        "dpop_signing_alg_values_supported": state.possession.algorithms(),
        "tls_client_certificate_bound_access_tokens": state.takes_certificates,
        "revocation_endpoint_auth_methods_supported": ["none"],
    })
}
