//! The key-encryption keys that configuration names, and what they unwrap.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use hallpass_core::entropy::Entropy;
use hallpass_core::port::{Sealer, Wrapping};

use super::{Foundation, Strongroom};
use crate::config::server::{KeySource, Transit};
use crate::keys::{DataKeySealer, DataKeys, KeyEncryptionKeys, LocalKek, TransitKek, TransitSettings};
use crate::outbound::{AllowHttp, Outbound};
use crate::runtime::variable;

/// The key-encryption keys of a foundation, the active one first.
///
/// # Errors
/// When one cannot be used.
pub(super) fn keks(foundation: &Foundation, entropy: &Arc<dyn Entropy>) -> anyhow::Result<KeyEncryptionKeys> {
    let mut keys = KeyEncryptionKeys::default();
    for source in std::iter::once(&foundation.keys.active).chain(&foundation.keys.retired) {
        match source {
            KeySource::File(path) => keys.add_local(file(path, foundation.create_key_file, entropy)?)?,
            KeySource::Env(name) => {
                keys.add_local(LocalKek::from_variable(name, variable::read(name).as_ref(), entropy)?)?;
            }
            KeySource::Transit(transit) => keys.add_remote(transit_key(transit)?),
        }
    }
    Ok(keys)
}

fn file(path: &Path, create: bool, entropy: &Arc<dyn Entropy>) -> anyhow::Result<LocalKek> {
    let read = if create { LocalKek::read_or_create_file(path, entropy) } else { LocalKek::read_file(path, entropy) };
    Ok(read?)
}

fn transit_key(transit: &Transit) -> anyhow::Result<TransitKek> {
    let outbound = Outbound::new(transit.ca_file.as_deref());
    let outbound = outbound.with_context(|| match &transit.ca_file {
        Some(file) => format!("the Transit engine at {}, with the ca_file {}", transit.address, file.display()),
        None => format!("the Transit engine at {}", transit.address),
    })?;
    let settings = TransitSettings {
        address: transit.address.clone(),
        mount: transit.mount.clone(),
        key: transit.key.clone(),
        namespace: transit.namespace.clone(),
        token_file: transit.token_file.clone(),
        allow_http: if transit.plain_http { AllowHttp::DangerousAnywhere } else { AllowHttp::Never },
    };
    Ok(TransitKek::new(settings, outbound))
}

/// What seals in the store of a foundation, which another process may be using. A store that has no data key yet is
/// opened once, which makes it.
///
/// # Errors
/// When the data key cannot be had.
pub async fn sealer(foundation: &Foundation, entropy: &Arc<dyn Entropy>) -> anyhow::Result<Arc<dyn Sealer>> {
    let keks = keks(foundation, entropy)?;
    let keys = match unwrapped(foundation, &keks).await? {
        Some(keys) => keys,
        None => {
            drop(Strongroom::open(foundation).await?);
            unwrapped(foundation, &keks).await?.context("the store has no data key")?
        }
    };
    Ok(held(&keys, &keks, entropy))
}

/// The data key of a store that is in use, in the wrapping that the active key-encryption key gives it now.
pub struct Rewrapping {
    /// What seals in that store.
    pub sealer: Arc<dyn Sealer>,
    /// Id of its data key.
    pub data_key: String,
    /// The wrapping that it was unwrapped from.
    pub read: Wrapping,
    /// The new wrapping; none where that is the one it has.
    pub wrapping: Option<Wrapping>,
}

/// Wraps the data key of a foundation's store anew, and changes nothing there. None where the store has none yet.
///
/// # Errors
/// When a key cannot be used.
pub async fn rewrapping(foundation: &Foundation, entropy: &Arc<dyn Entropy>) -> anyhow::Result<Option<Rewrapping>> {
    let keks = keks(foundation, entropy)?;
    let Some(keys) = unwrapped(foundation, &keks).await? else { return Ok(None) };
    let (newest, read) = keys.newest().context("the store has no data key")?;
    let wrapping = keys.wrapped_anew(&keks).await?;
    let sealer = held(&keys, &keks, entropy);
    Ok(Some(Rewrapping { sealer, data_key: newest.to_string(), read: read.clone(), wrapping }))
}

async fn unwrapped(foundation: &Foundation, keks: &KeyEncryptionKeys) -> anyhow::Result<Option<DataKeys>> {
    let path = foundation.store.clone();
    // A store of an earlier schema is migrated by whoever opens it.
    let stored = tokio::task::spawn_blocking(move || hallpass_sqlite::data_keys_of(&path)).await?;
    let stored = match stored {
        Err(hallpass_sqlite::OpenError::OlderSchema { .. }) => Vec::new(),
        stored => stored?,
    };
    Ok(DataKeys::unwrap(stored, keks).await?)
}

fn held(keys: &DataKeys, keks: &KeyEncryptionKeys, entropy: &Arc<dyn Entropy>) -> Arc<dyn Sealer> {
    let sealer = DataKeySealer::locked(Arc::clone(entropy));
    keys.hand_to(&sealer, keks);
    Arc::new(sealer)
}
