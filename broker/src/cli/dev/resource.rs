//! A small protected resource, as a user of Hallpass would write one: it takes a bearer token, asks the broker whether
//! the token is alive (RFC 7662), and checks that it is meant for it.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use hallpass_sdk::Client;
use hallpass_sdk::wire::Secret;

/// The audience that it answers to.
pub(super) const AUDIENCE: &str = "https://deploy.payments.example.com";

/// The resource; `broker` introspects with the resource's own proof.
pub(super) fn router(broker: Client) -> Router {
    Router::new().route("/deployments", post(deploy)).with_state(Arc::new(broker))
}

async fn deploy(State(broker): State<Arc<Client>>, headers: HeaderMap) -> (StatusCode, String) {
    let Some(token) = bearer(&headers) else {
        return (StatusCode::UNAUTHORIZED, "no bearer token".to_owned());
    };
    match broker.introspect(&Secret::new(token)).await {
        Ok(answer) if answer.active && is_for_us(answer.aud.as_ref()) => {
            (StatusCode::OK, format!("deployed on behalf of {}", answer.sub.unwrap_or_default()))
        }
        Ok(_) => (StatusCode::UNAUTHORIZED, "the token is not alive, or not meant for this resource".to_owned()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("the broker does not answer: {error}")),
    }
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::to_owned)
}

/// `aud` is a string or a list of strings (RFC 7519 §4.1.3).
fn is_for_us(audience: Option<&serde_json::Value>) -> bool {
    match audience {
        Some(serde_json::Value::String(one)) => one == AUDIENCE,
        Some(serde_json::Value::Array(several)) => several.iter().any(|one| one == AUDIENCE),
        _ => false,
    }
}
