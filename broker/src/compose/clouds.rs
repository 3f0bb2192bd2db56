//! Backends that are somebody else's cloud, put together.

use std::sync::Arc;

use hallpass_core::id::BackendName;
use hallpass_core::port::{CredentialBackend, Signer};
use hallpass_core::time::Clock;
use zeroize::Zeroizing;

use crate::backend::azure::AzureBackend;
use crate::backend::gcp::GcpBackend;
use crate::backend::github::{AppKey, GitHubBackend};
use crate::backend::kubernetes::KubernetesBackend;
use crate::backend::own_identity::OwnIdentity;
use crate::config::backend::azure::Azure;
use crate::config::backend::gcp::Gcp;
use crate::config::backend::github::{GitHub, KeySource};
use crate::config::backend::kubernetes::{Kubernetes, KubernetesLogin};
use crate::keys::LocalSigner;
use crate::outbound::Outbound;

/// What each of them needs beside its settings.
pub(super) struct Place<'a> {
    pub(super) name: BackendName,
    pub(super) public_url: &'a str,
    pub(super) identity: OwnIdentity,
    pub(super) clock: Arc<dyn Clock>,
}

/// Why one cannot be put together, in words for whoever wrote its settings.
type Wrong = String;

pub(super) fn kubernetes(place: Place<'_>, settings: &Kubernetes) -> Result<Arc<dyn CredentialBackend>, Wrong> {
    let own = match &settings.login {
        KubernetesLogin::Certificate(own) => Some(own),
        KubernetesLogin::TokenFile(_) | KubernetesLogin::Jwt { .. } => None,
    };
    let outbound = Outbound::to_backend_as(settings.ca_file.as_deref(), own).map_err(explain)?;
    let authorities = match &settings.ca_file {
        Some(file) => Some(std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?),
        None => None,
    };
    let Place { name, public_url, identity, clock } = place;
    let settings = settings.clone();
    Ok(Arc::new(KubernetesBackend::new(name, public_url, settings, authorities, outbound, identity, clock)))
}

pub(super) fn github(place: Place<'_>, settings: &GitHub) -> Result<Arc<dyn CredentialBackend>, Wrong> {
    let outbound = Outbound::to_backend(settings.ca_file.as_deref()).map_err(explain)?;
    let source = settings.private_key.clone();
    let key: AppKey = Arc::new(move || {
        let pem = read_key(&source)?;
        let signer = LocalSigner::rsa_from_pem(&pem).map_err(|_| {
            "private_key: is not an RSA key of 2048 to 4096 bits in PEM, as GitHub gives those of Apps".to_owned()
        })?;
        Ok(Arc::new(signer) as Arc<dyn Signer>)
    });
    // Whoever configures it hears of it now, and not when the first credential is asked for.
    drop(key()?);
    Ok(Arc::new(GitHubBackend::new(place.name, settings, key, outbound, place.clock)))
}

pub(super) fn gcp(place: Place<'_>, settings: &Gcp) -> Result<Arc<dyn CredentialBackend>, Wrong> {
    let outbound = Outbound::to_backend(settings.ca_file.as_deref()).map_err(explain)?;
    Ok(Arc::new(GcpBackend::new(place.name, settings.clone(), outbound, place.identity, place.clock)))
}

pub(super) fn azure(place: Place<'_>, settings: &Azure) -> Result<Arc<dyn CredentialBackend>, Wrong> {
    let outbound = Outbound::to_backend(settings.ca_file.as_deref()).map_err(explain)?;
    Ok(Arc::new(AzureBackend::new(place.name, settings.clone(), outbound, place.identity, place.clock)))
}

fn read_key(source: &KeySource) -> Result<Zeroizing<Vec<u8>>, Wrong> {
    match source {
        KeySource::File(file) => {
            let read = std::fs::read(file).map_err(|error| format!("private_key: {}: {error}", file.display()))?;
            Ok(Zeroizing::new(read))
        }
        KeySource::Env(name) => {
            let read = std::env::var(name).map_err(|_| format!("private_key: there is no variable {name}"))?;
            Ok(Zeroizing::new(read.into_bytes()))
        }
    }
}

fn explain(error: impl std::error::Error) -> Wrong {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
