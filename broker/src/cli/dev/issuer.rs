//! The issuer that `dev` brings along: it signs for anybody who asks, on loopback, so that a newcomer has proofs.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_core::entropy::{Entropy, fresh_id};
use hallpass_core::id::RequestId;
use hallpass_core::port::Signer;
use hallpass_core::time::{Clock, Ttl};
use serde::Deserialize;
use serde_json::{Value, json};

/// How long its proofs live: as long as those of the big CI systems.
const LIFETIME: Ttl = Ttl::from_mins(5);

/// The issuers `ci`, `services` and `people`, on one address.
pub(super) struct DevIssuer {
    origin: String,
    audience: String,
    signer: Arc<dyn Signer>,
    jwks: Value,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl DevIssuer {
    /// Issuers at `address` that sign with `signer`, published in `jwks`, for `audience` unless another is asked for.
    #[must_use]
    pub(super) fn new(
        address: SocketAddr,
        audience: String,
        signer: Arc<dyn Signer>,
        jwks: Value,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self { origin: format!("http://{address}"), audience, signer, jwks, clock, entropy }
    }

    /// The `iss` of the issuer `name`.
    #[must_use]
    pub(super) fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.origin)
    }

    /// Its HTTP interface.
    pub(super) fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/{issuer}/.well-known/openid-configuration", get(discovery))
            .route("/{issuer}/jwks.json", get(jwks))
            .route("/{issuer}/token", get(token))
            .with_state(self)
    }

    /// A fresh proof of `who` at the issuer `name`: `deploy-job` and `mesh-job` of `ci`, `api-server` of
    /// `services`, `ada` of `people`.
    ///
    /// # Errors
    /// A sentence that says what would be right.
    pub(super) fn proof(&self, name: &str, who: &str, audience: Option<&str>) -> Result<String, String> {
        let mut claims = claims_of(name, who)?;
        let now = self.clock.now();
        let id: RequestId = fresh_id(self.clock.as_ref(), self.entropy.as_ref()).map_err(|error| error.to_string())?;
        let common = json!({
            "iss": self.url(name),
            "aud": audience.unwrap_or(&self.audience),
            "jti": id.to_string(),
            "iat": now.as_secs(),
            "nbf": now.as_secs(),
            "exp": now.plus(LIFETIME).as_secs(),
        });
        if let (Value::Object(claims), Value::Object(common)) = (&mut claims, common) {
            claims.extend(common);
        }
        let header = json!({"alg": self.signer.algorithm().as_str(), "typ": "JWT", "kid": self.signer.key_id()});
        let input =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.signer.sign(input.as_bytes()).map_err(|error| error.to_string())?;
        Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// What the issuer says of each of its few identities. The CI ones carry GitHub's claim names.
fn claims_of(issuer: &str, who: &str) -> Result<Value, String> {
    let run = |repository: &str, id: &str, owner: &str, owner_id: &str, workflow: &str| {
        json!({
            "sub": format!("repo:{owner}/{repository}:ref:refs/heads/main"),
            "repository": format!("{owner}/{repository}"),
            "repository_id": id,
            "repository_owner": owner,
            "repository_owner_id": owner_id,
            "ref": "refs/heads/main",
            "ref_protected": "true",
            "ref_type": "branch",
            "sha": "4f2c8b1d9e3a5c7f0b2d4e6a8c0f1e3d5b7a9c1e",
            "workflow": workflow,
            "workflow_ref": format!("{owner}/{repository}/.github/workflows/{workflow}.yml@refs/heads/main"),
            "job_workflow_ref": format!("{owner}/{repository}/.github/workflows/{workflow}.yml@refs/heads/main"),
            "event_name": "push",
            "actor": "ada",
            "actor_id": "1001",
            "run_id": "7700112233",
            "run_number": "42",
            "run_attempt": "1",
            "runner_environment": "github-hosted",
            "environment": "production",
        })
    };
    match (issuer, who) {
        ("ci", "deploy-job") => Ok(run("payments", "222", "acme", "111", "deploy")),
        ("ci", "mesh-job") => Ok(run("mesh", "333", "acme", "111", "sidecar")),
        ("services", "api-server") => Ok(json!({"sub": "service:payments-api"})),
        ("people", "ada") => Ok(json!({"sub": "ada@example.com"})),
        _ => Err("`ci` knows deploy-job and mesh-job, `services` knows api-server, and `people` knows ada".to_owned()),
    }
}

async fn discovery(State(issuer): State<Arc<DevIssuer>>, Path(name): Path<String>) -> Json<Value> {
    let url = issuer.url(&name);
    Json(json!({
        "issuer": url,
        "jwks_uri": format!("{url}/jwks.json"),
        "id_token_signing_alg_values_supported": [issuer.signer.algorithm().as_str()],
        "subject_types_supported": ["public"],
        "response_types_supported": ["id_token"],
    }))
}

async fn jwks(State(issuer): State<Arc<DevIssuer>>) -> Json<Value> {
    Json(issuer.jwks.clone())
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(rename = "as")]
    who: Option<String>,
    audience: Option<String>,
}

async fn token(
    State(issuer): State<Arc<DevIssuer>>,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
) -> axum::response::Response {
    let who = wanted.who.unwrap_or_else(|| if name == "people" { "ada" } else { "deploy-job" }.to_owned());
    match issuer.proof(&name, &who, wanted.audience.as_deref()) {
        Ok(token) => token.into_response(),
        Err(what) => (StatusCode::NOT_FOUND, what).into_response(),
    }
}
