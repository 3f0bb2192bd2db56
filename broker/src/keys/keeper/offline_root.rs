//! Keys of the authority that an offline root certifies: asked for here, signed there, taken in here.

use std::sync::Arc;

use hallpass_core::audit::{Actor, AuditAction};
use hallpass_core::port::{KeyChange, KeyPurpose, SignatureAlgorithm, Signer, StoredKey};
use hallpass_core::time::{Timestamp, Ttl};
use serde::{Deserialize, Serialize};

use super::{KeyChangeError, KeyKeeper, KeyView, count, make_room};
use crate::keys::keyring::{CertificationFailed, Certify, entry_about, unseal};
use crate::keys::life::{self, Phase};

/// Longest list of certificates, in bytes of PEM.
const MAX_LEN: usize = 64 * 1024;

/// What is known of X.509: the keys themselves know nothing of it.
pub struct Certification {
    /// Makes the self-signed certificate of a new key.
    pub own_root: Box<Certify>,
    /// Makes the request (PKCS #10, PEM) to have a key certified.
    pub request: Box<MakeRequest>,
    /// Judges what somebody else's root certified.
    pub judge: Box<Judge>,
}

/// Makes the request to have a key certified.
pub type MakeRequest = dyn Fn(&Arc<dyn Signer>) -> Result<String, CertificationFailed> + Send + Sync;

/// Judges certificates, PEM, by the key and at the time that they are to be used with: the certificates alone, where an
/// authority with this key can use them; none, where they are of another key.
pub type Judge = dyn Fn(&Arc<dyn Signer>, &str, Timestamp) -> Result<Option<String>, CertificationFailed> + Send + Sync;

/// A request to have a key of the authority certified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRequest {
    /// The key's `kid`.
    pub key_id: String,
    /// PKCS #10, PEM.
    pub request: String,
}

impl KeyKeeper {
    /// The request for the authority's key `key_id`, or for the next one, which is made where there is none that waits. It
    /// signs nothing before its certificate comes.
    ///
    /// # Errors
    /// [`KeyChangeError`]; then nothing has changed.
    pub async fn request_certificate(
        &self,
        key_id: Option<&str>,
        actor: Actor,
    ) -> Result<CertificateRequest, KeyChangeError> {
        let _changing = self.changing.lock().await;
        let stored = self.stored().await?;
        let known = match key_id {
            Some(key_id) => {
                let unknown = || KeyChangeError::Unknown { key_id: key_id.chars().take(64).collect() };
                let key = stored.iter().find(|key| key.key_id == key_id).ok_or_else(unknown)?;
                if key.purpose != KeyPurpose::Ca.as_str() || key.distrusted_at.is_some() {
                    return Err(KeyChangeError::NoAuthority);
                }
                Some(key.clone())
            }
            None => authorities(&stored).find(|key| life::is_requested(key)).cloned(),
        };
        let key = match known {
            Some(key) => key,
            None => self.make_requested(&stored, actor).await?,
        };
        let signer: Arc<dyn Signer> = unseal(&key, self.sealer.as_ref())?;
        let request = (self.certification.request)(&signer).map_err(super::KeyRingError::from)?;
        Ok(CertificateRequest { key_id: key.key_id, request })
    }

    async fn make_requested(&self, stored: &[StoredKey], actor: Actor) -> Result<StoredKey, KeyChangeError> {
        let now = self.clock.now();
        super::bounded(stored, KeyPurpose::Ca, SignatureAlgorithm::Es256, now)?;
        let key = self.make(KeyPurpose::Ca, SignatureAlgorithm::Es256, Timestamp::MAX)?;
        let entries = vec![entry_about(&key, now, actor, AuditAction::KeyRequest)];
        self.store.change_keys(KeyChange { put: vec![key.clone()], entries, ..KeyChange::default() }).await?;
        count("request", &key.purpose);
        Ok(key)
    }

    /// Takes in what an offline root certified: the certificate of a key of the authority, and those above it up to the
    /// root, PEM. A key that waited for it signs after a while. One that signs already has a new certificate at once.
    ///
    /// # Errors
    /// [`KeyChangeError`]; then nothing has changed.
    pub async fn certify(
        &self,
        certificates: &str,
        activate_after: Option<Ttl>,
        actor: Actor,
    ) -> Result<KeyView, KeyChangeError> {
        let _changing = self.changing.lock().await;
        if certificates.len() > MAX_LEN {
            return Err(KeyChangeError::Certificates(
                "they are longer than a list of certificates would be".to_owned(),
            ));
        }
        let (stored, now) = (self.stored().await?, self.clock.now());
        let (key, signer, certificates) = self.whose(certificates, &stored, now)?;
        let activates_at = if life::is_requested(&key) {
            make_room(&stored, KeyPurpose::Ca, SignatureAlgorithm::Es256, now)?;
            self.activation(now, activate_after.unwrap_or(self.announce))?
        } else if activate_after.is_some() {
            return Err(KeyChangeError::SignsAlready { key_id: key.key_id });
        } else {
            key.activates_at
        };
        self.judge(&signer, &certificates, activates_at.max(now))?;
        let key = StoredKey { public: certificates, activates_at, ..key };
        let entries = vec![entry_about(&key, now, actor, AuditAction::KeyCertify)];
        let key_id = key.key_id.clone();
        self.store.change_keys(KeyChange { put: vec![key], entries, ..KeyChange::default() }).await?;
        count("certify", KeyPurpose::Ca.as_str());
        self.in_effect(&[key_id]).await?.pop().ok_or(KeyChangeError::NotOurs)
    }

    /// The key that certificates are of, with what is to be kept of them.
    fn whose(
        &self,
        certificates: &str,
        stored: &[StoredKey],
        now: Timestamp,
    ) -> Result<(StoredKey, Arc<dyn Signer>, String), KeyChangeError> {
        for key in authorities(stored).filter(|key| !matches!(Phase::of(key, stored, now), Phase::Retired { .. })) {
            let signer: Arc<dyn Signer> = unseal(key, self.sealer.as_ref())?;
            if let Some(certificates) = self.judge(&signer, certificates, now)? {
                return Ok((key.clone(), signer, certificates));
            }
        }
        Err(KeyChangeError::NotOurs)
    }

    fn judge(
        &self,
        signer: &Arc<dyn Signer>,
        certificates: &str,
        at: Timestamp,
    ) -> Result<Option<String>, KeyChangeError> {
        let judged = (self.certification.judge)(signer, certificates, at);
        judged.map_err(|CertificationFailed(why)| KeyChangeError::Certificates(why))
    }
}

/// The authority's keys that are not distrusted.
fn authorities(stored: &[StoredKey]) -> impl Iterator<Item = &StoredKey> {
    let es256 = SignatureAlgorithm::Es256.as_str();
    let of_kind = move |key: &&StoredKey| life::is_of_kind(key, KeyPurpose::Ca.as_str(), es256);
    stored.iter().filter(of_kind).filter(|key| key.distrusted_at.is_none())
}
