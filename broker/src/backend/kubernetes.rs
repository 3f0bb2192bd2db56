//! The `kubernetes` backend: tokens of a cluster's service accounts, each bound to a Secret of its grant alone.
//!
//! The Secret, a *tombstone*, holds nothing and is made before the token; its UID is durable before the token exists. The
//! token is good for as long as that very Secret is there: deleting it ends the token, and that it is not there any more
//! is what is believed, and not that its deletion was taken.
//!
//! What hears of that end: whoever asks the cluster (`TokenReview`, and so the API server itself). An API server
//! remembers for ten seconds that a token was good, and a webhook that reviews tokens for two minutes unless it is told
//! otherwise. Whoever verifies the token's signature by himself, with the cluster's published keys, never hears of it, and
//! takes the token until it expires: give such audiences roles of their own, with a `revocation_floor` that nothing here
//! satisfies, or short lives.
//!
//! Requests and answers as documented:
//! <https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/>,
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/>,
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/> (lists in pages, metadata alone, preconditions).

mod cluster;
mod parameters;
mod tombstone;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hallpass_core::credential::{CredentialMaterial, Effect, Handle, IssueOrder, IssuedCredential, RevocationClass};
use hallpass_core::id::BackendName;
use hallpass_core::port::{
    Belongs, CredentialBackend, ExtendError, InvalidParameters, InventoryItem, InventoryScope, IssueError, ItemKind,
    RevokeError, Undone,
};
use hallpass_core::role::Role;
use hallpass_core::time::{Clock, Timestamp, Ttl};
use reqwest::Method;

use self::cluster::{Cluster, Declined, Question};
use self::parameters::Parameters;
use self::tombstone::Trace;
use self::wire::{BoundObject, MadeToken, NewTokenRequest, NewTokenSpec};
use super::jws::unverified_expiry;
use super::own_identity::OwnIdentity;
use super::rest::{Answered, Api, Body};
use crate::config::backend::kubernetes::Kubernetes;
use crate::outbound::Outbound;

/// The API server makes no token that lives for less.
const SHORTEST: Ttl = Ttl::from_mins(10);
/// A token's life is counted from when the API server makes it: it is asked for less by as much as the call may take.
const ALLOWANCE: Duration = Duration::from_secs(2);

/// Mints in one cluster.
pub struct KubernetesBackend {
    name: BackendName,
    instance: String,
    mark: String,
    settings: Kubernetes,
    /// PEM, for callers.
    authorities: Option<String>,
    cluster: Cluster,
    clock: Arc<dyn Clock>,
}

impl KubernetesBackend {
    /// The backend `name` of the broker that others reach at `instance`, and that has `identity` before this cluster.
    /// `authorities` vouch for the server, PEM, and are told to callers.
    #[must_use]
    pub fn new(
        name: BackendName,
        instance: &str,
        settings: Kubernetes,
        authorities: Option<String>,
        outbound: Outbound,
        identity: OwnIdentity,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let api = Api::new(outbound, settings.server.clone(), settings.timeout.as_duration());
        Self {
            name,
            instance: instance.to_owned(),
            mark: tombstone::mark(instance),
            cluster: Cluster::new(api, settings.login.clone(), identity),
            authorities: authorities.filter(|_| settings.advertise),
            settings,
            clock,
        }
    }

    fn parameters<'a>(&self, role: &'a Role) -> Result<Parameters<'a>, IssueError> {
        // Checked when the bundle was loaded: only a role that never was in a bundle can fail here.
        Parameters::read(role, &self.settings.namespaces).map_err(|error| IssueError::Unavailable {
            internal: format!("role {} has parameters that backend {} does not take: {error}", role.name, self.name),
        })
    }

    /// How many seconds a token of the order can live from now on.
    fn seconds(&self, order: &IssueOrder) -> Result<u64, IssueError> {
        let left = order.expires_at.since(self.clock.now()).as_duration();
        let seconds = left.saturating_sub(ALLOWANCE).as_secs();
        if seconds < SHORTEST.as_secs() {
            return Err(refused("Kubernetes makes no token that lives for less than ten minutes, and less is left"));
        }
        Ok(seconds)
    }
}

#[async_trait]
impl CredentialBackend for KubernetesBackend {
    fn kind(&self) -> &'static str {
        "kubernetes"
    }

    fn effect(&self) -> Effect {
        Effect::Remote
    }

    fn class(&self, _role: &Role) -> RevocationClass {
        RevocationClass::Hard
    }

    fn min_life(&self, _role: &Role) -> Ttl {
        SHORTEST.plus(Ttl::from_secs(ALLOWANCE.as_secs()))
    }

    fn max_life(&self, _role: &Role) -> Option<Ttl> {
        None
    }

    fn yields_single_token(&self, _role: &Role) -> bool {
        true
    }

    fn validate(&self, role: &Role) -> Result<(), InvalidParameters> {
        Parameters::read(role, &self.settings.namespaces).map(drop)
    }

    fn plan(&self, order: &IssueOrder) -> Result<Handle, IssueError> {
        let parameters = self.parameters(&order.role)?;
        if order.csr.is_some() {
            let detail = "a token is no certificate: leave out `csr`".to_owned();
            return Err(IssueError::unfit("csr", detail));
        }
        Ok(Trace::planned(parameters.namespace, order.grant).handle())
    }

    async fn prepare(&self, order: &IssueOrder, planned: &Handle) -> Result<Option<Handle>, IssueError> {
        self.seconds(order)?;
        let planned = Trace::of(planned).map_err(|why| IssueError::Unavailable { internal: why.to_owned() })?;
        let made = tombstone::make(&self.cluster, (&self.instance, &self.mark), order, &planned).await?;
        Ok(Some(made.handle()))
    }

    async fn issue(&self, order: &IssueOrder, handle: &Handle) -> Result<IssuedCredential, IssueError> {
        let parameters = self.parameters(&order.role)?;
        let (trace, uid) = tombstone::prepared(handle)?;
        let request = NewTokenRequest {
            api_version: "authentication.k8s.io/v1",
            kind: "TokenRequest",
            spec: NewTokenSpec {
                audiences: &parameters.audiences,
                expiration_seconds: self.seconds(order)?,
                bound_object_ref: BoundObject { api_version: "v1", kind: "Secret", name: trace.name(), uid: &uid },
            },
        };
        let question = Question {
            method: Method::POST,
            path: &[parameters.namespace, "serviceaccounts", parameters.service_account, "token"],
            query: &[],
            accept: "application/json",
            body: Body::json(&request)?,
        };
        let answered = self.cluster.ask(question).await?;
        if answered.status != 201 {
            return Err(declined("a token of the role's service account", &answered));
        }
        let unreadable =
            || IssueError::OutcomeUnknown { internal: "it answered something else than a token".to_owned() };
        let MadeToken { status } = answered.read().ok_or_else(unreadable)?;
        let told = Timestamp::parse_rfc3339(&status.expiration_timestamp).map_err(|_| unreadable())?;
        // It may shorten what was asked for, and has a switch that lengthens it without saying so: the token itself tells.
        let expires_at = unverified_expiry(status.token.expose()).map_or(told, |own| own.max(told));
        let server = self.settings.advertise.then(|| self.settings.server.origin().ascii_serialization());
        let (token, ca) = (status.token.into_secret(), self.authorities.clone());
        let material = CredentialMaterial::Kubernetes { token, server, ca };
        Ok(IssuedCredential { material, expires_at, handle: None, signed_by: None })
    }

    async fn extend(&self, _handle: &Handle, _until: Timestamp) -> Result<Timestamp, ExtendError> {
        Err(ExtendError::Unsupported)
    }

    async fn revoke(&self, handle: &Handle) -> Result<Undone, RevokeError> {
        let trace = Trace::of(handle).map_err(|why| RevokeError { internal: why.to_owned() })?;
        tombstone::end(&self.cluster, &self.mark, &trace).await
    }

    /// Every token of the broker's, by its tombstone; and, as doors, tokens of the old kind that lie in Secrets. Tokens
    /// that others ask the cluster for leave nothing that could be listed.
    async fn inventory(&self) -> Result<Vec<InventoryItem>, RevokeError> {
        let (mut items, mut doors) = (Vec::new(), Vec::new());
        for namespace in &self.settings.namespaces {
            let tombstones = tombstone::all(&self.cluster, &self.mark, namespace).await?;
            items.extend(tombstones.into_iter().map(|(trace, grant)| InventoryItem {
                belongs: grant.map_or(Belongs::ToOthers, Belongs::ToGrant),
                kind: ItemKind::Credential,
                name: format!("{namespace}/secrets/{}", trace.name()),
                handle: grant.map(|_| trace.handle()),
            }));
            match tombstone::static_tokens(&self.cluster, namespace).await {
                Ok(found) => doors.extend(found),
                // Who else comes in is worth knowing; what is alive that should not be must be known.
                Err(error) => tracing::warn!(backend = %self.name, namespace, %error, "other doors cannot be listed"),
            }
        }
        let door = |name| InventoryItem { belongs: Belongs::ToOthers, kind: ItemKind::Door, name, handle: None };
        items.extend(doors.into_iter().map(door));
        Ok(items)
    }

    fn inventory_scope(&self) -> InventoryScope {
        InventoryScope::Full
    }
}

impl std::fmt::Debug for KubernetesBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesBackend").field("name", &self.name).finish_non_exhaustive()
    }
}

fn refused(detail: impl Into<String>) -> IssueError {
    IssueError::refused(detail.into())
}

/// What not making `what` means. The server's own words name the broker's account, and are not the caller's to read.
fn declined(what: &str, answered: &Answered) -> IssueError {
    let declined = Declined::of(answered);
    let refused = |detail: String| refused(detail).because(declined.to_string());
    match declined.status {
        400 | 422 => refused(format!("the API server does not make {what} as it is asked for")),
        401 => refused("the API server does not know the broker: its login is wrong, or over".to_owned()),
        403 => refused(format!("the API server does not let the broker make {what}")),
        404 => refused(format!("the API server cannot make {what}: the namespace or the service account is not there")),
        429 => IssueError::Unavailable { internal: format!("it has too much to do: {declined}") },
        _ => IssueError::OutcomeUnknown { internal: format!("it answered {declined}") },
    }
}
