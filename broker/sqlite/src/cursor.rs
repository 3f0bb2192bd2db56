//! Cursors: where a page ended, and of which list. Opaque to callers; one from another list is refused rather than
//! understood as something it does not mean.

use std::fmt::{Debug, Write};
use std::hash::{DefaultHasher, Hasher};

use hallpass_core::port::StoreError;

/// A cursor for the list that `query` describes.
pub(crate) fn encode<const N: usize>(query: &impl Debug, place: [i64; N]) -> String {
    let mut cursor = String::with_capacity(N.saturating_add(1).saturating_mul(16));
    let words = std::iter::once(digest(query)).chain(place.map(i64::cast_unsigned));
    for word in words {
        // Writing to a String does not fail.
        let _ = write!(cursor, "{word:016x}");
    }
    cursor
}

/// The place in a cursor that [`encode`] made for the same list.
pub(crate) fn decode<const N: usize>(query: &impl Debug, cursor: &str) -> Result<[i64; N], StoreError> {
    let mut place = [0_i64; N];
    let words = cursor.as_bytes().chunks(16).skip(1);
    for (at, word) in place.iter_mut().zip(words) {
        let word = std::str::from_utf8(word).ok().and_then(|word| u64::from_str_radix(word, 16).ok());
        *at = word.ok_or(StoreError::InvalidCursor)?.cast_signed();
    }
    // One spelling for each: length, case and list are checked at once.
    if encode(query, place) == cursor { Ok(place) } else { Err(StoreError::InvalidCursor) }
}

fn digest(query: &impl Debug) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(format!("{query:?}").as_bytes());
    hasher.finish()
}
