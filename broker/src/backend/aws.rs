//! The `aws` backend: sessions of AWS roles, from STS.
//!
//! The broker shows STS a token of its own (`AssumeRoleWithWebIdentity`), so that it needs no key of AWS, or calls with
//! the credentials that its machine has (`AssumeRole`). A session is named after its grant. Nothing revokes a session:
//! where the backend has a role to fence with, a session is *fenced* by a Deny in the role that it is of until it expires
//! (`fence`), and otherwise only time ends it.

mod answers;
mod chain;
mod doors;
mod failure;
mod fence;
mod handle;
mod iam;
mod parameters;
mod policy;
mod query;
mod signing;
mod sts;
mod tags;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hallpass_core::credential::{CredentialMaterial, Effect, Handle, IssueOrder, IssuedCredential, RevocationClass};
use hallpass_core::id::BackendName;
use hallpass_core::port::{
    CredentialBackend, EndedGrants, ExtendError, FenceRule, InvalidParameters, InventoryItem, InventoryScope,
    IssueError, RevokeError, Undone,
};
use hallpass_core::role::Role;
use hallpass_core::time::{Clock, Timestamp, Ttl};

use self::chain::Chain;
pub use self::chain::Environment;
use self::fence::Fence;
pub use self::fence::Reservations;
use self::handle::SessionHandle;
use self::iam::Iam;
use self::parameters::Parameters;
use self::query::{CallFailed, Service};
use self::sts::{Ask, Auth, Session, Sts};
use super::own_identity::OwnIdentity;
use crate::config::backend::{AwsAuth, AwsBackend as Settings};
use crate::outbound::Outbound;

/// The shortest session that AWS gives.
const SHORTEST: Ttl = Ttl::from_secs(900);
/// How much earlier than its grant a session ends: its end counts from when AWS answers, by AWS's clock, and no session
/// may outlive its grant for an answer that was slow or a clock that is ahead.
const MARGIN: Ttl = Ttl::from_secs(5);
/// How long recording the intent may take before AWS is asked.
const SENDING: Ttl = Ttl::from_secs(5);
/// The shortest life of a grant of this backend.
const MIN_LIFE: Ttl = Ttl::from_secs(SHORTEST.as_secs() + MARGIN.as_secs() + SENDING.as_secs());

/// Less than core gives a call, so that what is told of it is how it failed.
const STS_DEADLINE: Duration = Duration::from_secs(8);
/// Setting a fence takes several.
const IAM_DEADLINE: Duration = Duration::from_secs(4);

/// Mints sessions of AWS roles.
pub struct AwsBackend {
    name: BackendName,
    settings: Settings,
    clock: Arc<dyn Clock>,
    sts: Sts,
    iam: Option<Arc<Iam>>,
    fence: Option<Fence>,
    /// The AWS roles that roles of the bundle are about.
    roles: Vec<String>,
}

/// What an [`AwsBackend`] works with.
pub struct Surroundings {
    /// The HTTP client.
    pub http: Arc<Outbound>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who the broker is before AWS.
    pub identity: OwnIdentity,
    /// The process's environment, for the default credential chain.
    pub environment: Environment,
    /// What is over in the record.
    pub ledger: Arc<dyn EndedGrants>,
    /// Who sets fences: one for all backends, over all revisions.
    pub reservations: Arc<Reservations>,
}

impl AwsBackend {
    /// A backend that mints as `settings` say; `roles` are those of the bundle that name it.
    #[must_use]
    pub fn new<'r>(
        name: BackendName,
        settings: &Settings,
        roles: impl Iterator<Item = &'r Role>,
        surroundings: Surroundings,
    ) -> Self {
        let Surroundings { http, clock, identity, environment, ledger, reservations } = surroundings;
        let public_url = identity.issuer().to_owned();
        let service = |endpoint: &url::Url, region: &str, name, version, deadline| Service {
            http: Arc::clone(&http),
            clock: Arc::clone(&clock),
            endpoint: endpoint.clone(),
            region: region.to_owned(),
            name,
            version,
            deadline,
        };
        let service_of_sts = service(&settings.sts_endpoint, &settings.region, "sts", "2011-06-15", STS_DEADLINE);
        let auth = match settings.auth {
            AwsAuth::WebIdentity => Auth::WebIdentity { identity, audience: settings.audience.clone() },
            AwsAuth::AssumeRole => Auth::AssumeRole(Arc::new(Chain::new(service_of_sts.clone(), environment))),
        };
        let sts = Sts { service: service_of_sts, auth };
        let iam = settings.fence.as_ref().map(|fence| {
            let region = settings.iam_region();
            let service = service(&settings.iam_endpoint, region, "iam", "2010-05-08", IAM_DEADLINE);
            Arc::new(Iam::new(service, sts.clone(), &fence.role_arn, session_name("hallpass-fence", &name)))
        });
        let fence = settings.fence.clone().zip(iam.as_ref()).map(|(fence, iam)| {
            let (iam, clock) = (Arc::clone(iam), Arc::clone(&clock));
            Fence::new(name.clone(), fence, iam, ledger, clock, reservations, &public_url)
        });
        let mut roles: Vec<String> =
            roles.filter_map(|role| Parameters::read(role, settings).ok().map(|read| read.role_arn)).collect();
        roles.sort_unstable();
        roles.dedup();
        Self { name, settings: settings.clone(), clock, sts, iam, fence, roles }
    }

    fn parameters(&self, role: &Role) -> Result<Parameters, IssueError> {
        // Checked when the bundle was loaded: only a role that never was in a bundle can fail here.
        Parameters::read(role, &self.settings).map_err(|error| IssueError::Unavailable {
            internal: format!("role {} has parameters that backend {} does not take: {error}", role.name, self.name),
        })
    }

    /// What is left of the order, as AWS counts: whole seconds, and not less than its shortest.
    fn duration(&self, order: &IssueOrder, longest: Ttl) -> Result<Ttl, IssueError> {
        let left = Ttl::from_secs(order.expires_at.since(self.clock.now().plus(MARGIN)).as_secs());
        if left < SHORTEST {
            let detail = format!(
                "AWS makes no session shorter than {SHORTEST}, and {left} is what is left; ask for {MIN_LIFE} at least"
            );
            return Err(IssueError::unfit("ttl", detail));
        }
        Ok(left.min(longest))
    }

    async fn assume(&self, order: &IssueOrder, parameters: &Parameters) -> Result<Session, CallFailed> {
        let duration =
            self.duration(order, parameters.duration).map_err(|error| CallFailed::Unsent(error.to_string()))?;
        let session_name = order.grant.to_string();
        let tags = parameters.tags.as_ref().map(|own| tags::of(order, own)).unwrap_or_default();
        let ask = Ask {
            role_arn: &parameters.role_arn,
            session_name: &session_name,
            duration,
            policy: parameters.session_policy.as_deref(),
            policy_arns: &parameters.policy_arns,
            tags: &tags,
            source_identity: parameters.source_identity.then_some(session_name.as_str()),
        };
        match self.sts.assume(ask).await {
            // Whoever wrote the trust policy may not have thought of tags. The role's own stay for the same reason as below.
            Err(failed) if failed.names("sts:TagSession") && parameters.tags.as_ref().is_some_and(Vec::is_empty) => {
                tracing::warn!(
                    backend = %self.name, grant = %order.grant, role = parameters.role_arn, aws = %failed,
                    "a session without the grant's tags: the trust policy of its role does not permit sts:TagSession"
                );
                self.sts.assume(Ask { tags: &[], ..ask }).await
            }
            // Tags are packed together with the policies, and nobody can tell into how much: what the broker says of a
            // grant never fails a deploy. What the role says stays: access may be given or kept by it, and a caller that
            // could have it left out by a long purpose would decide that.
            Err(failed) if failed.is("PackedPolicyTooLarge") && !tags.is_empty() => {
                tracing::warn!(backend = %self.name, grant = %order.grant, "a session without the grant's tags: they were too large");
                self.sts.assume(Ask { tags: parameters.tags.as_deref().unwrap_or_default(), ..ask }).await
            }
            other => other,
        }
    }
}

/// A name that AWS takes for a session: 2 to 64 of `[\w+=,.@-]`. A backend's name has such characters only.
fn session_name(kind: &str, backend: &BackendName) -> String {
    let taken = |c: &char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(*c);
    format!("{kind}-{backend}").chars().filter(taken).take(64).collect()
}

#[async_trait]
impl CredentialBackend for AwsBackend {
    fn kind(&self) -> &'static str {
        "aws"
    }

    fn effect(&self) -> Effect {
        Effect::Remote
    }

    fn class(&self, _role: &Role) -> RevocationClass {
        if self.fence.is_some() { RevocationClass::Fenced } else { RevocationClass::ExpiryOnly }
    }

    fn min_life(&self, _role: &Role) -> Ttl {
        MIN_LIFE
    }

    fn min_life_reason(&self) -> Option<&'static str> {
        Some(
            "AWS makes no session shorter than 900s (15m); 10s more are what asking may take, and what a session ends \
             before its grant",
        )
    }

    fn max_life(&self, role: &Role) -> Option<Ttl> {
        Parameters::read(role, &self.settings).ok().map(|read| read.duration.max(MIN_LIFE))
    }

    fn yields_single_token(&self, _role: &Role) -> bool {
        false
    }

    fn validate(&self, role: &Role) -> Result<(), InvalidParameters> {
        Parameters::read(role, &self.settings)?;
        Parameters::check_life(role)
    }

    fn fence(&self, role: &Role) -> Option<FenceRule> {
        let (fence, parameters) = self.fence.as_ref().zip(Parameters::read(role, &self.settings).ok())?;
        Some(fence.rule(parameters.role_arn, parameters.fences_all_older))
    }

    fn plan(&self, order: &IssueOrder) -> Result<Handle, IssueError> {
        let parameters = self.parameters(&order.role)?;
        if order.csr.is_some() {
            return Err(IssueError::unfit("csr", "a session is no certificate: this role takes no `csr`"));
        }
        let handle = SessionHandle::planned(order, &parameters).to_handle();
        handle.ok_or_else(|| IssueError::Unavailable { internal: "the handle cannot be written".to_owned() })
    }

    async fn issue(&self, order: &IssueOrder, handle: &Handle) -> Result<IssuedCredential, IssueError> {
        let parameters = self.parameters(&order.role)?;
        self.duration(order, parameters.duration)?;
        let assumed = self.assume(order, &parameters).await;
        let session = assumed.map_err(failure::of_assuming)?;
        let better = SessionHandle::read(handle).and_then(|handle| handle.answered(&session).to_handle());
        let missing = || IssueError::OutcomeUnknown { internal: "AWS gave a session without a token".to_owned() };
        Ok(IssuedCredential {
            material: CredentialMaterial::Aws {
                access_key_id: session.keys.access_key_id,
                secret_access_key: session.keys.secret_access_key,
                session_token: session.keys.session_token.ok_or_else(missing)?,
                region: parameters.region,
            },
            expires_at: session.expires_at,
            handle: better,
            signed_by: None,
        })
    }

    async fn extend(&self, _handle: &Handle, _until: Timestamp) -> Result<Timestamp, ExtendError> {
        Err(ExtendError::Unsupported)
    }

    async fn revoke(&self, handle: &Handle) -> Result<Undone, RevokeError> {
        let Some(fence) = &self.fence else { return Ok(Undone::OnlyTime) };
        let unreadable = || RevokeError { internal: "the handle is none of an AWS session".to_owned() };
        fence.set(&SessionHandle::read(handle).ok_or_else(unreadable)?).await
    }

    async fn inventory(&self) -> Result<Vec<InventoryItem>, RevokeError> {
        let Some(iam) = &self.iam else { return Ok(Vec::new()) };
        let found = doors::find(iam, &self.sts, &self.roles).await;
        found.map_err(|failed| RevokeError { internal: format!("IAM does not show its doors: {failed}") })
    }

    fn inventory_scope(&self) -> InventoryScope {
        // Nobody lists the sessions that STS gave out.
        if self.iam.is_some() { InventoryScope::Doors } else { InventoryScope::None }
    }

    async fn tend(&self) -> Result<(), RevokeError> {
        let (Some(iam), Some(fence)) = (&self.iam, &self.fence) else { return Ok(()) };
        let session = iam.keys().await;
        session.map_err(|failed| RevokeError { internal: format!("no session to fence with: {failed}") })?;
        fence.tend(&self.roles).await
    }
}

impl std::fmt::Debug for AwsBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwsBackend").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests_support;
