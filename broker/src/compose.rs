//! The composition root: the only place that names concrete adapters and plugs them into the ports.

mod keks;
mod press;
mod readiness;
mod strongroom;
#[cfg(test)]
mod widening_tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use arc_swap::{ArcSwap, ArcSwapOption};
use async_trait::async_trait;
use bytes::Bytes;
use hallpass_core::catalog::Revision;
use hallpass_core::entropy::{Entropy, fresh_id};
use hallpass_core::error::{Reason, ServiceError};
use hallpass_core::id::{BackendName, IssuerName, RequestId, RevisionId};
use hallpass_core::port::{
    AuditLog as _, AuditSink, AuthorityKey, AuthorityKeys, BundleSource, CredentialBackend, Governance, History as _,
    IdentityVerifier, Occasion, Restart as _, SignatureAlgorithm, Signer, Store, TokenSigners,
};
use hallpass_core::request::Origin;
use hallpass_core::service::configuration::{self, Publishing};
use hallpass_core::service::operator::open_operator;
use hallpass_core::service::{Export, Limits, Ports, RateRules, Rates, RefusalBudget};
use hallpass_core::time::{Clock, Timestamp, Ttl};
use hallpass_sqlite::{LogReader, SqliteStore};
use tokio::sync::Notify;

pub use self::keks::{Rewrapping, rewrapping, sealer};
use self::press::{BundlePress, Kept};
use self::readiness::Health;
pub use self::strongroom::Strongroom;
use crate::audit::{FileSink, HttpsSink, StdoutSink};
use crate::backend;
use crate::backend::jwt::JwtBackend;
use crate::backend::measured::{BackendHealth, Measured};
use crate::backend::x509::{Authorities, RevocationLists, X509Backend, root_certificate};
use crate::config::Finding;
use crate::config::backend::{Backend, BackendKind};
use crate::config::bundle::Bundle;
use crate::config::issuer::Issuer;
use crate::config::server::{Audit, Destination, Keys};
use crate::http::desk::{OwnToken, Pki, PublicKeys, Published, Readiness, StatusLists, TokenDesk};
use crate::identity::jose::JwsReader;
use crate::identity::oidc::OidcVerifier;
use crate::identity::ring_provider;
use crate::keys::{
    DataKeyKeeper, DataKeySealer, KeyKeeper, KeyRing, LocalSigner, OwnTokens, Statements, SystemEntropy,
};
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
        let composer = Composer {
            clock: Arc::clone(&clock),
            outbound: Arc::new(Outbound::new(foundation.outbound_ca_file.as_deref())?),
            allow_http: foundation.allow_http,
            public_url: foundation.public_url.clone(),
            keys: Arc::clone(&keys),
            verifiers: ArcSwap::default(),
            authorities: Arc::default(),
            health: ArcSwap::default(),
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
            reader: Arc::new(JwsReader),
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
            limits: Limits { max_live_per_owner: foundation.max_live_per_owner, ..Limits::default() },
        };
        let waiting = store.resume(ports.now()).await?;
        tracing::debug!(waiting, "the silence of holders counts from now");
        configuration::record_local(&ports, &id, bundle.files, occasion).await?;
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

/// The destinations that the audit log is taken to, each from where it was left.
async fn exports(foundation: &Foundation, store: &SqliteStore) -> anyhow::Result<Vec<Arc<Export>>> {
    let mut exports = Vec::new();
    for export in &foundation.audit.exports {
        let sink = sink(&export.destination)?;
        let next = store.exported(sink.name()).await?;
        exports.push(Arc::new(Export::new(sink, export.max_lag, next)));
    }
    Ok(exports)
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
    let bundle = Bundle::from_files(files).map_err(findings_error)?;
    if bundle.revision != active.id {
        bail!("the store's content of revision {} has the digest {}: it was changed", active.id, bundle.revision);
    }
    Ok((BundleSource::Api, bundle, Occasion::Bootstrap))
}

/// Where the log is taken to.
fn sink(destination: &Destination) -> anyhow::Result<Arc<dyn AuditSink>> {
    let name = destination.name();
    let sink: Arc<dyn AuditSink> = match destination {
        Destination::File { path } => Arc::new(FileSink::new(name, path.clone())),
        Destination::Stdout => Arc::new(StdoutSink::new(name)?),
        Destination::Https { url, token_file, ca_file, plain_http } => Arc::new(HttpsSink {
            name,
            outbound: Outbound::new(ca_file.as_deref())?,
            url: url.clone(),
            token_file: token_file.clone(),
            allow_http: if *plain_http { AllowHttp::DangerousAnywhere } else { AllowHttp::Never },
        }),
    };
    Ok(sink)
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

type Backends = BTreeMap<BackendName, Arc<dyn CredentialBackend>>;
type BackendsHealth = BTreeMap<BackendName, Arc<BackendHealth>>;
type Verifiers = BTreeMap<IssuerName, (Issuer, Arc<OidcVerifier>)>;

/// Builds revisions out of bundles.
struct Composer {
    clock: Arc<dyn Clock>,
    outbound: Arc<Outbound>,
    allow_http: AllowHttp,
    public_url: String,
    keys: Arc<KeyRing>,
    /// Of the revision in force.
    verifiers: ArcSwap<Verifiers>,
    authorities: Arc<ArcSwapOption<Authorities>>,
    health: ArcSwap<BackendsHealth>,
}

impl Composer {
    /// The revision of a bundle, with what is to be kept of it once it is in force. Without effect.
    fn compose(&self, bundle: &Bundle) -> Result<(Revision, Kept), Vec<Finding>> {
        let authorities = self.authorities(&bundle.backends)?;
        let keys = Arc::clone(&self.keys) as Arc<dyn TokenSigners>;
        let backends = backends(&bundle.backends, &self.public_url, &keys, &authorities)?;
        check_roles(bundle, &backends)?;
        let health = self.health_of(&backends);
        let backends = self.measured(backends, &health);
        let verifiers = Arc::new(self.verifiers(&bundle.issuers)?);
        let kept = Kept { verifiers, authorities: Some(authorities), health: Arc::new(health) };
        let own = Arc::new(self.keys.own_tokens(&self.public_url)) as Arc<dyn IdentityVerifier>;
        let verifiers = kept.verifiers.values().map(|(_, verifier)| Arc::clone(verifier) as Arc<dyn IdentityVerifier>);
        let revision = Revision {
            id: bundle.revision.clone(),
            catalog: bundle.catalog.clone(),
            policy: Arc::clone(&bundle.policy),
            verifiers: verifiers.chain([own]).collect(),
            backends,
        };
        Ok((revision, kept))
    }

    /// Keeps what belongs to the revision in force.
    fn adopt(&self, kept: Kept) {
        self.verifiers.store(kept.verifiers);
        self.authorities.store(kept.authorities);
        self.health.store(kept.health);
    }

    /// How the backends have been: remembered over revisions.
    fn health_of(&self, backends: &Backends) -> BackendsHealth {
        let known = self.health.load();
        backends.keys().map(|name| (name.clone(), known.get(name).cloned().unwrap_or_default())).collect()
    }

    /// The same backends with their calls counted.
    fn measured(&self, backends: Backends, health: &BackendsHealth) -> Backends {
        let measured = |(name, backend): (BackendName, Arc<dyn CredentialBackend>)| {
            let health = health.get(&name).cloned().unwrap_or_default();
            let measured = Measured::new(backend, name.clone(), Arc::clone(&self.clock), health);
            (name, Arc::new(measured) as Arc<dyn CredentialBackend>)
        };
        backends.into_iter().map(measured).collect()
    }

    fn verifiers(&self, issuers: &[Issuer]) -> Result<Verifiers, Vec<Finding>> {
        let kept = self.verifiers.load();
        let mut next = BTreeMap::new();
        let mut findings = Vec::new();
        for issuer in issuers {
            if issuer.url == self.public_url {
                let reason = format!("the issuer {:?} has the broker's own public_url", issuer.name.as_str());
                findings.push(in_bundle("issuers.toml", reason));
                continue;
            }
            let known = kept.get(&issuer.name).filter(|(settings, _)| settings == issuer);
            let verifier = match known {
                Some((_, verifier)) => Ok(Arc::clone(verifier)),
                None => OidcVerifier::new(
                    issuer.clone(),
                    Arc::clone(&self.clock),
                    Arc::clone(&self.outbound),
                    self.allow_http,
                )
                .map(Arc::new),
            };
            match verifier {
                Ok(verifier) => {
                    next.insert(issuer.name.clone(), (issuer.clone(), verifier));
                }
                Err(error) => findings.push(in_bundle("issuers.toml", format!("issuer {}: {error}", issuer.name))),
            }
        }
        if findings.is_empty() { Ok(next) } else { Err(findings) }
    }

    /// The one built-in authority. Backends share its keys, and so its certificates.
    fn authorities(&self, backends: &[Backend]) -> Result<Arc<Authorities>, Vec<Finding>> {
        let mut files = backends.iter().filter_map(|backend| match &backend.kind {
            BackendKind::X509 { ca_certificate_file, .. } => Some(ca_certificate_file.as_deref()),
            BackendKind::Jwt { .. } => None,
        });
        let file = files.next().flatten();
        if files.any(|other| other != file) {
            let reason = "every x509 backend must name the same ca_certificate_file: there is one built-in authority";
            return Err(vec![in_bundle("backends.toml", reason)]);
        }
        let keys = Arc::clone(&self.keys) as Arc<dyn AuthorityKeys>;
        let authorities = Authorities::new(keys, file, &self.public_url, Arc::clone(&self.clock));
        authorities.map(Arc::new).map_err(|error| vec![in_bundle("backends.toml", error.to_string())])
    }
}

/// The adapters of the configured backends.
fn backends(
    configured: &[Backend],
    public_url: &str,
    keys: &Arc<dyn TokenSigners>,
    authorities: &Arc<Authorities>,
) -> Result<Backends, Vec<Finding>> {
    let mut built = BTreeMap::new();
    for backend in configured {
        let name = backend.name.clone();
        let adapter: Arc<dyn CredentialBackend> = match &backend.kind {
            BackendKind::Jwt { algorithm } => {
                if keys.signer(*algorithm).is_none() && !keys.awaits(*algorithm) {
                    let algorithm = algorithm.as_str();
                    let reason = format!("has no {algorithm} key: import one with `hallpass-broker keys import`");
                    return Err(vec![in_bundle("backends.toml", format!("backend {name}: the broker {reason}"))]);
                }
                Arc::new(JwtBackend::new(name, *algorithm, public_url, Vec::new(), Arc::clone(keys)))
            }
            BackendKind::X509 { trust_domain, .. } => {
                let adapter = X509Backend::new(name, trust_domain, Arc::clone(authorities));
                let wrong = |error| vec![in_bundle("backends.toml", format!("backend {}: {error}", backend.name))];
                Arc::new(adapter.map_err(wrong)?)
            }
        };
        built.insert(backend.name.clone(), adapter);
    }
    Ok(built)
}

/// Has each role's parameters checked as at load, by backends with a throw-away key: for `check`, which has no store and
/// so cannot know which keys were imported.
///
/// # Errors
/// When no key can be made.
pub fn check_parameters(bundle: &Bundle) -> anyhow::Result<Vec<Finding>> {
    let found = throw_away_backends(bundle)?.and_then(|backends| check_roles(bundle, &backends));
    Ok(found.err().unwrap_or_default())
}

/// The backends of a bundle, with a key that nobody keeps.
fn throw_away_backends(bundle: &Bundle) -> anyhow::Result<Result<Backends, Vec<Finding>>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let key = LocalSigner::generate(SignatureAlgorithm::Es256)?;
    let signer: Arc<dyn Signer> = Arc::new(LocalSigner::from_pkcs8(SignatureAlgorithm::Es256, &key)?);
    let keys = Arc::new(ThrowAway { certificate: root_certificate(&signer, clock.now())?, signer });
    let public_url = "https://hallpass.invalid";
    let authorities = Arc::new(Authorities::new(Arc::clone(&keys) as _, None, public_url, clock)?);
    Ok(backends(&bundle.backends, public_url, &(keys as Arc<dyn TokenSigners>), &authorities))
}

/// One key that stands for all: nothing is signed with it.
struct ThrowAway {
    signer: Arc<dyn Signer>,
    certificate: String,
}

impl TokenSigners for ThrowAway {
    fn signer(&self, _: SignatureAlgorithm) -> Option<Arc<dyn Signer>> {
        Some(Arc::clone(&self.signer))
    }
}

impl AuthorityKeys for ThrowAway {
    fn generation(&self) -> u64 {
        0
    }

    fn authority_keys(&self) -> Vec<AuthorityKey> {
        let (signer, certificate) = (Arc::clone(&self.signer), self.certificate.clone());
        vec![AuthorityKey { signer, certificate, activates_at: Timestamp::MIN }]
    }
}

/// Has each role's parameters checked by the backend that will mint it.
fn check_roles(bundle: &Bundle, backends: &Backends) -> Result<(), Vec<Finding>> {
    let findings: Vec<_> = bundle
        .catalog
        .roles
        .values()
        .filter_map(|role| {
            let backend = backends.get(&role.backend)?;
            let error = backend.validate(role).err()?;
            Some(bundle.parameter_finding(&role.name, &error.key, &error.problem))
        })
        .collect();
    if findings.is_empty() { Ok(()) } else { Err(findings) }
}

fn in_bundle(file: impl Into<PathBuf>, reason: impl Into<String>) -> Finding {
    Finding { file: file.into(), line: None, reason: reason.into() }
}

/// All findings as one error, a line each.
pub fn findings_error(findings: Vec<Finding>) -> anyhow::Error {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("the configuration is refused:\n{}", lines.join("\n"))
}

struct Desk(OwnTokens);

impl TokenDesk for Desk {
    fn read(&self, token: &str) -> Option<OwnToken> {
        let token = self.0.read(token).ok()?;
        Some(OwnToken {
            grant: token.grant,
            client_id: Some(token.subject.clone()),
            subject: token.subject,
            audiences: token.audiences,
            scope: token.scope,
            token_id: Some(token.grant.to_string()),
            issued_at: token.issued_at,
            expires_at: token.expires_at,
        })
    }
}

struct Jwks(Arc<KeyRing>);

impl PublicKeys for Jwks {
    fn jwks(&self) -> Bytes {
        Bytes::from(self.0.jwks())
    }

    fn algorithms(&self) -> Vec<&'static str> {
        self.0.token_algorithms().into_iter().map(SignatureAlgorithm::as_str).collect()
    }
}

struct BuiltInPki {
    authorities: Arc<ArcSwapOption<Authorities>>,
    lists: RevocationLists,
}

#[async_trait]
impl Pki for BuiltInPki {
    fn ca_pem(&self) -> String {
        self.authorities.load().as_ref().map(|authorities| authorities.ca_pem()).unwrap_or_default()
    }

    async fn crl(&self, key_id: Option<&str>) -> Result<Option<Published>, ServiceError> {
        Ok(self.lists.list(key_id).await?.map(published))
    }
}

struct Statuses(backend::jwt::StatusLists);

#[async_trait]
impl StatusLists for Statuses {
    async fn list(&self, number: u64) -> Result<Option<Published>, ServiceError> {
        Ok(self.0.list(number).await?.map(published))
    }
}

fn published(list: backend::Published) -> Published {
    Published { bytes: list.bytes, etag: list.etag }
}
