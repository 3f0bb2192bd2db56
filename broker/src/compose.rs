//! The composition root: the only place that names concrete adapters and plugs them into the ports.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail};
use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use bytes::Bytes;
use hallpass_core::audit::note::VerifierKey;
use hallpass_core::audit::{Actor, AuditAction, AuditEntry, AuditObject, CheckpointSigner};
use hallpass_core::catalog::Revision;
use hallpass_core::entropy::{Entropy, fresh_id};
use hallpass_core::error::{Reason, ServiceError};
use hallpass_core::id::{BackendName, IssuerName, LogId, RequestId, RevisionId};
use hallpass_core::port::{
    Anchor, AuditLog as _, CredentialBackend, Governance, IdentityVerifier, Restart as _, RevisionRecord, Sealer,
    SignatureAlgorithm, Signer, Store, TokenSigners,
};
use hallpass_core::request::Origin;
use hallpass_core::service::operator::open_operator;
use hallpass_core::service::{Evidence, Limits, Ports, RefusalBudget};
use hallpass_core::time::{Clock, Timestamp, Ttl};
use hallpass_sqlite::SqliteStore;
use tokio::sync::Notify;

use crate::audit::CheckpointFile;
use crate::backend::jwt::JwtBackend;
use crate::backend::x509::{Authority, RevocationLists, X509Backend, root_certificate};
use crate::backend::{self};
use crate::config::Finding;
use crate::config::backend::{Backend, BackendKind};
use crate::config::bundle::Bundle;
use crate::config::issuer::Issuer;
use crate::config::server::Audit;
use crate::http::desk::{OwnToken, Part, Pki, PublicKeys, Published, Readiness, StatusLists, TokenDesk};
use crate::identity::jose::JwsReader;
use crate::identity::oidc::OidcVerifier;
use crate::identity::ring_provider;
use crate::keys::{
    CertificationFailed, KekSealer, KeyEncryptionKeys, KeyRing, LocalSigner, OwnTokens, Statements, SystemEntropy,
};
use crate::outbound::{AllowHttp, Outbound};
use crate::runtime::clock::SystemClock;
use crate::runtime::governed::Governed;

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
    /// The key-encryption key.
    pub key_file: PathBuf,
    /// Make the key file when there is none: for `dev` only, since a lost key loses everything that it sealed.
    pub create_key_file: bool,
    /// Key-encryption keys that still open old values.
    pub retired_key_files: Vec<PathBuf>,
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
}

/// The broker, put together.
pub struct Broker {
    /// What use-cases and workers need.
    pub ports: Ports,
    public_url: String,
    store: Arc<SqliteStore>,
    governed: Arc<Governed>,
    composer: Composer,
    keys: Arc<KeyRing>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("public_url", &self.public_url).finish_non_exhaustive()
    }
}

impl Broker {
    /// Opens the store and the keys, and puts the bundle in the folder `bundle` into force.
    ///
    /// # Errors
    /// Whatever keeps the broker from starting: it does not run on half of what it needs.
    pub async fn assemble(foundation: Foundation, bundle: Bundle) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::new());
        let sealer = sealer(&foundation, &entropy)?;
        let fresh_log = fresh_id(clock.as_ref(), entropy.as_ref())?;
        let store = Arc::new(SqliteStore::open(&foundation.store, Arc::clone(&sealer), fresh_log)?);
        let certify = |signer: &Arc<dyn Signer>, now: Timestamp| {
            root_certificate(signer, now).map_err(|error| CertificationFailed(error.to_string()))
        };
        let keys = KeyRing::open(store.as_ref(), sealer.as_ref(), clock.as_ref(), entropy.as_ref(), &certify).await?;
        let keys = Arc::new(keys);
        let evidence = evidence(&foundation, &keys, store.log_id())?;
        evidence.confirm(store.as_ref()).await?;
        let composer = Composer {
            clock: Arc::clone(&clock),
            outbound: Arc::new(Outbound::new(foundation.outbound_ca_file.as_deref())?),
            allow_http: foundation.allow_http,
            public_url: foundation.public_url.clone(),
            keys: Arc::clone(&keys),
            verifiers: Mutex::default(),
            authority: Arc::default(),
        };
        let revision = composer.revision(&bundle).map_err(findings_error)?;
        let governed = Arc::new(Governed::new(revision));
        let ports = Ports {
            clock,
            entropy,
            store: Arc::clone(&store) as Arc<dyn Store>,
            governance: Arc::clone(&governed) as Arc<dyn Governance>,
            reader: Arc::new(JwsReader),
            sealer,
            evidence: Arc::new(evidence),
            refusals: Arc::new(RefusalBudget::new(foundation.unverified_refusals_per_minute)),
            statements: Arc::new(Statements::new(&foundation.public_url, Arc::clone(&keys) as Arc<dyn TokenSigners>)),
            nudge: Arc::new(Notify::new()),
            revocations: Arc::new(Notify::new()),
            limits: Limits::default(),
        };
        let broker = Self { ports, public_url: foundation.public_url, store, governed, composer, keys };
        let waiting = broker.store.resume(broker.ports.now()).await?;
        tracing::debug!(waiting, "the silence of holders counts from now");
        broker.publish(&bundle.revision, "the broker's start").await?;
        Ok(broker)
    }

    /// Puts another bundle into force. A bad one changes nothing.
    ///
    /// # Errors
    /// Everything that is wrong with it, or the store's failure.
    pub async fn reload(&self, bundle: &Bundle) -> anyhow::Result<RevisionId> {
        let revision = self.composer.revision(bundle).map_err(findings_error)?;
        let id = revision.id.clone();
        // In force before it is recorded: the record moves the epoch, and whoever decides again because of that must
        // decide by the new one.
        let before = self.governed.replace(revision);
        if let Err(error) = self.publish(&id, "SIGHUP").await {
            // What is not recorded does not decide.
            self.governed.restore(before);
            return Err(error);
        }
        Ok(id)
    }

    async fn publish(&self, id: &RevisionId, occasion: &str) -> anyhow::Result<()> {
        let active = self.store.active_revision().await?;
        if active.as_ref().is_some_and(|active| &active.id == id) {
            return Ok(());
        }
        let now = self.ports.now();
        let object = AuditObject::Configuration { revision: id.to_string() };
        let entry = AuditEntry::success(now, Actor::LocalAdministrator, AuditAction::ConfigurationPublish, object)
            .with("occasion", occasion);
        let record = RevisionRecord {
            id: id.clone(),
            published_at: now,
            author: None,
            parent: active.map(|active| active.id),
            commit: None,
        };
        Ok(self.store.publish_revision(record, entry).await?)
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
        let authority = Arc::clone(&self.composer.authority);
        let (store, clock) = (Arc::clone(&self.ports.store), Arc::clone(&self.ports.clock));
        let lists = RevocationLists::new(store, Arc::clone(&authority), clock);
        Arc::new(BuiltInPki { authority, lists })
    }

    /// Lists of the tokens that were ended early.
    #[must_use]
    pub fn status_lists(&self) -> Arc<dyn StatusLists> {
        let (store, clock) = (Arc::clone(&self.ports.store), Arc::clone(&self.ports.clock));
        let keys = Arc::clone(&self.keys) as Arc<dyn TokenSigners>;
        Arc::new(Statuses(backend::jwt::StatusLists::new(store, keys, &self.public_url, clock)))
    }

    /// How the parts are.
    #[must_use]
    pub fn readiness(&self) -> Arc<dyn Readiness> {
        Arc::new(Health { store: Arc::clone(&self.ports.store) })
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

/// What the audit log is proved with.
fn evidence(foundation: &Foundation, keys: &KeyRing, log: LogId) -> anyhow::Result<Evidence> {
    let usual = || CheckpointSigner::usual_origin(&foundation.public_url, log);
    let origin = foundation.audit.origin.clone().unwrap_or_else(usual);
    let mut signers = keys.audit_signers();
    let signer = signers.next().context("there is no key for the audit log")?;
    let earlier_keys: Result<_, _> = signers.map(|key| VerifierKey::new(&origin, key.public_key())).collect();
    let anchor = foundation.audit.checkpoint_file.clone().map(CheckpointFile::new);
    Ok(Evidence {
        checkpoints: CheckpointSigner::new(&origin, signer)?,
        earlier_keys: earlier_keys?,
        anchor: anchor.map(|file| Arc::new(file) as Arc<dyn Anchor>),
    })
}

/// The name under which operators' tokens are minted; configuration cannot use it for anything else.
fn operator_backend() -> Result<BackendName, ServiceError> {
    BackendName::new(IssuerName::RESERVED)
        .map_err(|error| ServiceError::unavailable(Reason::SigningUnavailable, error.to_string()))
}

/// Opens what is sealed under the foundation's key-encryption keys.
///
/// # Errors
/// When a key file cannot be used.
pub fn sealer(foundation: &Foundation, entropy: &Arc<dyn Entropy>) -> anyhow::Result<Arc<dyn Sealer>> {
    let keys = if foundation.create_key_file {
        KeyEncryptionKeys::read_or_create(&foundation.key_file, entropy.as_ref())?
    } else {
        KeyEncryptionKeys::read(&foundation.key_file, &foundation.retired_key_files)?
    };
    Ok(Arc::new(KekSealer::new(keys, Arc::clone(entropy))))
}

/// Brings a store's schema up to date and verifies the database. Blocks.
///
/// # Errors
/// When another process has it, a newer program made it, or it is damaged.
pub async fn migrate(foundation: &Foundation) -> anyhow::Result<String> {
    let migrated = SqliteStore::migrate(&foundation.store)?;
    let clock = SystemClock::start();
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::new());
    let sealer = sealer(foundation, &entropy)?;
    let store = SqliteStore::open(&foundation.store, sealer, fresh_id(&clock, entropy.as_ref())?)?;
    let problems = store.integrity_check().await?;
    if !problems.is_empty() {
        bail!("the database is damaged:\n{}", problems.join("\n"));
    }
    let (from, to) = (migrated.from, migrated.to);
    let done = if from == to { format!("schema {to}: up to date") } else { format!("schema {from} → {to}") };
    Ok(format!("{}: {done}; the database verifies", foundation.store.display()))
}

/// Builds revisions out of bundles.
struct Composer {
    clock: Arc<dyn Clock>,
    outbound: Arc<Outbound>,
    allow_http: AllowHttp,
    public_url: String,
    keys: Arc<KeyRing>,
    /// Kept from one revision to the next where the issuer is the same, with the keys that it has fetched.
    verifiers: Mutex<BTreeMap<IssuerName, (Issuer, Arc<OidcVerifier>)>>,
    authority: Arc<ArcSwapOption<Authority>>,
}

impl Composer {
    fn revision(&self, bundle: &Bundle) -> Result<Revision, Vec<Finding>> {
        let authority = self.authority(&bundle.backends)?;
        let keys = Arc::clone(&self.keys) as Arc<dyn TokenSigners>;
        let backends = backends(&bundle.backends, &self.public_url, &keys, &authority)?;
        check_roles(bundle, &backends)?;
        let verifiers = self.verifiers(&bundle.issuers)?;
        self.authority.store(Some(authority));
        Ok(Revision {
            id: bundle.revision.clone(),
            catalog: bundle.catalog.clone(),
            policy: Arc::clone(&bundle.policy),
            verifiers,
            backends,
        })
    }

    fn verifiers(&self, issuers: &[Issuer]) -> Result<Vec<Arc<dyn IdentityVerifier>>, Vec<Finding>> {
        let mut kept = self.verifiers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = BTreeMap::new();
        let mut findings = Vec::new();
        for issuer in issuers {
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
        if !findings.is_empty() {
            return Err(findings);
        }
        let own = self.keys.own_tokens(&self.public_url);
        let verifiers = next.values().map(|(_, verifier)| Arc::clone(verifier) as Arc<dyn IdentityVerifier>);
        let verifiers = verifiers.chain([Arc::new(own) as Arc<dyn IdentityVerifier>]).collect();
        *kept = next;
        Ok(verifiers)
    }

    /// The one built-in authority. Backends share its key, and so its certificate.
    fn authority(&self, backends: &[Backend]) -> Result<Arc<Authority>, Vec<Finding>> {
        let mut files = backends.iter().filter_map(|backend| match &backend.kind {
            BackendKind::X509 { ca_certificate_file, .. } => Some(ca_certificate_file.as_deref()),
            BackendKind::Jwt { .. } => None,
        });
        let file = files.next().flatten();
        if files.any(|other| other != file) {
            let reason = "every x509 backend must name the same ca_certificate_file: there is one built-in authority";
            return Err(vec![in_bundle("backends.toml", reason)]);
        }
        let ca = self.keys.ca();
        let signer = Arc::clone(&ca.signer) as Arc<dyn Signer>;
        let now = self.clock.now();
        let authority = match file {
            Some(path) => Authority::from_file(signer, path, &self.public_url, now),
            None => Authority::new(signer, &ca.certificate, &self.public_url, now),
        };
        authority.map(Arc::new).map_err(|error| vec![in_bundle("backends.toml", error.to_string())])
    }
}

/// The adapters of the configured backends.
fn backends(
    configured: &[Backend],
    public_url: &str,
    keys: &Arc<dyn TokenSigners>,
    authority: &Arc<Authority>,
) -> Result<BTreeMap<BackendName, Arc<dyn CredentialBackend>>, Vec<Finding>> {
    let mut built = BTreeMap::new();
    for backend in configured {
        let name = backend.name.clone();
        let adapter: Arc<dyn CredentialBackend> = match &backend.kind {
            BackendKind::Jwt { algorithm } => {
                Arc::new(JwtBackend::new(name, *algorithm, public_url, Vec::new(), Arc::clone(keys)))
            }
            BackendKind::X509 { trust_domain, .. } => {
                let adapter = X509Backend::new(name, trust_domain, Arc::clone(authority));
                let wrong = |error| vec![in_bundle("backends.toml", format!("backend {}: {error}", backend.name))];
                Arc::new(adapter.map_err(wrong)?)
            }
        };
        built.insert(backend.name.clone(), adapter);
    }
    Ok(built)
}

/// Has each role's parameters checked as at load, by backends with throw-away keys: for `check`, which has no store.
///
/// # Errors
/// When no key can be made.
pub fn check_parameters(bundle: &Bundle) -> anyhow::Result<Vec<Finding>> {
    let clock = SystemClock::start();
    let signer = |algorithm| {
        let key = LocalSigner::generate(algorithm)?;
        Ok::<_, anyhow::Error>(Arc::new(LocalSigner::from_pkcs8(algorithm, &key)?) as Arc<dyn Signer>)
    };
    let ca = signer(SignatureAlgorithm::Es256)?;
    let public_url = "https://hallpass.invalid";
    let certificate = root_certificate(&ca, clock.now())?;
    let authority = Arc::new(Authority::new(Arc::clone(&ca), &certificate, public_url, clock.now())?);
    let signers = vec![signer(SignatureAlgorithm::Es256)?, signer(SignatureAlgorithm::EdDsa)?];
    let keys = Arc::new(signers) as Arc<dyn TokenSigners>;
    let found =
        backends(&bundle.backends, public_url, &keys, &authority).and_then(|backends| check_roles(bundle, &backends));
    Ok(found.err().unwrap_or_default())
}

/// Has each role's parameters checked by the backend that will mint it.
fn check_roles(
    bundle: &Bundle,
    backends: &BTreeMap<BackendName, Arc<dyn CredentialBackend>>,
) -> Result<(), Vec<Finding>> {
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
        vec![SignatureAlgorithm::Es256.as_str(), SignatureAlgorithm::EdDsa.as_str()]
    }
}

struct BuiltInPki {
    authority: Arc<ArcSwapOption<Authority>>,
    lists: RevocationLists,
}

#[async_trait]
impl Pki for BuiltInPki {
    fn ca_pem(&self) -> String {
        self.authority.load().as_ref().map(|authority| authority.ca_pem()).unwrap_or_default()
    }

    async fn crl(&self, now: Timestamp) -> Result<Published, ServiceError> {
        self.lists.list(now).await.map(published)
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

struct Health {
    store: Arc<dyn Store>,
}

#[async_trait]
impl Readiness for Health {
    async fn report(&self) -> Vec<Part> {
        let store = self.store.check().await.err();
        vec![Part { part: "store", ok: store.is_none(), detail: store.map(|error| error.to_string()) }]
    }
}
