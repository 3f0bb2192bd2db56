//! The `vault` backend: tokens of HashiCorp Vault or OpenBao, and whatever its engines make.
//!
//! Nothing is orphaned: whatever is made is made under a token of the grant's own, whose accessor is durable before, so
//! that ending that token ends everything under it even where nobody heard of it. It comes from a token role that makes
//! orphans, or it would end with the broker's session.
//!
//! A role that gives a token gives that very token, and not a child of it: it has the role's policies and its bounds, its
//! accessor is durable before it leaves, and a second token beside it would be one more to end. The token itself is not
//! stored, not even sealed: between those two steps it is in memory (`parents::Waiting`), and whoever loses it there ends
//! it by its accessor. For a role that gives what a path makes, tokens can be kept ready as spares; those are sealed.
//!
//! Ending is believed only where the server says that it has nothing of that name any more (`parents`, `leases`).

mod census;
mod certificates;
mod doors;
mod leases;
mod login;
mod mint;
mod parameters;
mod parents;
mod ssh;
mod token_roles;
mod trace;
mod under_way;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hallpass_core::credential::{CredentialMaterial, Effect, Handle, IssueOrder, IssuedCredential, RevocationClass};
use hallpass_core::id::{BackendName, SpareId};
use hallpass_core::port::{
    Belongs, CredentialBackend, ExtendError, InvalidParameters, InventoryItem, InventoryScope, IssueError, ItemKind,
    Prepared, RevokeError, SpareRule, Undone,
};
use hallpass_core::role::Role;
use hallpass_core::secret::Secret;
use hallpass_core::time::{Clock, Timestamp, Ttl};

use self::census::Census;
use self::doors::Doors;
use self::leases::Walks;
use self::login::Broker;
use self::mint::{Life, Minted};
use self::parameters::{Parameters, mount_of};
use self::parents::{Parent, ParentOrder, Waiting};
use self::token_roles::TokenRoles;
use self::trace::Trace;
use self::under_way::Mints;
use self::wire::Text;
use super::own_identity::OwnIdentity;
use crate::config::backend::vault::{Engine, Login, Vault};
use crate::outbound::vault::{VaultClient, VaultError, VaultServer};
use crate::outbound::{AllowHttp, Outbound};

/// Longest answer in bytes: the accessors of 200,000 tokens, which is what takes most.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// What nothing can end early lives for less than was granted by as much as its making is expected to take. Where that is
/// exceeded, it is not handed out.
const ALLOWANCE: Duration = Duration::from_secs(2);
/// Kubernetes gives no token that lives for less.
const LEAST_OF_KUBERNETES: Ttl = Ttl::from_mins(10);

/// Mints at one server.
pub struct VaultBackend {
    name: BackendName,
    instance: String,
    settings: Vault,
    broker: Broker,
    clock: Arc<dyn Clock>,
    waiting: Waiting,
    mints: Mints,
    walks: Walks,
    token_roles: TokenRoles,
    census: Census,
    doors: Doors,
}

impl VaultBackend {
    /// The backend `name` of the broker that others reach at `instance`, and that has `identity` before this server.
    #[must_use]
    pub fn new(
        name: BackendName,
        instance: &str,
        settings: Vault,
        outbound: Outbound,
        identity: OwnIdentity,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let server = VaultServer {
            addresses: settings.addresses.clone(),
            namespace: settings.namespace.clone(),
            allow_http: if settings.dangerous_allow_http { AllowHttp::DangerousAnywhere } else { AllowHttp::Loopback },
            deadline: settings.timeout.as_duration(),
            max_answer: MAX_ANSWER,
        };
        let client = VaultClient::new(server, outbound);
        let broker = Broker::new(client, settings.login.clone(), identity, Arc::clone(&clock));
        Self {
            census: Census::new(instance, name.clone(), Arc::clone(&clock)),
            doors: Doors::new(Arc::clone(&clock)),
            waiting: Waiting::default(),
            mints: Mints::default(),
            walks: Walks::default(),
            token_roles: TokenRoles::default(),
            instance: instance.to_owned(),
            name,
            settings,
            broker,
            clock,
        }
    }

    fn parameters<'a>(&self, role: &'a Role) -> Result<Parameters<'a>, IssueError> {
        // Checked when the bundle was loaded: only a role that never was in a bundle can fail here.
        Parameters::read(role).map_err(|error| IssueError::Unavailable {
            internal: format!("role {} has parameters that backend {} does not take: {error}", role.name, self.name),
        })
    }

    /// How much sooner than it must a token is to end.
    fn allowance(&self, engine: Engine) -> Duration {
        if engine.class() == RevocationClass::Hard { self.settings.timeout.as_duration() } else { ALLOWANCE }
    }

    async fn parent(
        &self,
        belongs: Belongs,
        role: &Role,
        (owner, purpose): (&str, Option<&str>),
        expires_at: Timestamp,
    ) -> Result<(Parent, Trace), IssueError> {
        let parameters = self.parameters(role)?;
        let order = ParentOrder {
            instance: &self.instance,
            backend: &self.name,
            belongs,
            role: role.name.as_str(),
            owner,
            purpose,
            parameters: &parameters,
            token_role: &self.settings.token_role,
            expires_at,
            allowance: self.allowance(parameters.engine),
        };
        let parent = parents::create(&self.broker, self.clock.as_ref(), &order).await?;
        let mut trace = Trace::planned(belongs, parameters.engine, parameters.path);
        trace.accessor = Some(parent.accessor.clone());
        trace.set_ends_at(parent.ends_at);
        Ok((parent, trace))
    }

    /// Ends what a trace leads to, and answers what that achieved.
    async fn undo(&self, trace: Trace) -> Result<Undone, String> {
        let accessors = match &trace.accessor {
            Some(accessor) => vec![accessor.clone()],
            None => {
                let of = self.census.of(&self.broker, trace.belongs()).await;
                of.map_err(|error| format!("what was made could not be looked for: {error}"))?
            }
        };
        for accessor in &accessors {
            drop(self.waiting.take(accessor));
            // A lease that the server is making now would have no token to end with.
            let _none_under_way = self.mints.all_answered(accessor).await;
            parents::end(&self.broker, accessor).await?;
        }
        let path = trace.path.as_deref();
        // Nothing is made under a token before its accessor is known.
        let nothing_under_it = trace.accessor.is_none();
        match (trace.engine.class(), trace.engine, path) {
            (RevocationClass::Hard, Engine::Token, _) | (RevocationClass::Hard, _, None) => Ok(Undone::Gone),
            (RevocationClass::Hard, _, Some(path)) => {
                match &trace.lease {
                    _ if nothing_under_it => {}
                    Some(lease) => leases::end(&self.broker, lease).await?,
                    None => {
                        let accessor = trace.accessor.as_deref().unwrap_or_default();
                        self.walks.end_those_over(&self.broker, self.clock.as_ref(), accessor, path).await?;
                    }
                }
                Ok(Undone::Gone)
            }
            (RevocationClass::Fenced, _, path) => match (&trace.serial, path.and_then(mount_of)) {
                (Some(serial), Some(mount)) => {
                    let until = || self.clock.now().plus(certificates::ASKED_AGAIN);
                    let is_published = certificates::revoke(&self.broker, mount, serial).await?;
                    Ok(if is_published { Undone::Fenced } else { Undone::Fencing { until: until() } })
                }
                _ if nothing_under_it => Ok(Undone::Fenced),
                // A certificate of which nobody knows the number, unless the engine keeps leases, stays good.
                _ => Ok(Undone::OnlyTime),
            },
            (RevocationClass::ExpiryOnly, _, _) => Ok(Undone::OnlyTime),
        }
    }

    /// What the broker itself comes in by.
    fn own_doors(&self) -> Vec<String> {
        let mut own = vec![format!("auth/token/roles/{}", self.settings.token_role)];
        if let Login::Jwt { mount, role, .. } | Login::Kubernetes { mount, role, .. } = &self.settings.login {
            own.push(format!("auth/{mount}/role/{role}"));
        }
        own
    }
}

#[async_trait]
impl CredentialBackend for VaultBackend {
    fn kind(&self) -> &'static str {
        "vault"
    }

    fn effect(&self) -> Effect {
        Effect::Remote
    }

    fn class(&self, role: &Role) -> RevocationClass {
        Vault::class(&role.parameters)
    }

    fn min_life(&self, role: &Role) -> Ttl {
        let engine = Engine::of(&role.parameters).unwrap_or(Engine::Other);
        let allowance = Ttl::from_secs(self.allowance(engine).as_secs());
        match engine {
            Engine::Kubernetes => LEAST_OF_KUBERNETES.plus(allowance).plus(allowance),
            // One second, and what rounding takes.
            Engine::Token => allowance.plus(Ttl::from_secs(2)),
            // The token that it is made under ends sooner, and it ends sooner than that.
            _ => allowance.plus(allowance).plus(Ttl::from_secs(2)),
        }
    }

    fn max_life(&self, _role: &Role) -> Option<Ttl> {
        None
    }

    fn yields_single_token(&self, role: &Role) -> bool {
        matches!(Engine::of(&role.parameters), Ok(Engine::Token | Engine::Kubernetes))
    }

    fn validate(&self, role: &Role) -> Result<(), InvalidParameters> {
        Parameters::read(role).map(drop)
    }

    fn serve(&self, roles: &[Arc<Role>]) {
        let read = roles.iter().filter_map(|role| Parameters::read(role).ok());
        self.doors.look_for(read.flat_map(|parameters| parameters.policies).map(str::to_owned).collect());
    }

    fn plan(&self, order: &IssueOrder) -> Result<Handle, IssueError> {
        let parameters = self.parameters(&order.role)?;
        mint::check_key(order, &parameters)?;
        Ok(Trace::planned(Belongs::ToGrant(order.grant), parameters.engine, parameters.path).handle())
    }

    async fn prepare(&self, order: &IssueOrder, _planned: &Handle) -> Result<Option<Handle>, IssueError> {
        let (owner, purpose) = (order.owner.name.as_str(), Some(order.purpose.as_str()));
        let belongs = Belongs::ToGrant(order.grant);
        let (parent, trace) = self.parent(belongs, &order.role, (owner, purpose), order.expires_at).await?;
        self.waiting.put(&parent.accessor, parent.token, parent.ends_at);
        Ok(Some(trace.handle()))
    }

    fn recognises(&self, handle: &Handle) -> bool {
        let made_by = Trace::of(handle).ok().and_then(|trace| trace.made_by);
        made_by.is_none_or(|mark| self.token_roles.is_as_it_was(&mark))
    }

    fn undoes_what_is_late(&self, handle: &Handle) -> bool {
        // The server registers a lease under a token that was revoked while it made it, and then nothing leads there.
        Trace::of(handle).is_ok_and(|trace| !trace.may_be_minting())
    }

    fn spares(&self, role: &Role) -> Option<SpareRule> {
        let parameters = Parameters::read(role).ok()?;
        let count = parameters.spares.unwrap_or(self.settings.spares);
        // A token is one call, and its metadata names its grant: there is nothing to prepare.
        let is_of_use = parameters.engine != Engine::Token && count > 0;
        is_of_use.then_some(SpareRule { count, life: role.ttl.default })
    }

    async fn make_spare(&self, role: &Role, id: SpareId, expires_at: Timestamp) -> Result<Prepared, IssueError> {
        let belongs = Belongs::ToSpare(id);
        // Before: what it is marked with may be out of date, and then it is thrown away, but never ahead of it.
        let token_role = self.parameters(role)?.token_role.unwrap_or(&self.settings.token_role);
        let made_by = self.token_roles.mark(&self.broker, token_role).await;
        let made_by = made_by.map_err(|error| IssueError::Unavailable { internal: error.to_string() })?;
        let (parent, mut trace) = self.parent(belongs, role, (role.owner.as_str(), None), expires_at).await?;
        (trace.token, trace.made_by) = (Some(Text::new(parent.token)), made_by);
        Ok(Prepared { handle: trace.handle(), expires_at: parent.ends_at })
    }

    async fn issue(&self, order: &IssueOrder, handle: &Handle) -> Result<IssuedCredential, IssueError> {
        let unusable = |why: &str| IssueError::Unavailable { internal: why.to_owned() };
        let mut trace = Trace::of(handle).map_err(unusable)?;
        let (Some(accessor), Some(parent_ends_at)) = (trace.accessor.clone(), trace.ends_at()) else {
            return Err(unusable("nothing was prepared to mint with"));
        };
        let token = trace.token.take().map(Text::into_secret).or_else(|| self.waiting.take(&accessor));
        let token = token.ok_or_else(|| unusable("the token that was prepared is gone from memory"))?;
        trace.is_answered = true;
        let parameters = self.parameters(&order.role)?;
        if parameters.engine == Engine::Token {
            let material = CredentialMaterial::VaultToken { token };
            return Ok(IssuedCredential {
                material,
                expires_at: parent_ends_at,
                handle: Some(trace.handle()),
                signed_by: None,
            });
        }
        // What has a lease ends with its token; what has none, such as an SSH certificate, ends by itself.
        let until = match parameters.engine {
            Engine::Ssh | Engine::Kv => order.expires_at,
            _ => order.expires_at.min(parent_ends_at),
        };
        let left = until.since(self.clock.now()).as_duration();
        let seconds = left.saturating_sub(self.allowance(parameters.engine)).as_secs();
        if seconds == 0 {
            return Err(refused("less than a second of life is left, and Vault counts whole seconds"));
        }
        let life = Life { until, seconds };
        let _under_way = self.mints.begin(&accessor).await;
        let minted = mint::mint(&self.broker, self.clock.as_ref(), order, &parameters, &token, life).await;
        if matches!(minted, Err(IssueError::Unavailable { .. })) {
            // It is tried once more.
            self.waiting.put(&accessor, copy(&token), parent_ends_at);
        }
        let Minted { material, ends_at, lease, serial } = minted?;
        (trace.lease, trace.serial) = (lease, serial);
        Ok(IssuedCredential { material, expires_at: ends_at, handle: Some(trace.handle()), signed_by: None })
    }

    async fn extend(&self, _handle: &Handle, _until: Timestamp) -> Result<Timestamp, ExtendError> {
        // Whoever holds a token that can be renewed can renew it: no token of a grant can.
        Err(ExtendError::Unsupported)
    }

    async fn revoke(&self, handle: &Handle) -> Result<Undone, RevokeError> {
        let trace = Trace::of(handle).map_err(|why| RevokeError { internal: why.to_owned() })?;
        self.undo(trace).await.map_err(|internal| RevokeError { internal })
    }

    async fn inventory(&self) -> Result<Vec<InventoryItem>, RevokeError> {
        let failed = |what: &str, error: VaultError| RevokeError { internal: format!("{what}: {error}") };
        let tokens = self.census.all(&self.broker).await.map_err(|error| failed("auth/token/accessors", error))?;
        let tokens = tokens.into_iter().map(|(accessor, trace)| InventoryItem {
            belongs: trace.as_ref().map_or(Belongs::ToOthers, Trace::belongs),
            kind: ItemKind::Credential,
            handle: trace.map(|trace| trace.handle()),
            name: accessor,
        });
        let doors = self.doors.all(&self.broker, &self.own_doors()).await;
        let doors = doors.map_err(|error| failed("other doors", error))?.into_iter().map(|name| InventoryItem {
            belongs: Belongs::ToOthers,
            kind: ItemKind::Door,
            name,
            handle: None,
        });
        Ok(tokens.chain(doors).collect())
    }

    fn inventory_scope(&self) -> InventoryScope {
        InventoryScope::Full
    }

    async fn tend(&self) -> Result<(), RevokeError> {
        let failed = |error: VaultError| RevokeError { internal: error.to_string() };
        self.waiting.tend(self.clock.now());
        self.broker.tend().await.map_err(failed)?;
        self.token_roles.tend(&self.broker).await.map_err(failed)
    }
}

impl std::fmt::Debug for VaultBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VaultBackend").field("name", &self.name).finish_non_exhaustive()
    }
}

fn copy(token: &Secret) -> Secret {
    Secret::new(token.expose().to_owned())
}

fn refused(detail: impl Into<String>) -> IssueError {
    IssueError::refused(detail.into())
}

fn issue_error(error: VaultError) -> IssueError {
    match error {
        VaultError::Refused { status, said } => {
            let detail = match status {
                401 | 403 => "the server does not let the broker, or the token of the grant, do what the role needs",
                404 | 405 => "the server has nothing that makes credentials where the role says",
                _ => "the server does not make it as the role asks for it",
            };
            refused(format!("{detail} ({status})")).because(said)
        }
        VaultError::Address(why) => IssueError::Unavailable { internal: format!("its address: {why}") },
        VaultError::Unavailable(internal) => IssueError::Unavailable { internal },
        VaultError::Unknown(internal) => IssueError::OutcomeUnknown { internal },
    }
}
