//! The store and the keys, opened: what commands need that change keys, and what a broker is built on.

use std::sync::Arc;

use hallpass_core::audit::CheckpointSigner;
use hallpass_core::entropy::{Entropy, fresh_id};
use hallpass_core::id::LogId;
use hallpass_core::port::{Anchor, AuditKeys, AuditLog as _, KeyRecord, Sealer, Signer, Store};
use hallpass_core::service::Evidence;
use hallpass_core::service::distrust::Distrust;
use hallpass_core::time::{Clock, Timestamp};
use hallpass_sqlite::SqliteStore;

use super::Foundation;
use crate::audit::CheckpointFile;
use crate::backend::x509::root_certificate;
use crate::keys::{CertificationFailed, KekSealer, KeyEncryptionKeys, KeyKeeper, KeyRing, SystemEntropy};
use crate::runtime::clock::SystemClock;

/// The store and the keys.
pub struct Strongroom {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) sealer: Arc<dyn Sealer>,
    pub(super) store: Arc<SqliteStore>,
    pub(super) keys: Arc<KeyRing>,
    pub(super) evidence: Evidence,
    /// Who changes the signing keys.
    pub keeper: Arc<KeyKeeper>,
}

impl std::fmt::Debug for Strongroom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Strongroom").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Strongroom {
    /// Opens the store and the keys; makes those that are missing.
    ///
    /// # Errors
    /// When another process has the store, a key does not open, or the audit log is not the one that was signed.
    pub async fn open(foundation: &Foundation) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::new());
        let sealer = sealer(foundation, &entropy)?;
        let fresh_log = fresh_id(clock.as_ref(), entropy.as_ref())?;
        let store = Arc::new(SqliteStore::open(&foundation.store, Arc::clone(&sealer), fresh_log)?);
        let of_keys = Arc::clone(&clock);
        let keys = KeyRing::open(store.as_ref(), sealer.as_ref(), of_keys, entropy.as_ref(), &certify).await?;
        let keys = Arc::new(keys);
        let evidence = evidence(foundation, &keys, store.log_id())?;
        evidence.confirm(store.as_ref()).await?;
        let keeper = KeyKeeper::new(
            Arc::clone(&keys),
            Arc::clone(&store) as Arc<dyn KeyRecord>,
            Arc::clone(&sealer),
            Arc::clone(&clock),
            Arc::clone(&entropy),
            Box::new(certify),
            foundation.announce_keys,
            Arc::new(Distrust {
                store: Arc::clone(&store) as Arc<dyn Store>,
                clock: Arc::clone(&clock),
                entropy: Arc::clone(&entropy),
            }),
        );
        Ok(Self { clock, entropy, sealer, store, keys, evidence, keeper: Arc::new(keeper) })
    }
}

fn certify(signer: &Arc<dyn Signer>, now: Timestamp) -> Result<String, CertificationFailed> {
    root_certificate(signer, now).map_err(|error| CertificationFailed(error.to_string()))
}

/// What the audit log is proved with.
fn evidence(foundation: &Foundation, keys: &Arc<KeyRing>, log: LogId) -> anyhow::Result<Evidence> {
    let usual = || CheckpointSigner::usual_origin(&foundation.public_url, log);
    let origin = foundation.audit.origin.clone().unwrap_or_else(usual);
    let anchor = foundation.audit.checkpoint_file.clone().map(CheckpointFile::new);
    Ok(Evidence {
        checkpoints: CheckpointSigner::by(&origin, Arc::clone(keys) as Arc<dyn AuditKeys>)?,
        anchor: anchor.map(|file| Arc::new(file) as Arc<dyn Anchor>),
        // Only a broker that runs takes its log anywhere.
        exports: Vec::new(),
    })
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
