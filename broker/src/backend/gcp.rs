//! The `gcp` backend: access tokens of service accounts of Google Cloud, by no key at all.
//!
//! The broker shows its own token to the Security Token Service, which a workload identity pool lets trust it, and has
//! with what it gets the role's service account's token made, for what is left of the grant, rounded down. Where the role
//! has a boundary, that token is exchanged for one that can do less, and nobody sees the first.
//!
//! Nothing takes back such a token (`expiry_only`): a service account can be disabled, which ends all of its tokens and is
//! not the broker's to do.
//!
//! There is no inventory: Google Cloud lists access tokens to nobody.
//!
//! Requests and answers as documented:
//! <https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token>,
//! <https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken>,
//! <https://cloud.google.com/iam/docs/create-downscoped-short-lived-credentials>.

mod failure;
mod parameters;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hallpass_core::credential::{CredentialMaterial, Effect, Handle, IssueOrder, IssuedCredential, RevocationClass};
use hallpass_core::id::BackendName;
use hallpass_core::port::{
    CredentialBackend, ExtendError, InvalidParameters, InventoryItem, InventoryScope, IssueError, RevokeError, Undone,
};
use hallpass_core::role::Role;
use hallpass_core::secret::{Secret, SecretBytes};
use hallpass_core::time::{Clock, Timestamp, Ttl};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use self::parameters::Parameters;
use super::own_identity::OwnIdentity;
use super::rest::{Api, Ask, Body, Text};
use crate::config::backend::gcp::Gcp;
use crate::outbound::Outbound;

/// A token's life is counted from when it is made: it is asked for less by as much as the calls may take. Where that is
/// exceeded, it is not handed out.
const ALLOWANCE: Duration = Duration::from_secs(3);
/// The shortest life: a second, and what rounding and the allowance take.
const SHORTEST: Ttl = Ttl::from_secs(5);
/// The broker's session is renewed when less than this is left of it.
const LEAST_LEFT: Ttl = Ttl::from_mins(5);
/// What the broker's session is for. What it may do is what IAM says of its principal.
const SESSION_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// Mints in one universe of Google Cloud.
pub struct GcpBackend {
    name: BackendName,
    settings: Gcp,
    sts: Api,
    iam: Api,
    identity: OwnIdentity,
    clock: Arc<dyn Clock>,
    session: Mutex<Option<Session>>,
}

struct Session {
    token: Arc<Secret>,
    ends_at: Timestamp,
}

#[derive(Deserialize)]
struct Exchanged {
    access_token: Text,
    expires_in: Option<u64>,
}

#[derive(Serialize)]
struct Generate<'a> {
    scope: &'a [&'a str],
    lifetime: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Generated {
    access_token: Text,
    expire_time: String,
}

impl GcpBackend {
    /// The backend `name` of the broker that has `identity` before the workload identity pool.
    #[must_use]
    pub fn new(
        name: BackendName,
        settings: Gcp,
        outbound: Outbound,
        identity: OwnIdentity,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let deadline = settings.timeout.as_duration();
        let sts = Api::new(outbound.clone(), settings.sts_url.clone(), deadline);
        let iam = Api::new(outbound, settings.iam_credentials_url.clone(), deadline);
        Self { name, settings, sts, iam, identity, clock, session: Mutex::default() }
    }

    fn parameters<'a>(&self, role: &'a Role) -> Result<Parameters<'a>, IssueError> {
        // Checked when the bundle was loaded: only a role that never was in a bundle can fail here.
        Parameters::read(role).map_err(|error| IssueError::Unavailable {
            internal: format!("role {} has parameters that backend {} does not take: {error}", role.name, self.name),
        })
    }

    /// The broker's own session, made anew where less than `least` is left of it.
    async fn session(&self, least: Ttl) -> Result<Arc<Secret>, IssueError> {
        let unavailable = |internal: String| IssueError::Unavailable { internal };
        let now = self.clock.now();
        if let Some(session) = self.kept().as_ref().filter(|session| now.plus(least) < session.ends_at) {
            return Ok(Arc::clone(&session.token));
        }
        let own = self.identity.token(&self.settings.audience, None).map_err(|error| unavailable(error.to_string()))?;
        let audience = format!("//iam.{}/{}", self.settings.universe_domain, self.settings.provider);
        let form = Body::form(&[
            ("audience", &audience),
            ("grant_type", EXCHANGE),
            ("requested_token_type", ACCESS_TOKEN),
            ("scope", SESSION_SCOPE),
            ("subject_token_type", JWT),
            ("subject_token", own.expose()),
        ]);
        let ask = Ask { method: Method::POST, path: &["v1", "token"], query: &[], headers: &[], body: form };
        // Whatever becomes of it, no credential is made by this.
        let answered = self.sts.ask(ask).await.map_err(|error| unavailable(format!("sts: {error}")))?;
        if answered.status != 200 {
            return Err(failure::of_session(&answered));
        }
        let exchanged: Option<Exchanged> = answered.read();
        let exchanged = exchanged.ok_or_else(|| unavailable("sts answered something else than a token".to_owned()))?;
        let token = Arc::new(exchanged.access_token.into_secret());
        let ends_at = now.plus(Ttl::from_secs(exchanged.expires_in.unwrap_or_default()));
        *self.kept() = Some(Session { token: Arc::clone(&token), ends_at });
        Ok(token)
    }

    /// The service account's own token.
    async fn generate(&self, parameters: &Parameters<'_>, seconds: u64) -> Result<(Secret, Timestamp), IssueError> {
        let session = self.session(LEAST_LEFT).await?;
        let bearer = Zeroizing::new(format!("Bearer {}", session.expose()));
        let method = format!("{}:generateAccessToken", parameters.service_account);
        let request = Generate { scope: &parameters.scopes, lifetime: format!("{seconds}s") };
        let ask = Ask {
            method: Method::POST,
            path: &["v1", "projects", "-", "serviceAccounts", &method],
            query: &[],
            headers: &[("authorization", bearer.as_str())],
            body: Body::json(&request)?,
        };
        let answered = self.iam.ask(ask).await?;
        if answered.status != 200 {
            if answered.status == 401 {
                *self.kept() = None;
            }
            return Err(failure::of_token(&answered));
        }
        let unreadable =
            || IssueError::OutcomeUnknown { internal: "it answered something else than a token".to_owned() };
        let Generated { access_token, expire_time } = answered.read().ok_or_else(unreadable)?;
        let expires_at = Timestamp::parse_rfc3339(&expire_time).map_err(|_| unreadable())?;
        Ok((access_token.into_secret(), expires_at))
    }

    /// A token that can do no more than `boundary` says. It ends when the one does that it is made of.
    async fn bound(&self, token: &Secret, boundary: &str) -> Result<Secret, IssueError> {
        let form = Body::form(&[
            ("grant_type", EXCHANGE),
            ("requested_token_type", ACCESS_TOKEN),
            ("subject_token_type", ACCESS_TOKEN),
            ("subject_token", token.expose()),
            ("options", boundary),
        ]);
        let ask = Ask { method: Method::POST, path: &["v1", "token"], query: &[], headers: &[], body: form };
        let lost = |why: String| IssueError::OutcomeUnknown {
            internal: format!("a token was made and dropped, since it could not be bounded: {why}"),
        };
        let answered = self.sts.ask(ask).await.map_err(|error| lost(error.to_string()))?;
        if answered.status != 200 {
            return Err(failure::of_boundary(&answered));
        }
        let exchanged: Option<Exchanged> = answered.read();
        let exchanged = exchanged.ok_or_else(|| lost("sts answered something else than a token".to_owned()))?;
        Ok(exchanged.access_token.into_secret())
    }

    fn kept(&self) -> MutexGuard<'_, Option<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl CredentialBackend for GcpBackend {
    fn kind(&self) -> &'static str {
        "gcp"
    }

    fn effect(&self) -> Effect {
        Effect::Remote
    }

    fn class(&self, _role: &Role) -> RevocationClass {
        RevocationClass::ExpiryOnly
    }

    fn min_life(&self, _role: &Role) -> Ttl {
        SHORTEST
    }

    fn max_life(&self, _role: &Role) -> Option<Ttl> {
        Some(self.settings.max_life)
    }

    fn yields_single_token(&self, _role: &Role) -> bool {
        true
    }

    fn validate(&self, role: &Role) -> Result<(), InvalidParameters> {
        Parameters::read(role).map(drop)
    }

    fn plan(&self, order: &IssueOrder) -> Result<Handle, IssueError> {
        if order.csr.is_some() {
            let detail = "a token is no certificate: leave out `csr`".to_owned();
            return Err(IssueError::unfit("csr", detail));
        }
        Ok(Handle(SecretBytes::new(format!("{{\"grant\":\"{}\"}}", order.grant).into_bytes())))
    }

    async fn issue(&self, order: &IssueOrder, _planned: &Handle) -> Result<IssuedCredential, IssueError> {
        let parameters = self.parameters(&order.role)?;
        let left = order.expires_at.since(self.clock.now()).as_duration().saturating_sub(ALLOWANCE).as_secs();
        let seconds = left.min(self.settings.max_life.as_secs());
        if seconds == 0 {
            let detail = "less than a second of life is left, and Google Cloud counts whole seconds".to_owned();
            return Err(IssueError::refused(detail));
        }
        let (token, expires_at) = self.generate(&parameters, seconds).await?;
        let access_token = match &parameters.boundary {
            Some(boundary) => self.bound(&token, boundary).await?,
            None => token,
        };
        let material = CredentialMaterial::Gcp { access_token };
        Ok(IssuedCredential { material, expires_at, handle: None, signed_by: None })
    }

    async fn extend(&self, _handle: &Handle, _until: Timestamp) -> Result<Timestamp, ExtendError> {
        Err(ExtendError::Unsupported)
    }

    async fn revoke(&self, _handle: &Handle) -> Result<Undone, RevokeError> {
        Ok(Undone::OnlyTime)
    }

    async fn inventory(&self) -> Result<Vec<InventoryItem>, RevokeError> {
        Ok(Vec::new())
    }

    fn inventory_scope(&self) -> InventoryScope {
        InventoryScope::None
    }

    /// Keeps the broker's session fresh, once it has one: whoever asks for a credential then need not wait for it.
    async fn tend(&self) -> Result<(), RevokeError> {
        if self.kept().is_none() {
            return Ok(());
        }
        let renewed = self.session(LEAST_LEFT.plus(Ttl::from_mins(5))).await;
        renewed.map(drop).map_err(|error| RevokeError { internal: error.to_string() })
    }
}

impl std::fmt::Debug for GcpBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GcpBackend").field("name", &self.name).finish_non_exhaustive()
    }
}
