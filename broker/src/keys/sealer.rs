//! Secrets at rest: AES-256-GCM under a key that is derived for each message.
//!
//! A sealed value is `version (1) ‖ key id (8) ‖ salt (32) ‖ ciphertext and tag`. From the key-encryption key and the
//! fresh random salt, HKDF-SHA256 (RFC 5869) derives a key that seals exactly this message. AES-GCM breaks when one
//! key meets a nonce twice; here each key meets one nonce once, so neither a restored snapshot nor the number of
//! messages can bring it about (NIST SP 800-38D §8 is met with a single invocation per key).
//!
//! The place (table, row, column) is authenticated: a value that is copied into another row does not open.

use std::sync::Arc;

use hallpass_core::entropy::Entropy;
use hallpass_core::port::{Place, SealError, Sealer};
use hallpass_core::secret::SecretBytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use super::kek::{KEY_ID_LEN, Kek, KeyEncryptionKeys};

const VERSION: u8 = 1;

/// 256 random bits: two messages never share a salt, and with it never a key.
const SALT_LEN: usize = 32;

const HEADER_LEN: usize = 1 + KEY_ID_LEN + SALT_LEN;

const SEAL_CONTEXT: &[u8] = b"hallpass sealed value v1";
const FINGERPRINT_CONTEXT: &[u8] = b"hallpass credential fingerprint v1";

/// Seals under the active key-encryption key of a list, and opens under any of them.
pub struct KekSealer {
    keys: KeyEncryptionKeys,
    entropy: Arc<dyn Entropy>,
    /// One fingerprint key per key-encryption key, the active one's first.
    fingerprint_keys: Vec<hmac::Key>,
}

impl KekSealer {
    /// A sealer over a list of keys.
    #[must_use]
    pub fn new(keys: KeyEncryptionKeys, entropy: Arc<dyn Entropy>) -> Self {
        let fingerprint_keys = keys.iter().filter_map(fingerprint_key).collect();
        Self { keys, entropy, fingerprint_keys }
    }

    /// The fingerprints that `input` could have been recorded with, under each key of the list, the active one's
    /// first: a credential that was minted before a rotation is found by its old fingerprint.
    pub fn fingerprints(&self, input: &[u8]) -> impl Iterator<Item = String> {
        self.fingerprint_keys.iter().map(move |key| hex(hmac::sign(key, input).as_ref()))
    }
}

impl std::fmt::Debug for KekSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KekSealer").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Sealer for KekSealer {
    fn seal(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let kek = self.keys.active();
        let mut salt = [0_u8; SALT_LEN];
        self.entropy.fill(&mut salt).map_err(|_| SealError::Failed)?;
        let key = message_key(kek, &salt).ok_or(SealError::Failed)?;

        let mut sealed = Vec::with_capacity(HEADER_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&kek.id);
        sealed.extend_from_slice(&salt);
        sealed.extend_from_slice(plain);
        let message = sealed.get_mut(HEADER_LEN..).ok_or(SealError::Failed)?;
        let tag = key
            .seal_in_place_separate_tag(only_nonce(), Aad::from(associated_data(place)), message)
            .map_err(|_| SealError::Failed)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<SecretBytes, SealError> {
        self.open_parts(place, sealed)
            .ok_or_else(|| SealError::DoesNotOpen { table: place.table.to_owned(), column: place.column.to_owned() })
    }

    fn fingerprint(&self, input: &[u8]) -> String {
        self.fingerprints(input).next().unwrap_or_default()
    }
}

impl KekSealer {
    fn open_parts(&self, place: Place<'_>, sealed: &[u8]) -> Option<SecretBytes> {
        let (version, rest) = sealed.split_first()?;
        if *version != VERSION {
            return None;
        }
        let (key_id, rest) = rest.split_at_checked(KEY_ID_LEN)?;
        let (salt, message) = rest.split_at_checked(SALT_LEN)?;
        let key = message_key(self.keys.by_id(key_id)?, salt)?;
        let mut buffer = Zeroizing::new(message.to_vec());
        let plain = key.open_in_place(only_nonce(), Aad::from(associated_data(place)), &mut buffer).ok()?.len();
        // `open_in_place` leaves the plain text at the front; what follows is the old tag.
        buffer.truncate(plain);
        Some(SecretBytes::new(std::mem::take(&mut *buffer)))
    }
}

/// The key of one message. The salt is of that message alone, so the key is used once.
fn message_key(kek: &Kek, salt: &[u8]) -> Option<LessSafeKey> {
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(kek.key.as_slice());
    let okm = prk.expand(&[SEAL_CONTEXT], &AES_256_GCM).ok()?;
    Some(LessSafeKey::new(UnboundKey::from(okm)))
}

/// Zero, always: the key is fresh for each message. Deriving the key from anything but a fresh salt would make this a
/// nonce reuse, which discloses plain texts and lets anybody forge.
fn only_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; ring::aead::NONCE_LEN])
}

/// Each part with its length, so that no two places have the same encoding.
fn associated_data(place: Place<'_>) -> Vec<u8> {
    let parts = [place.table, place.row, place.column];
    let mut data = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        data.extend_from_slice(&(part.len() as u64).to_be_bytes());
        data.extend_from_slice(part.as_bytes());
    }
    data
}

fn fingerprint_key(kek: &Kek) -> Option<hmac::Key> {
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(kek.key.as_slice());
    prk.expand(&[FINGERPRINT_CONTEXT], hmac::HMAC_SHA256).ok().map(hmac::Key::from)
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).map_or('0', |digit| char::from(*digit));
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};

    use base64::Engine as _;
    use hallpass_core::testing::SeededEntropy;
    use proptest::prelude::*;

    use super::*;

    const PLACE: Place<'_> = Place { table: "grants", row: "g1", column: "handle" };

    fn key_file(folder: &Path, name: &str, seed: u8) -> PathBuf {
        let path = folder.join(name);
        let key: Vec<u8> = (0..32).map(|n| seed.wrapping_mul(31).wrapping_add(n)).collect();
        std::fs::write(&path, base64::engine::general_purpose::STANDARD.encode(key)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// A sealer whose active key and old keys come from these seeds.
    fn sealer(active: u8, old: &[u8]) -> KekSealer {
        let folder = tempfile::tempdir().unwrap();
        let old: Vec<_> = old.iter().map(|seed| key_file(folder.path(), &format!("old{seed}"), *seed)).collect();
        let keys = KeyEncryptionKeys::read(&key_file(folder.path(), "active", active), &old).unwrap();
        KekSealer::new(keys, Arc::new(SeededEntropy::new(u64::from(active))))
    }

    #[test]
    fn what_is_sealed_opens_at_its_place_and_nowhere_else() {
        let sealer = sealer(1, &[]);
        let sealed = sealer.seal(PLACE, b"a secret").unwrap();
        assert_eq!(sealer.open(PLACE, &sealed).unwrap().expose(), b"a secret");
        assert!(!sealed.windows(8).any(|window| window == b"a secret"));
        for elsewhere in [
            Place { table: "signing_keys", ..PLACE },
            Place { row: "g2", ..PLACE },
            Place { column: "other", ..PLACE },
            Place { table: "grantsg", row: "1", ..PLACE },
            Place { table: "grants", row: "g1h", column: "andle" },
        ] {
            let error = sealer.open(elsewhere, &sealed).unwrap_err();
            assert!(matches!(error, SealError::DoesNotOpen { .. }), "{elsewhere:?}");
        }
    }

    #[test]
    fn any_changed_bit_and_any_cut_is_noticed() {
        let sealer = sealer(1, &[]);
        let sealed = sealer.seal(PLACE, b"a secret").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(sealer.open(PLACE, &changed).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(sealer.open(PLACE, &sealed[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn an_old_key_of_the_list_opens_and_a_key_outside_it_does_not() {
        let sealed = sealer(1, &[]).seal(PLACE, b"a secret").unwrap();
        let rotated = sealer(2, &[1]);
        assert_eq!(rotated.open(PLACE, &sealed).unwrap().expose(), b"a secret");
        assert!(sealer(2, &[]).open(PLACE, &sealed).is_err());
        let resealed = rotated.seal(PLACE, b"a secret").unwrap();
        assert!(sealer(1, &[]).open(PLACE, &resealed).is_err(), "the active key seals");
    }

    #[test]
    fn equal_secrets_do_not_look_equal() {
        let sealer = sealer(1, &[]);
        assert_ne!(sealer.seal(PLACE, b"a secret").unwrap(), sealer.seal(PLACE, b"a secret").unwrap());
    }

    #[test]
    fn nothing_is_sealed_without_randomness() {
        struct NoEntropy;
        impl Entropy for NoEntropy {
            fn fill(&self, _: &mut [u8]) -> Result<(), hallpass_core::entropy::EntropyUnavailable> {
                Err(hallpass_core::entropy::EntropyUnavailable)
            }
        }
        let mut sealer = sealer(1, &[]);
        sealer.entropy = Arc::new(NoEntropy);
        assert_eq!(sealer.seal(PLACE, b"a secret"), Err(SealError::Failed));
    }

    #[test]
    fn a_fingerprint_is_keyed_stable_and_found_again_after_rotation() {
        let (first, second) = (sealer(1, &[]), sealer(2, &[1]));
        let fingerprint = first.fingerprint(b"token");
        assert_eq!(fingerprint.len(), 64);
        assert!(fingerprint.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
        assert_eq!(fingerprint, sealer(1, &[]).fingerprint(b"token"));
        assert_ne!(fingerprint, first.fingerprint(b"other"));
        assert_ne!(fingerprint, second.fingerprint(b"token"));
        assert!(second.fingerprints(b"token").any(|candidate| candidate == fingerprint));
    }

    #[test]
    fn a_sealer_prints_no_key() {
        let printed = format!("{:?}", sealer(1, &[2]));
        assert_eq!(printed, r#"KekSealer { keys: ["[REDACTED]", "[REDACTED]"], .. }"#);
    }

    #[test]
    #[ignore = "a measurement: run it by name, in a release build"]
    #[expect(clippy::disallowed_methods, reason = "a measurement needs the machine's own time")]
    fn measure_sealing() {
        const ROUNDS: u32 = 20_000;
        let mut sealer = sealer(1, &[]);
        sealer.entropy = Arc::new(crate::keys::SystemEntropy::new());
        let sealed = sealer.seal(PLACE, &[7; 80]).unwrap();
        let start = std::time::Instant::now();
        for _ in 0..ROUNDS {
            std::hint::black_box(sealer.seal(PLACE, &[7; 80]).unwrap());
        }
        println!("sealing 80 bytes: {:?}", start.elapsed() / ROUNDS);
        let start = std::time::Instant::now();
        for _ in 0..ROUNDS {
            std::hint::black_box(sealer.open(PLACE, &sealed).unwrap());
        }
        println!("opening them: {:?}", start.elapsed() / ROUNDS);
    }

    proptest! {
        #[test]
        fn every_value_comes_back_as_it_was(plain in proptest::collection::vec(any::<u8>(), 0..2_000), row in ".{0,40}") {
            let sealer = sealer(1, &[]);
            let place = Place { table: "t", row: &row, column: "c" };
            let sealed = sealer.seal(place, &plain).unwrap();
            prop_assert_eq!(sealed.len(), HEADER_LEN + plain.len() + 16);
            let opened = sealer.open(place, &sealed).unwrap();
            prop_assert_eq!(opened.expose(), plain.as_slice());
        }
    }
}
