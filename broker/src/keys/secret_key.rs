//! Keys of 256 bits, and messages sealed under one: AES-256-GCM under a key that is derived for each message.
//!
//! A sealed message is `version (1) ‖ key id (8) ‖ salt (32) ‖ ciphertext and tag`. From the key and the fresh random
//! salt, HKDF-SHA256 (RFC 5869) derives a key that seals exactly this message. AES-GCM breaks when one key meets a nonce
//! twice; here each key meets one nonce once, so neither a restored snapshot nor the number of messages can bring it about
//! (NIST SP 800-38D §8 is met with a single invocation per key).

use hallpass_core::entropy::{Entropy, EntropyUnavailable};
use hallpass_core::port::DataKeyId;
use hallpass_core::secret::SecretBytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::{digest, hkdf, hmac};
use zeroize::Zeroizing;

/// Length of a key in bytes: AES-256 and HKDF-SHA256 at full strength.
pub(super) const KEY_LEN: usize = 32;

/// Length of a key's id in bytes: enough to tell the few keys of a list apart. It is stored with each sealed value and
/// discloses nothing: the key behind the digest is 256 random bits.
const KEY_ID_LEN: usize = 8;

const VERSION: u8 = 1;

/// 256 random bits: two messages never share a salt, and with it never a key.
const SALT_LEN: usize = 32;

pub(super) const HEADER_LEN: usize = 1 + KEY_ID_LEN + SALT_LEN;

/// What a message is, so that none can be passed off as one of another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A value in the store.
    Value,
    /// A data key.
    DataKey,
}

impl Kind {
    const fn context(self) -> &'static [u8] {
        match self {
            Self::Value => b"hallpass sealed value v1",
            Self::DataKey => b"hallpass wrapped data key v1",
        }
    }
}

/// Which key: a digest of it, which discloses nothing of 256 random bits. A key of any kind has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SecretKeyId([u8; KEY_ID_LEN]);

impl std::fmt::Display for SecretKeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A key. On the heap, so that moving it leaves no copies behind; wiped when dropped.
pub(super) struct SecretKey {
    id: SecretKeyId,
    key: Box<Zeroizing<[u8; KEY_LEN]>>,
}

impl SecretKey {
    /// A fresh one.
    pub(super) fn generate(entropy: &dyn Entropy) -> Result<Self, EntropyUnavailable> {
        let mut key = Box::new(Zeroizing::new([0_u8; KEY_LEN]));
        entropy.fill(key.as_mut_slice())?;
        Ok(Self::of(key))
    }

    /// The key of these bytes; none of another length.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut key = Box::new(Zeroizing::new([0_u8; KEY_LEN]));
        (bytes.len() == KEY_LEN).then(|| {
            key.copy_from_slice(bytes);
            Self::of(key)
        })
    }

    pub(super) fn of(key: Box<Zeroizing<[u8; KEY_LEN]>>) -> Self {
        Self { id: SecretKeyId(key_id(&key)), key }
    }

    /// What its messages name it by.
    pub(super) const fn id(&self) -> SecretKeyId {
        self.id
    }

    /// What it is known by where it is a data key: the same.
    pub(super) const fn data_key_id(&self) -> DataKeyId {
        DataKeyId(self.id.0)
    }

    /// The key itself. Every use of this is a place to review.
    pub(super) fn expose(&self) -> SecretBytes {
        SecretBytes::new(self.key.to_vec())
    }

    /// Seals `plain` so that it opens with the same associated data only. None when randomness or the cipher fails.
    pub(super) fn seal(&self, kind: Kind, associated: &[u8], plain: &[u8], entropy: &dyn Entropy) -> Option<Vec<u8>> {
        let mut salt = [0_u8; SALT_LEN];
        entropy.fill(&mut salt).ok()?;
        let key = self.message_key(kind, &salt)?;
        let mut sealed = Vec::with_capacity(HEADER_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.id.0);
        sealed.extend_from_slice(&salt);
        sealed.extend_from_slice(plain);
        let message = sealed.get_mut(HEADER_LEN..)?;
        let tag = key.seal_in_place_separate_tag(only_nonce(), Aad::from(associated), message).ok()?;
        sealed.extend_from_slice(tag.as_ref());
        Some(sealed)
    }

    /// Opens what this key sealed. None when another did, it is of another kind or place, or was changed.
    pub(super) fn open(&self, kind: Kind, associated: &[u8], sealed: &[u8]) -> Option<SecretBytes> {
        let (named, rest) = split(sealed)?;
        let (salt, message) = rest.split_at_checked(SALT_LEN).filter(|_| named == self.id)?;
        let key = self.message_key(kind, salt)?;
        let mut buffer = Zeroizing::new(message.to_vec());
        let plain = key.open_in_place(only_nonce(), Aad::from(associated), &mut buffer).ok()?.len();
        // `open_in_place` leaves the plain text at the front; what follows is the old tag.
        buffer.truncate(plain);
        Some(SecretBytes::new(std::mem::take(&mut *buffer)))
    }

    /// A key for keyed digests that follows from this one.
    pub(super) fn digest_key(&self, context: &'static [u8]) -> Option<hmac::Key> {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(self.key.as_slice());
        let context = [context];
        prk.expand(&context, hmac::HMAC_SHA256).ok().map(hmac::Key::from)
    }

    /// The key of one message. The salt is of that message alone, so the key is used once.
    fn message_key(&self, kind: Kind, salt: &[u8]) -> Option<LessSafeKey> {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(self.key.as_slice());
        let context = [kind.context()];
        let okm = prk.expand(&context, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(okm)))
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// The key that a sealed message names.
pub(super) fn named(sealed: &[u8]) -> Option<SecretKeyId> {
    split(sealed).map(|(named, _)| named)
}

fn split(sealed: &[u8]) -> Option<(SecretKeyId, &[u8])> {
    let (version, rest) = sealed.split_first()?;
    let (id, rest) = rest.split_first_chunk::<KEY_ID_LEN>()?;
    (*version == VERSION).then_some((SecretKeyId(*id), rest))
}

/// The first bytes of a labelled SHA-256 of the key. The label is older than data keys, and is theirs too: stored values
/// name their key by it.
fn key_id(key: &[u8; KEY_LEN]) -> [u8; KEY_ID_LEN] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"hallpass key-encryption key id v1");
    context.update(key);
    let digest = context.finish();
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

/// Zero, always: the key is fresh for each message. Deriving the key from anything but a fresh salt would make this a
/// nonce reuse, which discloses plain texts and lets anybody forge.
fn only_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; ring::aead::NONCE_LEN])
}
