//! `/status-lists`: whether tokens were ended before they expired, for verifiers that do not ask about each.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue};
use axum::response::Response;

use super::published;
use crate::http::extract::Named;
use crate::http::failure::Failure;
use crate::http::router::ApiState;

/// With the second that a list may be old and the two for which its token may be used, less than five.
const CACHE: &str = "public, max-age=2";

/// Gives a signed list of which tokens were ended (draft-ietf-oauth-status-list §8.1).
///
/// Public, to scripts in browsers too: it says nothing of whose tokens it is about.
#[utoipa::path(
    get,
    path = "/status-lists/{id}",
    operation_id = "status_list",
    tag = "discovery",
    params(("id" = u64, Path, description = "Number of the list, as in a token's `status.status_list.uri`.")),
    responses(
        (status = 200, description = "The list.", body = String, content_type = "application/statuslist+jwt"),
        (status = 304, description = "The list that the caller has is current.")
    ),
    security(())
)]
pub(in crate::http) async fn list(
    State(state): State<Arc<ApiState>>,
    Named(text): Named,
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
