//! The tokens of grants: each is a credential itself, or what one is made under. Whoever ends such a token ends every
//! lease under it, even one that nobody heard of.
//!
//! They come from a token role that makes orphans, since a token that is nobody's child does not end with the broker's
//! session; they cannot be renewed, and carry in their metadata whose they are.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hallpass_core::id::BackendName;
use hallpass_core::port::{Belongs, IssueError};
use hallpass_core::secret::Secret;
use hallpass_core::time::{Clock, Timestamp};
use serde::{Deserialize, Serialize};

use super::login::Broker;
use super::parameters::Parameters;
use super::wire::Text;
use super::{issue_error, refused};
use crate::config::backend::vault::Engine;
use crate::outbound::vault::{Ask, VaultError};

/// Longest purpose in the metadata.
const MAX_PURPOSE: usize = 200;

/// What the metadata of our tokens is found by.
pub(super) const INSTANCE: &str = "hallpass_instance";
pub(super) const BACKEND: &str = "hallpass_backend";
pub(super) const GRANT: &str = "hallpass_grant";
pub(super) const SPARE: &str = "hallpass_spare";
pub(super) const ENGINE: &str = "hallpass_engine";
pub(super) const PATH: &str = "hallpass_path";

/// What a token is made for.
pub(super) struct ParentOrder<'a> {
    /// The broker's own origin.
    pub(super) instance: &'a str,
    /// The backend that asks.
    pub(super) backend: &'a BackendName,
    /// Whose it is.
    pub(super) belongs: Belongs,
    /// The role that it is for.
    pub(super) role: &'a str,
    /// Who answers for that.
    pub(super) owner: &'a str,
    /// Why, where it is for a grant.
    pub(super) purpose: Option<&'a str>,
    /// What the role says.
    pub(super) parameters: &'a Parameters<'a>,
    /// The token role that it comes from, where the role names none.
    pub(super) token_role: &'a str,
    /// When it must have ended.
    pub(super) expires_at: Timestamp,
    /// How long the call may take: so much sooner it is to end, since it begins to live when the server hears of it.
    pub(super) allowance: Duration,
}

/// A token that was made.
pub(super) struct Parent {
    pub(super) accessor: String,
    pub(super) token: Secret,
    /// When it has ended at the latest.
    pub(super) ends_at: Timestamp,
}

/// Has the token made.
pub(super) async fn create(broker: &Broker, clock: &dyn Clock, order: &ParentOrder<'_>) -> Result<Parent, IssueError> {
    let left = order.expires_at.since(clock.now()).as_duration().saturating_sub(order.allowance);
    let seconds = left.as_secs();
    if seconds == 0 {
        return Err(refused("less than a second of life is left, and Vault counts whole seconds"));
    }
    let parameters = order.parameters;
    let life = format!("{seconds}s");
    let body = ToCreate {
        policies: &parameters.policies,
        meta: metadata(order),
        ttl: &life,
        explicit_max_ttl: &life,
        renewable: false,
        no_default_policy: !parameters.default_policy,
        num_uses: parameters.num_uses.unwrap_or(0),
        display_name: "hallpass",
        r#type: "service",
    };
    let token_role = parameters.token_role.unwrap_or(order.token_role);
    let path = format!("auth/token/create/{token_role}");
    let answered = broker.ask(Ask::write(&path, &body).map_err(issue_error)?).await.map_err(issue_error)?;
    let Created { auth } = answered.read().map_err(issue_error)?;
    let ends_at = Timestamp::from_millis(
        clock
            .now()
            .as_millis()
            .saturating_add(i64::try_from(auth.lease_duration).unwrap_or(i64::MAX).saturating_mul(1000)),
    );
    let wrong = auth.is_other_than(parameters, seconds);
    let bound = match (&wrong, parameters.bound_cidrs.is_empty()) {
        (None, false) => is_bound(broker, &auth.accessor, &parameters.bound_cidrs).await,
        _ => Ok(true),
    };
    let parent = Parent { accessor: auth.accessor, token: auth.client_token.into_secret(), ends_at };
    let wrong = match (wrong, bound) {
        (Some(wrong), _) => wrong,
        (None, Ok(true)) => return Ok(parent),
        (None, Ok(false)) => format!("the token role {token_role} does not bind its tokens to the role's bound_cidrs"),
        (None, Err(error)) => error.to_string(),
    };
    match end(broker, &parent.accessor).await {
        Ok(()) => Err(refused("the server made another token than the role asks for").because(wrong)),
        Err(error) => Err(IssueError::OutcomeUnknown { internal: format!("{wrong}; it could not be ended: {error}") }),
    }
}

/// Ends a token and every lease under it, and makes sure that it is gone. What is not there is gone.
pub(super) async fn end(broker: &Broker, accessor: &str) -> Result<(), String> {
    let body = ByAccessor { accessor };
    let ask = || Ask::write("auth/token/revoke-accessor", &body).map(Ask::repeatable);
    match broker.ask(ask().map_err(|error| error.to_string())?).await {
        Ok(_) => {}
        Err(error) if error.is_absent() => {}
        Err(error) => return Err(format!("revoke-accessor: {error}")),
    }
    match look_up(broker, accessor).await {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err("the token is still there after it was revoked".to_owned()),
        Err(error) => Err(format!("whether it is gone could not be seen: lookup-accessor: {error}")),
    }
}

/// What the server says of a token; none where it has none of this accessor.
pub(super) async fn look_up(broker: &Broker, accessor: &str) -> Result<Option<Looked>, VaultError> {
    let ask = Ask::write("auth/token/lookup-accessor", &ByAccessor { accessor })?.repeatable();
    match broker.ask(ask).await {
        Ok(answered) => answered.read().map(|LookedUp { data }| Some(data)),
        Err(error) if error.is_absent() => Ok(None),
        // Of an accessor without its token, as one whose making broke off leaves it, the server says that too.
        Err(error) if error.is_denied() && may_look_up(broker).await => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the broker may look up tokens: it tries with its own.
async fn may_look_up(broker: &Broker) -> bool {
    let Ok(answered) = broker.ask(Ask::read("auth/token/lookup-self")).await else { return false };
    let Ok(LookedUp { data: Looked { accessor: Some(accessor), .. } }) = answered.read() else { return false };
    match Ask::write("auth/token/lookup-accessor", &ByAccessor { accessor: &accessor }) {
        Ok(ask) => broker.ask(ask.repeatable()).await.is_ok(),
        Err(_) => false,
    }
}

async fn is_bound(broker: &Broker, accessor: &str, wanted: &[&str]) -> Result<bool, VaultError> {
    let looked = look_up(broker, accessor).await?;
    let bound = looked.map(|looked| looked.bound_cidrs.unwrap_or_default()).unwrap_or_default();
    Ok(!bound.is_empty() && bound.iter().all(|network| wanted.contains(&network.as_str())))
}

fn metadata<'a>(order: &ParentOrder<'a>) -> BTreeMap<&'a str, String> {
    let parameters = order.parameters;
    let mut meta: BTreeMap<&str, String> =
        parameters.metadata.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    meta.insert(INSTANCE, order.instance.to_owned());
    meta.insert(BACKEND, order.backend.to_string());
    meta.insert("hallpass_role", order.role.to_owned());
    meta.insert("hallpass_owner", order.owner.to_owned());
    meta.insert(ENGINE, parameters.engine.as_str().to_owned());
    if let Some(path) = parameters.path {
        meta.insert(PATH, path.to_owned());
    }
    match order.belongs {
        Belongs::ToGrant(id) => meta.insert(GRANT, id.to_string()),
        Belongs::ToSpare(id) => meta.insert(SPARE, id.to_string()),
        Belongs::ToOthers => None,
    };
    if let Some(purpose) = order.purpose {
        let purpose = purpose.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_PURPOSE).collect();
        meta.insert("hallpass_purpose", purpose);
    }
    meta
}

/// The tokens that were made and not yet used: between the moment that their accessor is made durable and the call that
/// they are for. They are nowhere else.
#[derive(Default)]
pub(super) struct Waiting {
    tokens: Mutex<HashMap<String, (Secret, Timestamp)>>,
}

impl Waiting {
    /// Keeps the token of `accessor` until `ends_at`.
    pub(super) fn put(&self, accessor: &str, token: Secret, ends_at: Timestamp) {
        self.tokens().insert(accessor.to_owned(), (token, ends_at));
    }

    /// The token of `accessor`, which is not kept any longer.
    pub(super) fn take(&self, accessor: &str) -> Option<Secret> {
        self.tokens().remove(accessor).map(|(token, _)| token)
    }

    /// Forgets those that have ended unused.
    pub(super) fn tend(&self, now: Timestamp) {
        self.tokens().retain(|_, (_, ends_at)| now < *ends_at);
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<String, (Secret, Timestamp)>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Serialize)]
struct ToCreate<'a> {
    policies: &'a [&'a str],
    meta: BTreeMap<&'a str, String>,
    ttl: &'a str,
    explicit_max_ttl: &'a str,
    renewable: bool,
    no_default_policy: bool,
    num_uses: u64,
    display_name: &'a str,
    r#type: &'a str,
}

#[derive(Serialize)]
struct ByAccessor<'a> {
    accessor: &'a str,
}

#[derive(Deserialize)]
struct Created {
    auth: Made,
}

#[derive(Deserialize)]
struct Made {
    client_token: Text,
    accessor: String,
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
    #[serde(default)]
    orphan: bool,
    #[serde(default)]
    token_type: String,
    #[serde(default)]
    token_policies: Vec<String>,
}

impl Made {
    /// What makes it another token than was asked for: then the token role is not as it has to be.
    fn is_other_than(&self, parameters: &Parameters<'_>, seconds: u64) -> Option<String> {
        let permitted = |policy: &&String| {
            parameters.policies.contains(&policy.as_str())
                || (parameters.default_policy && policy.as_str() == "default")
        };
        let more = self.token_policies.iter().find(|policy| !permitted(policy));
        if !self.orphan {
            return Some(
                "its token role must have orphan=true, or grants would end with the broker's session".to_owned(),
            );
        }
        if self.token_type != "service" {
            return Some(
                "its token role must have token_type=service: no other kind of token can be revoked".to_owned(),
            );
        }
        if self.renewable || self.lease_duration == 0 || self.lease_duration > seconds {
            return Some("its token role makes tokens that live on beyond what was asked for".to_owned());
        }
        more.map(|policy| format!("its token role adds the policy {policy:?} to those that were asked for"))
    }
}

#[derive(Deserialize)]
struct LookedUp {
    data: Looked,
}

/// What the server says of a token.
#[derive(Deserialize)]
pub(super) struct Looked {
    #[serde(default)]
    accessor: Option<String>,
    #[serde(default)]
    pub(super) meta: Option<HashMap<String, String>>,
    #[serde(default)]
    bound_cidrs: Option<Vec<String>>,
}

impl Looked {
    /// The value of a name in its metadata.
    pub(super) fn meta(&self, name: &str) -> Option<&str> {
        self.meta.as_ref()?.get(name).map(String::as_str)
    }

    /// The engine that is to make what is made under it.
    pub(super) fn engine(&self) -> Engine {
        let named = self.meta(ENGINE).map(serde_json::Value::from);
        named.and_then(|name| serde_json::from_value(name).ok()).unwrap_or(Engine::Other)
    }
}
