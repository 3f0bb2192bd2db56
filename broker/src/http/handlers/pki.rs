//! `/pki`: the built-in certificate authority.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::{public, published};
use crate::http::desk::Pki;
use crate::http::extract::Named;
use crate::http::failure::Failure;
use crate::http::router::ApiState;

/// Gives the certificates of the built-in authority, the one that signs first, in PEM (RFC 8555 §9.1 has the media type).
#[utoipa::path(
    get,
    path = "/pki/ca.pem",
    operation_id = "ca_certificate",
    tag = "pki",
    responses(
        (status = 200, description = "The certificates.", body = String, content_type = "application/pem-certificate-chain"),
        (status = 404, description = "There is no built-in authority.")
    ),
    security(())
)]
pub(in crate::http) async fn ca(State(state): State<Arc<ApiState>>) -> Result<Response, Failure> {
    let pki = authority(&state)?;
    Ok(public("application/pem-certificate-chain", "public, max-age=300", pki.ca_pem()))
}

/// With the second that a list may be old, no more than five.
const CRL_CACHE: &str = "public, max-age=4";

/// Gives the certificate revocation list, in DER (RFC 5280 §5; RFC 2585 §4.2 has the media type).
///
/// Cached briefly: while an old list is believed, a revoked certificate is too.
#[utoipa::path(
    get,
    path = "/pki/crl.der",
    operation_id = "certificate_revocation_list",
    tag = "pki",
    responses(
        (status = 200, description = "The list.", body = Vec<u8>, content_type = "application/pkix-crl"),
        (status = 304, description = "The list that the caller has is current."),
        (status = 404, description = "There is no built-in authority.")
    ),
    security(())
)]
pub(in crate::http) async fn crl(State(state): State<Arc<ApiState>>, headers: HeaderMap) -> Result<Response, Failure> {
    let list = authority(&state)?.crl(None).await?.ok_or(Failure::NoSuchEndpoint)?;
    Ok(published("application/pkix-crl", CRL_CACHE, list, &headers))
}

/// Gives the certificate revocation list that one key of the authority signs, in DER.
///
/// What a certificate of that key points to. While the authority's key is rotated there are several.
#[utoipa::path(
    get,
    path = "/pki/crl/{id}",
    operation_id = "certificate_revocation_list_of_key",
    tag = "pki",
    params(("id" = String, Path, description = "The key's id, followed by `.der`.")),
    responses(
        (status = 200, description = "The list.", body = Vec<u8>, content_type = "application/pkix-crl"),
        (status = 304, description = "The list that the caller has is current.")
    ),
    security(())
)]
pub(in crate::http) async fn crl_of(
    State(state): State<Arc<ApiState>>,
    Named(name): Named,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let key_id = name.strip_suffix(".der").ok_or(Failure::NoSuchEndpoint)?;
    let list = authority(&state)?.crl(Some(key_id)).await?.ok_or(Failure::NoSuchEndpoint)?;
    Ok(published("application/pkix-crl", CRL_CACHE, list, &headers))
}

fn authority(state: &ApiState) -> Result<&dyn Pki, Failure> {
    state.pki.as_deref().ok_or(Failure::NoSuchEndpoint)
}
