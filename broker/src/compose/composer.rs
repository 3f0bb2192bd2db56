//! Builds revisions out of bundles.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use hallpass_core::catalog::Revision;
use hallpass_core::credential::Effect;
use hallpass_core::entropy::Entropy;
use hallpass_core::id::{BackendName, IssuerName};
use hallpass_core::port::{
    AuthorityKey, AuthorityKeys, CredentialBackend, IdentityVerifier, NamedFiles, SignatureAlgorithm, Signer,
    TokenSigners,
};
use hallpass_core::role::Role;
use hallpass_core::time::{Clock, Timestamp};

use super::aws::AwsMeans;
use super::clouds::{self, Place};
use super::press::Kept;
use crate::backend::guarded::{Guard, Guarded};
use crate::backend::jwt::{JwtBackend, algorithm_of};
use crate::backend::measured::{BackendHealth, Measured};
use crate::backend::own_identity::OwnIdentity;
use crate::backend::postgres::PostgresBackend;
use crate::backend::vault::VaultBackend;
use crate::backend::x509::{Authorities, X509Backend, root_certificate};
use crate::config::Finding;
use crate::config::backend::{AwsAuth, Backend, BackendKind};
use crate::config::bundle::Bundle;
use crate::config::issuer::{Issuer, SpiffeIssuer};
use crate::identity::attestation::Attestors;
use crate::identity::oidc::OidcVerifier;
use crate::identity::spiffe::SpiffeVerifier;
use crate::keys::{KeyRing, LocalSigner, SystemEntropy};
use crate::outbound::{AllowHttp, Outbound};
use crate::runtime::clock::SystemClock;

/// Adapters with the settings that they were built by.
#[derive(Default)]
pub(super) struct Built {
    adapters: BTreeMap<BackendName, (Backend, Arc<dyn CredentialBackend>)>,
    /// What the bundle named beside itself, such as the authorities of a server's certificate.
    named: NamedFiles,
}

pub(super) type Backends = BTreeMap<BackendName, Arc<dyn CredentialBackend>>;
pub(super) type BackendsHealth = BTreeMap<BackendName, Arc<BackendHealth>>;
pub(super) type Domains = BTreeMap<IssuerName, (SpiffeIssuer, Arc<SpiffeVerifier>)>;
pub(super) type Verifiers = BTreeMap<IssuerName, (Issuer, Arc<OidcVerifier>)>;

/// Builds revisions out of bundles.
pub(super) struct Composer {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) outbound: Arc<Outbound>,
    pub(super) allow_http: AllowHttp,
    pub(super) public_url: String,
    pub(super) keys: Arc<KeyRing>,
    /// Of the revision in force.
    pub(super) verifiers: ArcSwap<Verifiers>,
    pub(super) domains: ArcSwap<Domains>,
    pub(super) authorities: Arc<ArcSwapOption<Authorities>>,
    pub(super) health: ArcSwap<BackendsHealth>,
    /// The adapters of the revision in force, with their sessions: for backends that stay the same.
    pub(super) built: ArcSwap<Built>,
    /// How much each backend that is called over the network bears: remembered over revisions.
    pub(super) guards: Mutex<BTreeMap<BackendName, Arc<Guard>>>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) aws: AwsMeans,
    /// How the tokens are to be signed.
    pub(super) asked_algorithms: ArcSwap<HashSet<SignatureAlgorithm>>,
}

impl Composer {
    /// The revision of a bundle, with what is to be kept of it once it is in force. Without effect.
    pub(super) fn compose(&self, bundle: &Bundle) -> Result<(Revision, Kept), Vec<Finding>> {
        let authorities = self.authorities(&bundle.backends)?;
        let keys = Arc::clone(&self.keys) as Arc<dyn TokenSigners>;
        let known = self.built.load();
        let means = Means {
            public_url: &self.public_url,
            keys,
            authorities: Arc::clone(&authorities),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
            known: &known,
            aws: &self.aws,
        };
        let built = Arc::new(backends(bundle, &means)?);
        let backends = built.adapters();
        check_roles(bundle, &backends)?;
        let health = self.health_of(&backends);
        let backends = self.measured(self.guarded(backends, &bundle.backends), &health);
        let verifiers = Arc::new(self.verifiers(&bundle.issuers)?);
        let domains = Arc::new(self.domains(&bundle.trust_domains)?);
        let (health, asked_algorithms) = (Arc::new(health), Arc::new(asked_algorithms(bundle)));
        let kept = Kept { verifiers, domains, authorities: Some(authorities), built, health, asked_algorithms };
        let own = Arc::new(self.keys.own_tokens(&self.public_url)) as Arc<dyn IdentityVerifier>;
        let verifiers = kept.verifiers.values().map(|(_, verifier)| Arc::clone(verifier) as Arc<dyn IdentityVerifier>);
        let domains = kept.domains.values().map(|(_, verifier)| Arc::clone(verifier) as Arc<dyn IdentityVerifier>);
        let revision = Revision {
            id: bundle.revision.clone(),
            catalog: bundle.catalog.clone(),
            policy: Arc::clone(&bundle.policy),
            verifiers: verifiers.chain(domains).chain([own]).collect(),
            attestors: Arc::new(Attestors::new(bundle.attestors.clone())),
            backends,
        };
        Ok((revision, kept))
    }

    /// Keeps what belongs to the revision in force.
    pub(super) fn adopt(&self, kept: Kept) {
        self.verifiers.store(kept.verifiers);
        self.domains.store(kept.domains);
        self.authorities.store(kept.authorities);
        self.built.store(kept.built);
        self.health.store(kept.health);
        self.asked_algorithms.store(kept.asked_algorithms);
    }

    /// How the backends have been: remembered over revisions.
    fn health_of(&self, backends: &Backends) -> BackendsHealth {
        let known = self.health.load();
        backends.keys().map(|name| (name.clone(), known.get(name).cloned().unwrap_or_default())).collect()
    }

    /// The same backends, with a guard before those that are called over the network.
    fn guarded(&self, backends: Backends, configured: &[Backend]) -> Backends {
        let mut guards = self.guards.lock().unwrap_or_else(PoisonError::into_inner);
        let guarded = |(name, backend): (BackendName, Arc<dyn CredentialBackend>)| {
            if backend.effect() == Effect::Local {
                return (name, backend);
            }
            let fresh = || Arc::new(Guard::new(Arc::clone(&self.clock), Arc::clone(&self.entropy)));
            let guard = Arc::clone(guards.entry(name.clone()).or_insert_with(fresh));
            let settings = configured.iter().find(|backend| backend.name == name);
            let server = settings.map(|backend| backend.kind.server()).unwrap_or_default();
            (name, Arc::new(Guarded::new(backend, guard, &server)) as Arc<dyn CredentialBackend>)
        };
        backends.into_iter().map(guarded).collect()
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

    fn domains(&self, trust_domains: &[SpiffeIssuer]) -> Result<Domains, Vec<Finding>> {
        let kept = self.domains.load();
        let mut next = BTreeMap::new();
        for settings in trust_domains {
            let known = kept.get(&settings.name).filter(|(known, _)| known == settings);
            let verifier = match known {
                Some((_, verifier)) => Arc::clone(verifier),
                None => {
                    let (clock, client) = (Arc::clone(&self.clock), Arc::clone(&self.outbound));
                    let verifier = SpiffeVerifier::new(settings.clone(), clock, client, self.allow_http);
                    let told = |error| vec![in_bundle("issuers.toml", format!("issuer {}: {error}", settings.name))];
                    Arc::new(verifier.map_err(told)?)
                }
            };
            next.insert(settings.name.clone(), (settings.clone(), verifier));
        }
        Ok(next)
    }

    /// The one built-in authority. Backends share its keys, and so its certificates.
    fn authorities(&self, backends: &[Backend]) -> Result<Arc<Authorities>, Vec<Finding>> {
        let mut files = backends.iter().filter_map(|backend| match &backend.kind {
            BackendKind::X509 { ca_certificate_file, .. } => Some(ca_certificate_file.as_deref()),
            _ => None,
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

/// The algorithms that the backends of a bundle sign tokens with, and those that its roles ask them for instead.
fn asked_algorithms(bundle: &Bundle) -> HashSet<SignatureAlgorithm> {
    let of_backend = |backend: &Backend| match &backend.kind {
        BackendKind::Jwt { algorithm } => Some((backend.name.clone(), *algorithm)),
        BackendKind::Azure(settings) => Some((backend.name.clone(), settings.own_token()?.1)),
        BackendKind::Gcp(settings) => Some((backend.name.clone(), settings.own_token()?.1)),
        BackendKind::Kubernetes(settings) => Some((backend.name.clone(), settings.own_token()?.1)),
        BackendKind::Vault(settings) => settings.audience().map(|_| (backend.name.clone(), settings.algorithm())),
        BackendKind::Aws(_) => backend.kind.audience().map(|_| (backend.name.clone(), SignatureAlgorithm::Es256)),
        _ => None,
    };
    let backends: BTreeMap<_, _> = bundle.backends.iter().filter_map(of_backend).collect();
    let roles = bundle.catalog.roles.values().filter(|role| backends.contains_key(&role.backend));
    roles.filter_map(|role| algorithm_of(role)).chain(backends.values().copied()).collect()
}

/// What adapters are built from.
struct Means<'a> {
    public_url: &'a str,
    keys: Arc<dyn TokenSigners>,
    authorities: Arc<Authorities>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// Those of the revision in force.
    known: &'a Built,
    aws: &'a AwsMeans,
}

impl Means<'_> {
    /// What the broker is before the backend `name`.
    fn identity(&self, name: &BackendName, algorithm: SignatureAlgorithm) -> OwnIdentity {
        let (keys, clock, entropy) = (Arc::clone(&self.keys), Arc::clone(&self.clock), Arc::clone(&self.entropy));
        OwnIdentity::new(name.clone(), self.public_url, algorithm, keys, clock, entropy)
    }

    /// What a backend of somebody else's cloud needs, which the broker shows a token of this algorithm, where one.
    fn place(&self, name: &BackendName, algorithm: Option<SignatureAlgorithm>) -> Result<Place<'_>, Vec<Finding>> {
        if let Some(algorithm) = algorithm {
            self.signs(name, algorithm)?;
        }
        let identity = self.identity(name, algorithm.unwrap_or(SignatureAlgorithm::Es256));
        Ok(Place { name: name.clone(), public_url: self.public_url, identity, clock: Arc::clone(&self.clock) })
    }

    /// Whether tokens can be signed so, now or once somebody has brought another key.
    fn signs(&self, name: &BackendName, algorithm: SignatureAlgorithm) -> Result<(), Vec<Finding>> {
        if self.keys.signer(algorithm).is_some() || self.keys.awaits(algorithm) {
            return Ok(());
        }
        let algorithm = algorithm.as_str();
        let reason = format!("has no {algorithm} key: import one with `hallpass-broker keys import`");
        Err(vec![in_bundle("backends.toml", format!("backend {name}: the broker {reason}"))])
    }
}

/// The adapters of the configured backends. One that is called over the network stays while its settings do, and the files
/// that they name: so does its session.
fn backends(bundle: &Bundle, means: &Means<'_>) -> Result<Built, Vec<Finding>> {
    let audiences: Vec<String> = bundle.backends.iter().filter_map(|backend| backend.kind.audience()).collect();
    let mut built = Built { adapters: BTreeMap::new(), named: bundle.named.clone() };
    for backend in &bundle.backends {
        let known = means.known.adapters.get(&backend.name).filter(|(settings, _)| settings == backend);
        // One that looks for doors to what its roles reach is of one revision.
        let known = known.filter(|_| !matches!(backend.kind, BackendKind::Aws(_)));
        let known = known.filter(|(_, adapter)| adapter.effect() == Effect::Remote && means.known.named == built.named);
        let adapter = match known {
            Some((_, adapter)) => Arc::clone(adapter),
            None => build(bundle, backend, means, &audiences)?,
        };
        built.adapters.insert(backend.name.clone(), (backend.clone(), adapter));
    }
    Ok(built)
}

impl Built {
    fn adapters(&self) -> Backends {
        self.adapters.iter().map(|(name, (_, adapter))| (name.clone(), Arc::clone(adapter))).collect()
    }
}

fn build(
    bundle: &Bundle,
    backend: &Backend,
    means: &Means<'_>,
    audiences: &[String],
) -> Result<Arc<dyn CredentialBackend>, Vec<Finding>> {
    let name = backend.name.clone();
    let wrong =
        |error: &dyn std::fmt::Display| vec![in_bundle("backends.toml", format!("backend {}: {error}", backend.name))];
    Ok(match &backend.kind {
        BackendKind::Jwt { algorithm } => {
            means.signs(&name, *algorithm)?;
            let (reserved, keys) = (audiences.to_vec(), Arc::clone(&means.keys));
            Arc::new(JwtBackend::new(name, *algorithm, means.public_url, reserved, keys))
        }
        BackendKind::X509 { trust_domain, .. } => {
            let adapter = X509Backend::new(name, trust_domain, Arc::clone(&means.authorities));
            Arc::new(adapter.map_err(|error| wrong(&error))?)
        }
        BackendKind::Azure(settings) => {
            let place = means.place(&name, settings.own_token().map(|(_, algorithm)| algorithm))?;
            clouds::azure(place, settings).map_err(|error| wrong(&error))?
        }
        BackendKind::Gcp(settings) => {
            let place = means.place(&name, settings.own_token().map(|(_, algorithm)| algorithm))?;
            clouds::gcp(place, settings).map_err(|error| wrong(&error))?
        }
        BackendKind::GitHub(settings) => {
            let place = means.place(&name, None)?;
            clouds::github(place, settings).map_err(|error| wrong(&error))?
        }
        BackendKind::Kubernetes(settings) => {
            let place = means.place(&name, settings.own_token().map(|(_, algorithm)| algorithm))?;
            clouds::kubernetes(place, settings).map_err(|error| wrong(&error))?
        }
        BackendKind::Postgres(settings) => {
            let (clock, entropy) = (Arc::clone(&means.clock), Arc::clone(&means.entropy));
            let adapter = PostgresBackend::new(name, settings.as_ref().clone(), means.public_url, clock, entropy);
            Arc::new(adapter.map_err(|error| wrong(&format!("{error:#}")))?)
        }
        BackendKind::Vault(settings) => {
            let algorithm = settings.algorithm();
            means.signs(&name, algorithm)?;
            let outbound = Outbound::to_backend(settings.ca_file.as_deref()).map_err(|error| wrong(&error))?;
            let (identity, clock) = (means.identity(&name, algorithm), Arc::clone(&means.clock));
            Arc::new(VaultBackend::new(name, means.public_url, (**settings).clone(), outbound, identity, clock))
        }
        BackendKind::Aws(settings) => {
            let algorithm = SignatureAlgorithm::Es256;
            if settings.auth == AwsAuth::WebIdentity {
                means.signs(&name, algorithm)?;
            }
            means.aws.backend(bundle, &name, settings, &backend.kind.server(), means.identity(&name, algorithm))
        }
    })
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
pub(super) fn throw_away_backends(bundle: &Bundle) -> anyhow::Result<Result<Backends, Vec<Finding>>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let key = LocalSigner::generate(SignatureAlgorithm::Es256)?;
    let signer: Arc<dyn Signer> = Arc::new(LocalSigner::from_pkcs8(SignatureAlgorithm::Es256, &key)?);
    let keys = Arc::new(ThrowAway { certificate: root_certificate(&signer, clock.now())?, signer });
    let public_url = "https://hallpass.invalid";
    let authorities = Arc::new(Authorities::new(Arc::clone(&keys) as _, None, public_url, Arc::clone(&clock))?);
    let (entropy, known) = (Arc::new(SystemEntropy::new()), &Built::default());
    let aws = &AwsMeans::throw_away(Arc::clone(&clock))?;
    let means = Means { public_url, keys, authorities, clock, entropy, known, aws };
    Ok(backends(bundle, &means).map(|built| built.adapters()))
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
        vec![AuthorityKey { signer, certificates: certificate, activates_at: Timestamp::MIN }]
    }
}

/// A cluster whose tokens are accepted as proofs gives none for the audience of those: each would be a fresh proof of a
/// service account, with nobody's name behind it.
fn accepted_audience(bundle: &Bundle, kind: &str, role: &Role) -> Option<String> {
    let audiences = role.parameters.get("audiences").filter(|_| kind == "kubernetes")?.as_array()?;
    let asked: Vec<&str> = audiences.iter().filter_map(|audience| audience.as_str()).collect();
    let accepts = |issuer: &&Issuer| issuer.rules.audiences.iter().any(|audience| asked.contains(&audience.as_str()));
    let issuer = bundle.issuers.iter().find(accepts)?;
    Some(format!("one of them is what proofs of {} are accepted for: a token for it would be a proof", issuer.name))
}

/// Has each role's parameters checked by the backend that will mint it.
fn check_roles(bundle: &Bundle, backends: &Backends) -> Result<(), Vec<Finding>> {
    let fence_roles: HashSet<&str> = bundle.backends.iter().filter_map(|backend| backend.kind.fence_role()).collect();
    let findings: Vec<_> = bundle
        .catalog
        .roles
        .values()
        .filter_map(|role| {
            let backend = backends.get(&role.backend)?;
            let lifts_fences = role.parameters.get("role_arn").and_then(|arn| arn.as_str());
            if lifts_fences.is_some_and(|arn| backend.kind() == "aws" && fence_roles.contains(arn)) {
                let problem = "is a role that fences are set with: whoever had a session of it could lift every fence";
                return Some(bundle.parameter_finding(&role.name, "role_arn", problem));
            }
            if let Some(problem) = accepted_audience(bundle, backend.kind(), role) {
                return Some(bundle.parameter_finding(&role.name, "audiences", &problem));
            }
            let error = backend.validate(role).err()?;
            Some(bundle.parameter_finding(&role.name, &error.key, &error.problem))
        })
        .collect();
    if findings.is_empty() { Ok(()) } else { Err(findings) }
}

fn in_bundle(file: impl Into<PathBuf>, reason: impl Into<String>) -> Finding {
    Finding { file: file.into(), line: None, reason: reason.into() }
}
