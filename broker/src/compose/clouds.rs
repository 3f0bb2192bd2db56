//! Backends that are somebody else's cloud, put together.

use std::sync::Arc;

use hallpass_core::id::BackendName;
use hallpass_core::port::CredentialBackend;
use hallpass_core::time::Clock;

use crate::backend::kubernetes::KubernetesBackend;
use crate::backend::own_identity::OwnIdentity;
use crate::config::backend::kubernetes::{Kubernetes, KubernetesLogin};
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
