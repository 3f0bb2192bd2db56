//! The composition root: the only place that names concrete adapters and plugs them into the ports.

mod aws;
mod clouds;
mod composer;
mod desks;
mod exports;
mod keks;
mod press;
mod readiness;
mod strongroom;
#[cfg(test)]
mod widening_tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use arc_swap::ArcSwap;
use hallpass_core::entropy::{Entropy, fresh_id};
use hallpass_core::error::{Reason, ServiceError};
use hallpass_core::id::{BackendName, IssuerName, RequestId, RevisionId};
use hallpass_core::port::{
    BundleSource, EndedGrants, Governance, History as _, Occasion, PossessionVerifier, Restart as _,
    SignatureAlgorithm, Store, TokenSigners,
};
use hallpass_core::request::Origin;
use hallpass_core::service::configuration::{self, Publishing};
use hallpass_core::service::operator::open_operator;
use hallpass_core::service::{Limits, Ports, RateRules, Rates, RefusalBudget};
use hallpass_core::time::Ttl;
use hallpass_sqlite::{LogReader, SqliteStore};
use tokio::sync::Notify;

use self::aws::AwsMeans;
use self::composer::Composer;
pub use self::composer::check_parameters;
use self::desks::{BuiltInPki, Desk, Jwks, Statuses};
use self::exports::exports;
pub use self::keks::{Rewrapping, rewrapping, sealer};
use self::press::BundlePress;
use self::readiness::Health;
pub use self::strongroom::Strongroom;
use crate::backend;
use crate::backend::jwt::JwtBackend;
use crate::backend::x509::RevocationLists;
use crate::config::Finding;
use crate::config::bundle::Bundle;
use crate::config::server::{Audit, Keys};
use crate::http::desk::{Pki, PublicKeys, Readiness, StatusLists, TokenDesk};
use crate::identity::dpop::DpopVerifier;
use crate::identity::ring_provider;
use crate::identity::spiffe::ProofForms;
use crate::keys::{DataKeyKeeper, DataKeySealer, KeyKeeper, KeyRing, Statements, SystemEntropy};
use crate::outbound::{AllowHttp, Outbound};
use crate::runtime::clock::SystemClock;
use crate::runtime::governed::Governed;
use crate::runtime::vitals::Vitals;

/// Installs what libraries look up process-wide: rustls's and jsonwebtoken's cryptography, both on ring. First thing in
/// `main`, before anything could choose another.
///
/// # Errors
/// When something else was installed before.
pub fn install_process_defaults() -> Result<(), &'static str> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "another TLS provider was installed before ours")?;
    ring_provider::install();
    #[cfg(feature = "failpoints")]
    crate::runtime::failpoints::arm_from_environment();
    Ok(())
}

/// What the broker is built from.
#[derive(Clone, Debug)]
pub struct Foundation {
    /// The database file.
    pub store: PathBuf,
    /// Where the key-encryption keys are, and how signing keys are announced.
    pub keys: Keys,
    /// Make the key file when there is none: for `dev` only, since a lost key loses everything that it sealed.
    pub create_key_file: bool,
    /// Origin that others reach the broker at.
    pub public_url: String,
    /// Further certificate authorities for outbound calls.
    pub outbound_ca_file: Option<PathBuf>,
    /// Plain http to issuers on loopback.
    pub allow_http: AllowHttp,
    /// How the audit log proves itself.
    pub audit: Audit,
    /// Audit entries for refused, unverified proofs, per source address and minute.
    pub unverified_refusals_per_minute: u32,
    /// How fast sources, issuers and owners may ask.
    pub rates: RateRules,
    /// Most live grants of one owner's roles.
    pub max_live_per_owner: Option<u32>,
    /// Most who may act for one another.
    pub max_actors: usize,
    /// Most that one of them may have of what is derived from one grant.
    pub max_derived_per_actor: u32,
    /// Audit entries for refusals after that, per identity and minute.
    pub refusals_per_minute: u32,
}

/// What the broker is to begin with.
#[derive(Debug)]
pub enum Beginning {
    /// This bundle, from files.
    Bundle(Box<Bundle>),
    /// The revision in force by the store's record: bundles come over the API.
    Record {
        /// Folder of the bundle that the very first start publishes.
        bootstrap: Option<PathBuf>,
    },
}

/// The broker, put together.
pub struct Broker {
    /// What use-cases and workers need.
    pub ports: Ports,
    /// What publishing works with.
    pub publishing: Arc<Publishing>,
    public_url: String,
    press: BundlePress,
    composer: Arc<Composer>,
    keys: Arc<KeyRing>,
    keeper: Arc<KeyKeeper>,
    data_keys: Arc<DataKeyKeeper>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("public_url", &self.public_url).finish_non_exhaustive()
    }
}

impl Broker {
    /// Opens the store and the keys, and puts into force what it is to begin with.
    ///
    /// # Errors
    /// Whatever keeps the broker from starting: it does not run on half of what it needs.
    pub async fn assemble(foundation: Foundation, beginning: Beginning) -> anyhow::Result<Self> {
        let Strongroom { clock, entropy, sealer, store, keys, keeper, data_keys, mut evidence, .. } =
            Strongroom::open(&foundation).await?;
        evidence.exports = exports(&foundation, store.as_ref()).await?;
        let outbound = Arc::new(Outbound::new(foundation.outbound_ca_file.as_deref())?);
        let ledger = Arc::clone(&store) as Arc<dyn EndedGrants>;
        let composer = Composer {
            clock: Arc::clone(&clock),
            aws: AwsMeans::new(Arc::clone(&outbound), Arc::clone(&clock), ledger),
            outbound,
            allow_http: foundation.allow_http,
            public_url: foundation.public_url.clone(),
            keys: Arc::clone(&keys),
            verifiers: ArcSwap::default(),
            domains: ArcSwap::default(),
            authorities: Arc::default(),
            built: ArcSwap::default(),
            health: ArcSwap::default(),
            guards: std::sync::Mutex::default(),
            entropy: Arc::clone(&entropy),
            asked_algorithms: ArcSwap::default(),
        };
        let (source, bundle, occasion) = begin(store.as_ref(), beginning).await?;
        let (revision, kept) = composer.compose(&bundle).map_err(findings_error)?;
        composer.adopt(kept);
        let composer = Arc::new(composer);
        let id = revision.id.clone();
        let governed = Arc::new(Governed::new(Arc::new(revision)));
        let ports = Ports {
            clock,
            entropy,
            store: Arc::clone(&store) as Arc<dyn Store>,
            governance: Arc::clone(&governed) as Arc<dyn Governance>,
            reader: Arc::new(ProofForms),
            sealer,
            evidence: Arc::new(evidence),
            refusals: Arc::new(RefusalBudget::new(
                foundation.unverified_refusals_per_minute,
                foundation.refusals_per_minute,
            )),
            rates: Arc::new(Rates::new(&foundation.rates)),
            statements: Arc::new(Statements::new(&foundation.public_url, Arc::clone(&keys) as Arc<dyn TokenSigners>)),
            revocations: Arc::new(Notify::new()),
            nudge: Arc::new(Notify::new()),
            spares: Arc::default(),
            possessions: Arc::default(),
            limits: Limits {
                max_live_per_owner: foundation.max_live_per_owner,
                max_actors: foundation.max_actors,
                max_derived_per_actor: foundation.max_derived_per_actor,
                ..Limits::default()
            },
        };
        let waiting = store.resume(ports.now()).await?;
        tracing::debug!(waiting, "the silence of holders counts from now");
        configuration::record_local(&ports, &id, bundle.files, &bundle.named, occasion).await?;
        let press = BundlePress { composer: Arc::clone(&composer), governed };
        let publishing = Arc::new(Publishing::new(source, Arc::new(press.clone())));
        Ok(Self { ports, publishing, public_url: foundation.public_url, press, composer, keys, keeper, data_keys })
    }

    /// Puts the bundle that was loaded again into force. A bad one changes nothing, and is recorded.
    ///
    /// # Errors
    /// Everything that is wrong with it, or the store's failure.
    pub async fn reload(&self, loaded: Result<Bundle, Vec<Finding>>) -> anyhow::Result<RevisionId> {
        let candidate = loaded.and_then(|bundle| self.press.candidate(bundle));
        let reloaded = configuration::reload(&self.ports, &self.publishing, candidate).await;
        reloaded.map_err(|error| match error {
            ServiceError::Refused(refusal) if !refusal.findings.is_empty() => findings_error(refusal.findings),
            error => error.into(),
        })
    }

    /// What the HTTP interface reads tokens with.
    #[must_use]
    pub fn token_desk(&self) -> Arc<dyn TokenDesk> {
        Arc::new(Desk(self.keys.own_tokens(&self.public_url)))
    }

    /// Verifies that a caller has a key, from now on.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn possession(&self, nonces: bool) -> anyhow::Result<Arc<dyn PossessionVerifier>> {
        let (entropy, started) = (self.ports.entropy.as_ref(), self.ports.now());
        Ok(Arc::new(DpopVerifier::new(nonces, entropy, started)?))
    }

    /// The keys that verify what the broker signs.
    #[must_use]
    pub fn public_keys(&self) -> Arc<dyn PublicKeys> {
        Arc::new(Jwks(Arc::clone(&self.keys)))
    }

    /// The built-in certificate authority.
    #[must_use]
    pub fn pki(&self) -> Arc<dyn Pki> {
        let authorities = Arc::clone(&self.composer.authorities);
        let (store, clock) = (Arc::clone(&self.ports.store), Arc::clone(&self.ports.clock));
        let lists = RevocationLists::new(store, Arc::clone(&authorities), clock);
        Arc::new(BuiltInPki { authorities, lists })
    }

    /// Lists of the tokens that were ended early.
    #[must_use]
    pub fn status_lists(&self) -> Arc<dyn StatusLists> {
        let (store, clock) = (Arc::clone(&self.ports.store), Arc::clone(&self.ports.clock));
        let keys = Arc::clone(&self.keys) as Arc<dyn TokenSigners>;
        Arc::new(Statuses(backend::jwt::StatusLists::new(store, keys, &self.public_url, clock)))
    }

    /// Who changes the signing keys.
    #[must_use]
    pub fn key_keeper(&self) -> Arc<KeyKeeper> {
        Arc::clone(&self.keeper)
    }

    /// Who keeps the data key.
    #[must_use]
    pub fn data_key_keeper(&self) -> Arc<DataKeyKeeper> {
        Arc::clone(&self.data_keys)
    }

    /// Whether the authority's certificate is somebody's offline root's to give.
    #[must_use]
    pub fn is_under_an_offline_root(&self) -> bool {
        self.composer.authorities.load().as_ref().is_some_and(|authorities| authorities.are_under_an_offline_root())
    }

    /// How the parts are, those of the work behind the requests by `vitals`.
    #[must_use]
    pub fn readiness(&self, vitals: Arc<Vitals>) -> Arc<dyn Readiness> {
        let (ports, composer, keys) = (self.ports.clone(), Arc::clone(&self.composer), Arc::clone(&self.keys));
        Arc::new(Health { ports, composer, keys, vitals })
    }

    /// Opens a grant for whoever runs the broker, and gives its token.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn operator_token(&self, purpose: &str, ttl: Option<Ttl>) -> Result<String, ServiceError> {
        let request_id: RequestId = self.ports.fresh_id()?;
        let origin = Origin { request_id, source: None };
        let keys = Arc::clone(&self.keys) as Arc<dyn TokenSigners>;
        let backend =
            JwtBackend::new(operator_backend()?, SignatureAlgorithm::Es256, &self.public_url, Vec::new(), keys);
        let opened = open_operator(&self.ports, &backend, &self.public_url, purpose, ttl, &origin).await?;
        match opened.credential.material {
            hallpass_core::credential::CredentialMaterial::Jwt { token } => Ok(token.expose().to_owned()),
            _ => Err(ServiceError::unavailable(Reason::SigningUnavailable, "the operator's credential is no token")),
        }
    }
}

/// The bundle to begin with, where bundles come from, and what its publication is called where it is one.
async fn begin(store: &SqliteStore, beginning: Beginning) -> anyhow::Result<(BundleSource, Bundle, Occasion)> {
    let bootstrap = match beginning {
        // Published anew, whatever the record says: the folder is what is reviewed.
        Beginning::Bundle(bundle) => return Ok((BundleSource::Files, *bundle, Occasion::Start)),
        Beginning::Record { bootstrap } => bootstrap,
    };
    configuration::confirm(store).await?;
    let Some(active) = store.active_revision().await? else {
        let folder = bootstrap.context(
            "no bundle was ever published here, and [bundle] names none to begin with: give its folder as `bootstrap`",
        )?;
        // As one that is sent: what it names beside itself would not be there at the next start.
        let bundle = Bundle::read(&folder).and_then(Bundle::from_files).map_err(findings_error)?;
        return Ok((BundleSource::Api, bundle, Occasion::Bootstrap));
    };
    let files = store.revision_files(&active.id).await?.ok_or_else(|| {
        anyhow!("the content of revision {} is not kept: start once with [bundle] source = \"files\"", active.id)
    })?;
    let bundle = Bundle::from_files(files).map_err(findings_error).with_context(|| {
        format!(
            "revision {} is in force by the record, and this version refuses it: start once with [bundle] source = \
             \"files\" on a folder with it in which that is mended, and go back to \"api\" after that",
            active.id
        )
    })?;
    if bundle.revision != active.id {
        bail!("the store's content of revision {} has the digest {}: it was changed", active.id, bundle.revision);
    }
    Ok((BundleSource::Api, bundle, Occasion::Bootstrap))
}

/// The name under which operators' tokens are minted; configuration cannot use it for anything else.
fn operator_backend() -> Result<BackendName, ServiceError> {
    BackendName::new(IssuerName::RESERVED)
        .map_err(|error| ServiceError::unavailable(Reason::SigningUnavailable, error.to_string()))
}

/// The audit log of the store at `path`, read beside whoever writes it. Blocks.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn audit_log(path: &Path) -> anyhow::Result<LogReader> {
    Ok(LogReader::open(path)?)
}

/// Brings a store's schema up to date and verifies the database. Blocks.
///
/// # Errors
/// When another process has it, a newer program made it, or it is damaged.
pub async fn migrate(foundation: &Foundation) -> anyhow::Result<String> {
    let migrated = SqliteStore::migrate(&foundation.store)?;
    let clock = SystemClock::start();
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::new());
    // What is sealed is not looked into: the schema needs no key, nor whoever holds it.
    let sealer = Arc::new(DataKeySealer::locked(Arc::clone(&entropy)));
    let store = SqliteStore::open(&foundation.store, sealer, fresh_id(&clock, entropy.as_ref())?)?;
    let problems = store.integrity_check().await?;
    if !problems.is_empty() {
        bail!("the database is damaged:\n{}", problems.join("\n"));
    }
    let (from, to) = (migrated.from, migrated.to);
    let done = if from == to { format!("schema {to}: up to date") } else { format!("schema {from} → {to}") };
    Ok(format!("{}: {done}; the database verifies", foundation.store.display()))
}

/// All findings as one error, a line each.
pub fn findings_error(findings: Vec<Finding>) -> anyhow::Error {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("the configuration is refused:\n{}", lines.join("\n"))
}
