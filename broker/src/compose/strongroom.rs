//! The store and the keys, opened: what commands need that change keys, and what a broker is built on.

use std::sync::Arc;

use hallpass_core::audit::{Actor, CheckpointSigner};
use hallpass_core::entropy::{Entropy, fresh_id};
use hallpass_core::id::LogId;
use hallpass_core::port::{Anchor, AuditKeys, AuditLog as _, DataKeyRecord, KeyRecord, Sealer, Signer, Store};
use hallpass_core::service::distrust::Distrust;
use hallpass_core::service::{Accepted, Accepting, Evidence, Live, announce};
use hallpass_core::time::{Clock, Timestamp};
use hallpass_core::work::checkpoint::Attestation;
use hallpass_sqlite::SqliteStore;

use super::{Foundation, keks};
use crate::audit::CheckpointFile;
use crate::backend::x509::{AuthorityError, certificate_request, certified_by_another, root_certificate};
use crate::keys::{
    Certification, CertificationFailed, DataKeyKeeper, DataKeySealer, KeyEncryptionKeys, KeyKeeper, KeyRing, Rewrapped,
    SystemEntropy,
};
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
    pub(super) data_keys: Arc<DataKeyKeeper>,
    keks: KeyEncryptionKeys,
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
        let room = Self::unlock(foundation).await?;
        room.evidence.confirm(room.store.as_ref()).await?;
        Ok(room)
    }

    /// Takes the audit log as it is where what is kept beside the store does not speak for it, and has the log tell of that
    /// and of what is made of what is lost. `live`: what becomes of what is live, where that is not left to the record.
    ///
    /// # Errors
    /// Where there is nothing to accept, and as [`Strongroom::open`].
    pub async fn accept_log(foundation: &Foundation, reason: &str, live: Option<Live>) -> anyhow::Result<Accepted> {
        let room = Self::unlock(foundation).await?;
        let fresh = fresh_id(room.clock.as_ref(), room.entropy.as_ref())?;
        let asked = Accepting { reason, live, fresh, now: room.clock.now() };
        Ok(room.evidence.accept(room.store.as_ref(), &asked).await?)
    }

    /// The store and the keys; what is in the audit log is not judged yet.
    async fn unlock(foundation: &Foundation) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::new());
        let keks = keks::keks(foundation, &entropy)?;
        let sealer = Arc::new(DataKeySealer::locked(Arc::clone(&entropy)));
        let fresh_log = fresh_id(clock.as_ref(), entropy.as_ref())?;
        let port = Arc::clone(&sealer) as Arc<dyn Sealer>;
        let store = Arc::new(SqliteStore::open(&foundation.store, port, fresh_log)?);
        let anchor = anchor(foundation);
        // Before keys are made, of which the log tells.
        if let Some(anchor) = &anchor {
            announce(anchor.as_ref(), store.as_ref()).await?;
        }
        let record = Arc::clone(&store) as Arc<dyn DataKeyRecord>;
        let changing = Arc::<tokio::sync::Mutex<()>>::default();
        let data_keys = DataKeyKeeper::new(record, Arc::clone(&sealer), Arc::clone(&clock), Arc::clone(&changing));
        data_keys.unlock(store.as_ref(), &keks, entropy.as_ref()).await?;
        let sealer = sealer as Arc<dyn Sealer>;
        let of_keys = Arc::clone(&clock);
        let keys = KeyRing::open(store.as_ref(), sealer.as_ref(), of_keys, entropy.as_ref(), &certify).await?;
        let keys = Arc::new(keys);
        let evidence = evidence(foundation, &keys, store.log_id(), anchor)?;
        fail::fail_point!("start::before-anchor");
        let keeper = KeyKeeper::new(
            Arc::clone(&keys),
            Arc::clone(&store) as Arc<dyn KeyRecord>,
            Arc::clone(&sealer),
            Arc::clone(&clock),
            Arc::clone(&entropy),
            certification(foundation),
            foundation.keys.announce,
            Arc::new(Distrust {
                store: Arc::clone(&store) as Arc<dyn Store>,
                clock: Arc::clone(&clock),
                entropy: Arc::clone(&entropy),
            }),
            Arc::new(Attestation {
                store: Arc::clone(&store) as Arc<dyn Store>,
                evidence: evidence.clone(),
                clock: Arc::clone(&clock),
            }),
            changing,
        );
        let (keeper, data_keys) = (Arc::new(keeper), Arc::new(data_keys));
        Ok(Self { clock, entropy, sealer, store, keys, evidence, keeper, data_keys, keks })
    }

    /// Wraps the data key anew, or, `fresh`, makes another one and seals everything under that.
    ///
    /// # Errors
    /// When a key cannot be used, or a value does not open; then nothing has changed.
    pub async fn rewrap(&self, fresh: bool) -> anyhow::Result<Rewrapped> {
        let entropy = fresh.then_some(self.entropy.as_ref());
        Ok(self.data_keys.rewrap(&self.keks, entropy, Actor::LocalAdministrator).await?)
    }
}

fn certify(signer: &Arc<dyn Signer>, now: Timestamp) -> Result<String, CertificationFailed> {
    root_certificate(signer, now).map_err(|error| CertificationFailed(error.to_string()))
}

fn certification(foundation: &Foundation) -> Certification {
    let public_url = foundation.public_url.clone();
    let failed = |error: AuthorityError| CertificationFailed(error.to_string());
    Certification {
        own_root: Box::new(certify),
        request: Box::new(move |signer| certificate_request(signer).map_err(failed)),
        judge: Box::new(move |signer, certificates, at| {
            match certified_by_another(signer, certificates, &public_url, at) {
                Err(AuthorityError::OtherKey) => Ok(None),
                judged => judged.map(Some).map_err(failed),
            }
        }),
    }
}

/// Where the newest checkpoint is kept beside the store.
fn anchor(foundation: &Foundation) -> Option<Arc<dyn Anchor>> {
    let file = foundation.audit.checkpoint_file.clone().map(CheckpointFile::new);
    file.map(|file| Arc::new(file) as Arc<dyn Anchor>)
}

/// What the audit log is proved with.
fn evidence(
    foundation: &Foundation,
    keys: &Arc<KeyRing>,
    log: LogId,
    anchor: Option<Arc<dyn Anchor>>,
) -> anyhow::Result<Evidence> {
    let usual = || CheckpointSigner::usual_origin(&foundation.public_url, log);
    let origin = foundation.audit.origin.clone().unwrap_or_else(usual);
    Ok(Evidence {
        checkpoints: CheckpointSigner::by(&origin, Arc::clone(keys) as Arc<dyn AuditKeys>)?,
        anchor,
        // Only a broker that runs takes its log anywhere.
        exports: Vec::new(),
        turn: Arc::default(),
    })
}
