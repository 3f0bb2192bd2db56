//! `/status-lists`: whether tokens were ended before they expired, for verifiers that do not ask about each.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue};
use axum::response::Response;

use super::published;
use crate::http::failure::Failure;
use crate::http::router::ApiState;

/// With the second that a list may be old and the two for which its token may be used, less than five.
const CACHE: &str = "public, max-age=2";

/// `GET /status-lists/{id}` (draft-ietf-oauth-status-list §8.1). Public, to scripts in browsers too: it says nothing
/// of whose tokens it is about.
pub(in crate::http) async fn list(
    State(state): State<Arc<ApiState>>,
    Path(text): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    // A list has one URL, the one that its token names: other spellings of the number are not it.
    let number: u64 = text.parse().map_err(|_| Failure::NoSuchEndpoint)?;
    if number.to_string() != text {
        return Err(Failure::NoSuchEndpoint);
    }
    let list = state.status_lists.list(number).await?.ok_or(Failure::NoSuchEndpoint)?;
    let mut response = published("application/statuslist+jwt", CACHE, list, &headers);
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    Ok(response)
}
