use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::{digest, hmac};

use crate::port::{Place, SealError, Sealer};
use crate::secret::SecretBytes;

/// Seals under a key that everybody knows, bound to the place as the real one is. The nonce is a digest of key, place and
/// content, so that no generator is needed and the same value seals the same way. Never outside tests.
#[derive(Debug)]
pub struct TestSealer {
    key: [u8; 32],
    /// The key before it, which still opens.
    earlier: Option<[u8; 32]>,
}

impl TestSealer {
    /// A sealer under the `n`-th key.
    #[must_use]
    pub fn new(n: u8) -> Self {
        Self { key: [n; 32], earlier: None }
    }

    /// A sealer under the `n`-th key that opens what the `earlier`-th sealed.
    #[must_use]
    pub fn after(earlier: u8, n: u8) -> Self {
        Self { key: [n; 32], earlier: Some([earlier; 32]) }
    }
}

impl Sealer for TestSealer {
    fn seal(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.key);
        context.update(&associated(place));
        context.update(plain);
        let nonce: [u8; NONCE_LEN] = context.finish().as_ref()[..NONCE_LEN].try_into().unwrap();
        let mut sealed = plain.to_vec();
        let aad = Aad::from(associated(place));
        let tag = aead(&self.key).seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed);
        sealed.extend_from_slice(tag.map_err(|_| SealError::Failed)?.as_ref());
        Ok([&self.key[..1], &nonce, &sealed].concat())
    }

    fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<SecretBytes, SealError> {
        let fails = || SealError::DoesNotOpen { table: place.table.to_owned(), column: place.column.to_owned() };
        let (named, sealed) = sealed.split_first().ok_or_else(fails)?;
        let keys = std::iter::once(&self.key).chain(&self.earlier);
        let key = keys.into_iter().find(|key| key.first() == Some(named)).ok_or_else(fails)?;
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or_else(fails)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| fails())?;
        let mut buffer = sealed.to_vec();
        let plain = aead(key).open_in_place(nonce, Aad::from(associated(place)), &mut buffer).map_err(|_| fails())?;
        Ok(SecretBytes::new(plain.to_vec()))
    }

    fn is_current(&self, sealed: &[u8]) -> bool {
        sealed.first() == self.key.first()
    }

    fn fingerprint(&self, input: &[u8]) -> Option<String> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.key);
        Some(hmac::sign(&key, input).as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

fn aead(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap())
}

/// The place, with lengths, so that no two places read the same.
fn associated(place: Place<'_>) -> Vec<u8> {
    let part = |text: &str| [&text.len().to_be_bytes(), text.as_bytes()].concat();
    [part(place.table), part(place.row), part(place.column)].concat()
}
