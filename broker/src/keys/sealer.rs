//! Secrets at rest: sealed under the data key of the store, which a key-encryption key wraps.
//!
//! A value that was sealed names its key. The newest data key seals; those before it open, and so do local
//! key-encryption keys: before there were data keys, values were sealed under them directly.
//!
//! The place (table, row, column) is authenticated: a value that is copied into another row does not open.

use std::sync::Arc;

use arc_swap::ArcSwap;
use hallpass_core::entropy::Entropy;
use hallpass_core::port::{DataKeyId, Place, SealError, Sealer};
use hallpass_core::secret::SecretBytes;
use ring::hmac;

use super::secret_key::{Kind, SecretKey, named};

const FINGERPRINT_CONTEXT: &[u8] = b"hallpass credential fingerprint v1";

/// Seals under a data key, once it has one: the store that keeps the data key is opened before.
pub struct DataKeySealer {
    held: ArcSwap<Held>,
    entropy: Arc<dyn Entropy>,
}

/// The keys: the first seals, all of them open.
#[derive(Default)]
struct Held {
    keys: Vec<Arc<SecretKey>>,
    fingerprint_key: Option<hmac::Key>,
}

impl DataKeySealer {
    /// A sealer that has no key yet, and neither seals nor opens.
    #[must_use]
    pub fn locked(entropy: Arc<dyn Entropy>) -> Self {
        Self { held: ArcSwap::default(), entropy }
    }

    /// Seals under the first of these keys from now on, and opens under any of them.
    pub(super) fn hold(&self, keys: Vec<Arc<SecretKey>>) {
        let fingerprint_key = keys.first().and_then(|key| key.digest_key(FINGERPRINT_CONTEXT));
        self.held.store(Arc::new(Held { keys, fingerprint_key }));
    }

    /// Whether this is the data key that seals now.
    pub(super) fn seals_under(&self, id: DataKeyId) -> bool {
        self.held.load().keys.first().is_some_and(|key| key.data_key_id() == id)
    }
}

impl std::fmt::Debug for DataKeySealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataKeySealer").field("keys", &self.held.load().keys).finish_non_exhaustive()
    }
}

impl Sealer for DataKeySealer {
    fn seal(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let held = self.held.load();
        let key = held.keys.first().ok_or(SealError::Failed)?;
        let sealed = key.seal(Kind::Value, &associated_data(place), plain, self.entropy.as_ref());
        sealed.ok_or(SealError::Failed)
    }

    fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<SecretBytes, SealError> {
        let (held, id) = (self.held.load(), named(sealed));
        let key = held.keys.iter().find(|key| Some(key.id()) == id);
        key.and_then(|key| key.open(Kind::Value, &associated_data(place), sealed))
            .ok_or_else(|| SealError::DoesNotOpen { table: place.table.to_owned(), column: place.column.to_owned() })
    }

    fn is_current(&self, sealed: &[u8]) -> bool {
        self.held.load().keys.first().is_some_and(|current| named(sealed) == Some(current.id()))
    }

    fn fingerprint(&self, input: &[u8]) -> Option<String> {
        let held = self.held.load();
        held.fingerprint_key.as_ref().map(|key| hex(hmac::sign(key, input).as_ref()))
    }
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

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).map_or('0', |digit| char::from(*digit));
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

#[cfg(test)]
mod tests {
    use hallpass_core::testing::SeededEntropy;
    use proptest::prelude::*;

    use super::*;
    use crate::keys::secret_key::HEADER_LEN;

    const PLACE: Place<'_> = Place { table: "grants", row: "g1", column: "handle" };

    /// A sealer whose active key and old keys come from these seeds.
    fn sealer(active: u8, old: &[u8]) -> DataKeySealer {
        let sealer = DataKeySealer::locked(Arc::new(SeededEntropy::new(u64::from(active))));
        let key = |seed: &u8| Arc::new(SecretKey::generate(&SeededEntropy::new(u64::from(*seed))).unwrap());
        sealer.hold(std::iter::once(&active).chain(old).map(key).collect());
        sealer
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

    // CASE CRY-006
    #[test]
    fn equal_secrets_do_not_look_equal() {
        let sealer = sealer(1, &[]);
        assert_ne!(sealer.seal(PLACE, b"a secret").unwrap(), sealer.seal(PLACE, b"a secret").unwrap());
    }

    // CASE CRY-006
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
    fn a_fingerprint_is_keyed_and_stable() {
        let first = sealer(1, &[]);
        let fingerprint = first.fingerprint(b"token").unwrap();
        assert_eq!(fingerprint.len(), 64);
        assert!(fingerprint.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
        assert_eq!(Some(&fingerprint), sealer(1, &[2]).fingerprint(b"token").as_ref());
        assert_ne!(Some(&fingerprint), first.fingerprint(b"other").as_ref());
        assert_ne!(Some(&fingerprint), sealer(2, &[1]).fingerprint(b"token").as_ref());
    }

    #[test]
    fn what_is_sealed_tells_whether_the_present_key_sealed_it() {
        let (first, second) = (sealer(1, &[]), sealer(2, &[1]));
        let (old, new) = (first.seal(PLACE, b"a secret").unwrap(), second.seal(PLACE, b"a secret").unwrap());
        assert!(first.is_current(&old) && second.is_current(&new));
        assert!(!second.is_current(&old) && !second.is_current(b"") && !second.is_current(&new[1..]));
    }

    #[test]
    fn without_a_key_nothing_is_sealed_or_opened() {
        let sealed = sealer(1, &[]).seal(PLACE, b"a secret").unwrap();
        let locked = DataKeySealer::locked(Arc::new(SeededEntropy::new(1)));
        assert_eq!(locked.seal(PLACE, b"a secret"), Err(SealError::Failed));
        assert!(locked.open(PLACE, &sealed).is_err() && !locked.is_current(&sealed));
        assert_eq!(locked.fingerprint(b"token"), None);
    }

    #[test]
    fn a_sealer_prints_no_key() {
        let printed = format!("{:?}", sealer(1, &[2]));
        assert_eq!(printed, r#"DataKeySealer { keys: [[REDACTED], [REDACTED]], .. }"#);
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
