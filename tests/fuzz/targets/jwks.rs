//! Key sets: never panics, bounded, and no key is both refused as published with its private half and used.
#![no_main]

use hallpass_broker::identity::jwks::{KeySet, MAX_KEYS};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(set) = KeySet::parse(data) else { return };
    assert!(set.keys().len() + set.refused().len() <= MAX_KEYS);
    for key in set.keys() {
        assert!(!key.thumbprint().is_empty());
    }
    let again = KeySet::parse(data).expect("the same document is read again");
    assert!(set.keys().eq(again.keys()), "two readings of one key set");
});
