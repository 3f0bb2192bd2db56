//! The `github` backend: tokens of an installation of a GitHub App, narrowed to repositories and permissions.
//!
//! A token is known by nothing but itself, and lives for an hour whatever is asked for. So its handle holds it, sealed
//! in the store like every handle; it is ended by calling GitHub with it, and that it is ended is believed when GitHub does not
//! take it any more. A token whose answer was lost can be named by nobody: such a grant stays `revoking` until the hour is
//! over, and then ends as `expired` ([`Undone::OnlyTime`]), never as `revoked`.
//!
//! There is no inventory: GitHub lists the tokens of an installation to nobody.
//!
//! Requests and answers as documented:
//! <https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app>,
//! <https://docs.github.com/en/rest/apps/installations#revoke-an-installation-access-token>,
//! <https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api>.

mod app;
mod parameters;

use std::sync::Arc;

use async_trait::async_trait;
use hallpass_core::credential::{CredentialMaterial, Effect, Handle, IssueOrder, IssuedCredential, RevocationClass};
use hallpass_core::id::{BackendName, GrantId};
use hallpass_core::port::{
    CredentialBackend, ExtendError, InvalidParameters, InventoryItem, InventoryScope, IssueError, RevokeError, Undone,
    scrubbed,
};
use hallpass_core::role::Role;
use hallpass_core::secret::{Secret, SecretBytes};
use hallpass_core::time::{Clock, Timestamp, Ttl};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use self::app::App;
pub use self::app::AppKey;
use self::parameters::{Access, Parameters};
use super::rest::{Answered, Api, Ask, Body, Text, Unanswered};
use crate::config::backend::github::GitHub;
use crate::outbound::Outbound;

/// The life of every token.
const LIFE: Ttl = Ttl::from_hours(1);
/// By how much GitHub's clock may be behind.
const SKEW: Ttl = Ttl::from_secs(60);
/// What the requests and answers here are of.
const API_VERSION: &str = "2022-11-28";

/// Mints for one installation.
pub struct GitHubBackend {
    name: BackendName,
    installation: String,
    api: Api,
    app: App,
    clock: Arc<dyn Clock>,
}

/// What it takes to end a token: itself, once it is known.
#[derive(Serialize)]
struct Trace<'a> {
    grant: GrantId,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    /// When GitHub ends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<i64>,
}

#[derive(Deserialize)]
struct ReadTrace {
    token: Option<Text>,
    #[serde(default)]
    ends_at: Option<i64>,
}

/// A token was made. Whatever else of the answer cannot be read, it is known by its name then, and can be ended.
#[derive(Deserialize)]
struct Made {
    token: Text,
    #[serde(default)]
    expires_at: Value,
    #[serde(default)]
    permissions: Value,
    #[serde(default)]
    repository_selection: Value,
}

/// Why nothing was done.
#[derive(Debug, Default, Deserialize)]
struct Declined {
    #[serde(default)]
    message: String,
}

impl GitHubBackend {
    /// The backend `name`, for the App that has `key`.
    #[must_use]
    pub fn new(name: BackendName, settings: &GitHub, key: AppKey, outbound: Outbound, clock: Arc<dyn Clock>) -> Self {
        Self {
            name,
            installation: settings.installation_id.to_string(),
            api: Api::new(outbound, settings.api_url.clone(), settings.timeout.as_duration()),
            app: App::new(&settings.app_id, key, Arc::clone(&clock)),
            clock,
        }
    }

    fn parameters<'a>(&self, role: &'a Role) -> Result<Parameters<'a>, IssueError> {
        // Checked when the bundle was loaded: only a role that never was in a bundle can fail here.
        Parameters::read(role).map_err(|error| IssueError::Unavailable {
            internal: format!("role {} has parameters that backend {} does not take: {error}", role.name, self.name),
        })
    }

    async fn ask(
        &self,
        (method, path, query): (Method, &[&str], &[(&str, &str)]),
        token: &Secret,
        body: Body,
    ) -> Result<Answered, Unanswered> {
        let bearer = Zeroizing::new(format!("Bearer {}", token.expose()));
        let headers = [
            ("accept", "application/vnd.github+json"),
            ("x-github-api-version", API_VERSION),
            ("authorization", bearer.as_str()),
        ];
        self.api.ask(Ask { method, path, query, headers: &headers, body }).await
    }

    /// Ends a token, and sees to it that it is ended.
    async fn end(&self, token: &Secret) -> Result<Undone, RevokeError> {
        let failed = |why: String| RevokeError { internal: why };
        let revoke = (Method::DELETE, ["installation", "token"]);
        let answered = self.ask((revoke.0, &revoke.1, &[]), token, Body::None).await;
        let answered = answered.map_err(|error| failed(error.to_string()))?;
        match answered.status {
            204 => {}
            401 => return Ok(Undone::Gone),
            _ => return Err(failed(told(&answered))),
        }
        let look = (Method::GET, ["installation", "repositories"]);
        let answered = self.ask((look.0, &look.1, &[("per_page", "1")]), token, Body::None).await;
        let answered = answered.map_err(|error| failed(error.to_string()))?;
        match answered.status {
            401 => Ok(Undone::Gone),
            200 => Err(failed("GitHub still takes the token that it said it had revoked".to_owned())),
            _ => Err(failed(told(&answered))),
        }
    }

    /// What not making a token means. Each of these had no effect; GitHub's own words are for the operator.
    fn declined(&self, answered: &Answered) -> IssueError {
        let told = told(answered);
        let detail = match answered.status {
            401 => {
                self.app.forget();
                "GitHub does not know the App: its private key or its id is wrong, or a clock is".to_owned()
            }
            403 | 429 if is_rate_limit(answered) => match answered.retry_after {
                Some(after) => format!("GitHub limits how often the App may ask; it may again in {after}"),
                None => "GitHub limits how often the App may ask; wait for a minute at least".to_owned(),
            },
            403 => "GitHub does not let the App make tokens for the installation: it may be suspended".to_owned(),
            404 => "the App has no such installation, or no longer".to_owned(),
            422 => "a repository or a permission that the role names is not the installation's".to_owned(),
            // Of something in between that waited too long: it may have passed the request on.
            408 => return IssueError::OutcomeUnknown { internal: format!("it answered {told}") },
            status @ 300..=499 => format!("GitHub makes no token as it is asked for ({status})"),
            _ => return IssueError::OutcomeUnknown { internal: format!("it answered {told}") },
        };
        refused(detail).because(told)
    }
}

#[async_trait]
impl CredentialBackend for GitHubBackend {
    fn kind(&self) -> &'static str {
        "github"
    }

    fn effect(&self) -> Effect {
        Effect::Remote
    }

    fn class(&self, _role: &Role) -> RevocationClass {
        RevocationClass::Hard
    }

    fn min_life(&self, _role: &Role) -> Ttl {
        LIFE
    }

    fn max_life(&self, _role: &Role) -> Option<Ttl> {
        Some(LIFE)
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
        Ok(handle(&Trace { grant: order.grant, token: None, ends_at: None }))
    }

    async fn issue(&self, order: &IssueOrder, _planned: &Handle) -> Result<IssuedCredential, IssueError> {
        let parameters = self.parameters(&order.role)?;
        if order.expires_at.since(self.clock.now()) < LIFE {
            return Err(refused("GitHub's tokens live for an hour, and less is left"));
        }
        let (member, repositories) = parameters.repositories.member();
        let permissions = serde_json::to_value(&parameters.permissions).unwrap_or_default();
        let request = Map::from_iter([(member.to_owned(), repositories), ("permissions".to_owned(), permissions)]);
        let own = self.app.token().map_err(|internal| IssueError::Unavailable { internal })?;
        let make = (Method::POST, ["app", "installations", &self.installation, "access_tokens"]);
        let answered = self.ask((make.0, &make.1, &[]), &own, Body::json(&Value::Object(request))?).await?;
        if answered.status != 201 {
            return Err(self.declined(&answered));
        }
        let unreadable =
            || IssueError::OutcomeUnknown { internal: "it answered something else than a token".to_owned() };
        let made: Made = answered.read().ok_or_else(unreadable)?;
        let is_narrow = made.is_narrow(&parameters);
        let Made { token, expires_at, .. } = made;
        let token = token.into_secret();
        let expires_at = expires_at.as_str().and_then(|text| Timestamp::parse_rfc3339(text).ok());
        let (true, Some(expires_at)) = (is_narrow, expires_at) else {
            // It is named, for once: so it can be ended before it is forgotten.
            let mut ended = self.end(&token).await;
            if ended.is_err() {
                ended = self.end(&token).await;
            }
            let internal = match ended {
                Ok(_) => "it gave a token for more than was asked for, or without an end; it was revoked".to_owned(),
                Err(error) => format!("it gave a token for more than was asked for, or without an end: {error}"),
            };
            return Err(IssueError::OutcomeUnknown { internal });
        };
        let ends_at = Some(expires_at.as_millis());
        let handle = handle(&Trace { grant: order.grant, token: Some(token.expose()), ends_at });
        let material = CredentialMaterial::GitHub { token };
        Ok(IssuedCredential { material, expires_at, handle: Some(handle), signed_by: None })
    }

    async fn extend(&self, _handle: &Handle, _until: Timestamp) -> Result<Timestamp, ExtendError> {
        Err(ExtendError::Unsupported)
    }

    async fn revoke(&self, handle: &Handle) -> Result<Undone, RevokeError> {
        let trace: ReadTrace = serde_json::from_slice(handle.0.expose())
            .map_err(|_| RevokeError { internal: "the handle is none of this backend's".to_owned() })?;
        let Some(token) = trace.token else { return Ok(Undone::OnlyTime) };
        match self.end(&token.into_secret()).await {
            // Nobody was there to confirm it, and nobody need be: it was over before.
            Err(_) if trace.ends_at.is_some_and(|at| self.clock.now() >= Timestamp::from_millis(at).plus(SKEW)) => {
                Ok(Undone::OnlyTime)
            }
            ended => ended,
        }
    }

    async fn inventory(&self) -> Result<Vec<InventoryItem>, RevokeError> {
        Ok(Vec::new())
    }

    fn inventory_scope(&self) -> InventoryScope {
        InventoryScope::None
    }
}

impl Made {
    /// Whether the token can do no more than was asked for. GitHub adds the reading of metadata to every token.
    fn is_narrow(&self, asked: &Parameters<'_>) -> bool {
        let is_asked = |(name, access): (&String, &Value)| {
            // A level that is not known may be more than any that is.
            let Ok(access) = Access::deserialize(access) else { return false };
            let asked = asked.permissions.get(name.as_str());
            asked.is_some_and(|asked| access <= *asked) || (name == "metadata" && access == Access::Read)
        };
        let permissions = match &self.permissions {
            Value::Null => true,
            Value::Object(permissions) => permissions.iter().all(is_asked),
            _ => false,
        };
        permissions && matches!(self.repository_selection.as_str(), None | Some("selected"))
    }
}

impl std::fmt::Debug for GitHubBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitHubBackend").field("name", &self.name).finish_non_exhaustive()
    }
}

fn handle(trace: &Trace<'_>) -> Handle {
    // Large enough for every token, so that no copy of a part is left behind. Two texts can always be written.
    let mut bytes = Vec::with_capacity(96 + trace.token.map_or(0, str::len) * 2);
    let _written = serde_json::to_writer(&mut bytes, trace);
    Handle(SecretBytes::new(bytes))
}

fn told(answered: &Answered) -> String {
    let declined: Declined = answered.read().unwrap_or_default();
    format!("{} {}", answered.status, scrubbed(&declined.message))
}

fn is_rate_limit(answered: &Answered) -> bool {
    let declined: Declined = answered.read().unwrap_or_default();
    answered.status == 429 || answered.retry_after.is_some() || declined.message.contains("rate limit")
}

fn refused(detail: impl Into<String>) -> IssueError {
    IssueError::refused(detail.into())
}
