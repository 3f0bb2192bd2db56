//! Keys kept in memory, for the tests of what keeps and changes them.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hallpass_core::audit::AuditEntry;
use hallpass_core::port::{KeyChange, KeyRecord, Sealer, StoreError, StoredKey};
use hallpass_core::testing::{MockClock, SeededEntropy, TestSealer};
use hallpass_core::time::{Clock, Timestamp};
use rustls_pki_types::pem::PemObject as _;

use super::keyring::{Certify, KeyRing, KeyRingError};

/// What a store of keys holds.
#[derive(Default)]
pub(super) struct MemoryKeys {
    pub(super) keys: Mutex<Vec<StoredKey>>,
    pub(super) entries: Mutex<Vec<AuditEntry>>,
    pub(super) epoch: Mutex<u64>,
    /// Fails the changes to come.
    pub(super) broken: Mutex<bool>,
    /// Makes the changes to come, and answers that it did not.
    pub(super) answers_lost: Mutex<bool>,
    /// Where a change fails, nothing can be read either.
    pub(super) broken_and_unreadable: Mutex<bool>,
    /// Cannot be read.
    pub(super) unreadable: Mutex<bool>,
}

#[async_trait]
impl KeyRecord for MemoryKeys {
    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        if *self.unreadable.lock().unwrap() {
            return Err(StoreError::Unavailable("the test says so".to_owned()));
        }
        Ok(self.keys.lock().unwrap().clone())
    }

    async fn change_keys(&self, change: KeyChange) -> Result<(), StoreError> {
        if *self.broken.lock().unwrap() {
            *self.unreadable.lock().unwrap() |= *self.broken_and_unreadable.lock().unwrap();
            return Err(StoreError::Unavailable("the test says so".to_owned()));
        }
        let mut keys = self.keys.lock().unwrap();
        for mut put in change.put {
            if let Some(kept) = keys.iter().find(|key| key.id == put.id)
                && !put.sealed_private_key.is_empty()
            {
                put.sealed_private_key.clone_from(&kept.sealed_private_key);
            }
            keys.retain(|key| key.id != put.id);
            keys.push(put);
        }
        keys.retain(|key| !change.remove.contains(&key.id));
        keys.sort_by_key(|key| (key.created_at, key.id));
        self.entries.lock().unwrap().extend(change.entries);
        *self.epoch.lock().unwrap() += u64::from(change.moves_epoch);
        if *self.answers_lost.lock().unwrap() {
            // Whoever lost the answer cannot ask either.
            *self.unreadable.lock().unwrap() = true;
            return Err(StoreError::Unavailable("the answer was lost".to_owned()));
        }
        Ok(())
    }
}

impl MemoryKeys {
    /// From the next change on nothing can be read, also where it was not made.
    pub(super) fn unreadable_after_a_change(&self, made: bool) {
        *self.broken_and_unreadable.lock().unwrap() = !made;
    }

    /// Everything works again.
    pub(super) fn mended(&self) {
        for fault in [&self.broken, &self.answers_lost, &self.unreadable, &self.broken_and_unreadable] {
            *fault.lock().unwrap() = false;
        }
    }

    /// What the entries since the last call tell of.
    pub(super) fn told(&self) -> Vec<AuditEntry> {
        std::mem::take(&mut *self.entries.lock().unwrap())
    }
}

/// Says whose certificate it would be.
pub(super) fn certify(
    signer: &Arc<dyn hallpass_core::port::Signer>,
    _: Timestamp,
) -> Result<String, super::CertificationFailed> {
    Ok(format!("certificate of {}", signer.key_id()))
}

/// The same, and takes what says that it is of the key for its certificate.
pub(super) fn certification() -> super::Certification {
    super::Certification {
        own_root: Box::new(certify),
        request: Box::new(|signer| Ok(format!("request of {}", signer.key_id()))),
        judge: Box::new(|signer, text, at| match text.split_once(" until ") {
            Some((key_id, _)) if key_id != signer.key_id() => Ok(None),
            Some((_, until)) if at.as_secs().to_string().as_str() < until => Ok(Some(text.to_owned())),
            _ => Err(super::CertificationFailed("the test says so".to_owned())),
        }),
    }
}

pub(super) fn sealer() -> Arc<dyn Sealer> {
    Arc::new(TestSealer::new(1))
}

pub(super) async fn open(store: &MemoryKeys, clock: &Arc<MockClock>) -> Result<KeyRing, KeyRingError> {
    let certify: &Certify = &certify;
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    KeyRing::open(store, sealer().as_ref(), clock, &SeededEntropy::new(1), certify).await
}

/// A fresh RSA key of so many bits, PKCS #8 in DER.
pub(super) fn rsa(bits: u32) -> Vec<u8> {
    let mut command = std::process::Command::new("openssl");
    command.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", &format!("rsa_keygen_bits:{bits}")]);
    let output = command.output().expect("openssl starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from_pem_slice(&output.stdout).unwrap();
    key.secret_pkcs8_der().to_vec()
}
