//! Status lists: whether a token was ended before it expired, for verifiers that do not ask about each
//! (draft-ietf-oauth-status-list).
//!
//! Each token names a list and its place in it (§6.1). A list is a bit for each place, 1 for *invalid* (§4.1, §7.1),
//! compressed and signed as a token of its own (§5.1). Lists are of one size, so that neither a list nor what a revocation
//! makes anew grows with the number of grants; a list says nothing of whose tokens it is about.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_core::error::{Reason, ServiceError};
use hallpass_core::port::{SignatureAlgorithm, Signer, Store, TokenSigners};
use hallpass_core::time::{Clock, Timestamp, Ttl};
use serde::Serialize;

use super::sign;
use crate::backend::published::{Published, Shelf, digest_of};

/// Places in a list: 16 KiB before compression, a few hundred bytes after it as long as few tokens are ended early.
const LIST_LEN: u64 = 1 << 17;

/// Bytes of a list before compression: a bit for each place.
const LIST_BYTES: usize = 1 << 14;

/// How long a verifier may use a list that it cannot get anew. Whoever stands between can show it an old one for as long;
/// shorter, and a restart of the broker would stop every verifier.
const LIST_LIFE: Ttl = Ttl::from_mins(5);

/// How long a verifier should use a list before it asks again (`ttl`, §5.1). With what the broker and caches between add,
/// an end is known everywhere within five seconds.
const KEEP: Ttl = Ttl::from_secs(2);

/// `typ` of a list (§5.1).
const TOKEN_TYPE: &str = "statuslist+jwt";

/// How lists are signed: by the algorithm that every verifier of tokens is told to know.
const ALGORITHM: SignatureAlgorithm = SignatureAlgorithm::Es256;

/// Where a token is listed: the claim `status_list` of its `status`.
#[derive(Serialize)]
pub(super) struct Listed {
    idx: u64,
    uri: String,
}

impl Listed {
    /// The place of the grant with this status index.
    pub(super) fn at(status_index: u64, public_url: &str) -> Self {
        let (list, idx) = (status_index / LIST_LEN, status_index % LIST_LEN);
        Self { idx, uri: uri(public_url, list) }
    }
}

fn uri(public_url: &str, list: u64) -> String {
    format!("{public_url}/status-lists/{list}")
}

/// Makes the lists.
pub struct StatusLists {
    store: Arc<dyn Store>,
    keys: Arc<dyn TokenSigners>,
    public_url: String,
    /// By number, and by the key that signs: what a key signed that is distrusted since is not answered again.
    shelf: Shelf<(u64, String)>,
}

impl StatusLists {
    /// Lists of the grants in `store`, signed by one of `keys`, under `public_url`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, keys: Arc<dyn TokenSigners>, public_url: &str, clock: Arc<dyn Clock>) -> Self {
        Self { store, keys, public_url: public_url.to_owned(), shelf: Shelf::new(clock) }
    }

    /// The list `number`, a signed token of type `statuslist+jwt`; `None` when no token can name it.
    ///
    /// # Errors
    /// [`ServiceError::Unavailable`] when the store or the signing key does not answer: an old list would say that a
    /// revoked token is good.
    pub async fn list(&self, number: u64) -> Result<Option<Published>, ServiceError> {
        let Some(first) = number.checked_mul(LIST_LEN) else { return Ok(None) };
        let Some(end) = first.checked_add(LIST_LEN) else { return Ok(None) };
        let no_key = || {
            let detail = "there is no key to sign the list with".to_owned();
            ServiceError::unavailable(Reason::SigningUnavailable, detail)
        };
        let signer = self.keys.signer(ALGORITHM).ok_or_else(no_key)?;
        let look = async {
            let ended = self.store.ended_early(first..end).await?;
            Ok(ended.map(|indexes| bits(indexes.into_iter().filter_map(|index| index.checked_sub(first)))))
        };
        let digest = |bits: &Vec<u8>| digest_of([bits.as_slice()]);
        let make = |bits: Vec<u8>, now: Timestamp| self.signed(number, &bits, &*signer, now).ok_or_else(no_key);
        self.shelf.get((number, signer.key_id().to_owned()), look, digest, make).await
    }

    fn signed(&self, number: u64, bits: &[u8], signer: &dyn Signer, now: Timestamp) -> Option<Vec<u8>> {
        // The draft asks for the best compression (§4.1); for 16 KiB it costs a millisecond.
        const BEST: u8 = 9;
        let claims = Claims {
            iss: &self.public_url,
            sub: uri(&self.public_url, number),
            iat: now.as_secs(),
            exp: now.plus(LIST_LIFE).as_secs(),
            ttl: KEEP.as_secs(),
            status_list: StatusList {
                bits: 1,
                lst: URL_SAFE_NO_PAD.encode(miniz_oxide::deflate::compress_to_vec_zlib(bits, BEST)),
            },
        };
        sign(signer, TOKEN_TYPE, &claims).map(|token| token.expose().as_bytes().to_vec())
    }
}

impl std::fmt::Debug for StatusLists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatusLists").field("public_url", &self.public_url).finish_non_exhaustive()
    }
}

/// The claims of a list (§5.1).
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: String,
    iat: i64,
    exp: i64,
    ttl: u64,
    status_list: StatusList,
}

#[derive(Serialize)]
struct StatusList {
    bits: u8,
    lst: String,
}

/// The bits of a list, the place 0 in the lowest bit of the first byte (§4.1).
fn bits(invalid: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut bits = vec![0_u8; LIST_BYTES];
    for place in invalid {
        let byte = usize::try_from(place / 8).ok().and_then(|at| bits.get_mut(at));
        if let Some(byte) = byte {
            *byte |= 1 << (place % 8);
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the draft's §4.1, from its text.
    #[test]
    fn the_bits_are_those_of_the_drafts_example() {
        let invalid = [0, 3, 4, 5, 7, 8, 9, 13, 15];
        let bits = bits(invalid);
        assert_eq!(bits.get(..2), Some([0xb9, 0xa3].as_slice()));
        assert_eq!(bits.iter().skip(2).copied().max(), Some(0));
        assert_eq!(u64::try_from(bits.len()).unwrap() * 8, LIST_LEN);
    }

    #[test]
    fn every_status_index_has_a_place_of_its_own_in_a_list_of_bounded_size() {
        let place = |index| {
            let Listed { idx, uri } = Listed::at(index, "https://broker.test");
            (uri, idx)
        };
        assert_eq!(place(0), ("https://broker.test/status-lists/0".to_owned(), 0));
        assert_eq!(place(LIST_LEN - 1), ("https://broker.test/status-lists/0".to_owned(), LIST_LEN - 1));
        assert_eq!(place(LIST_LEN), ("https://broker.test/status-lists/1".to_owned(), 0));
        assert_eq!(place(10 * LIST_LEN + 7), ("https://broker.test/status-lists/10".to_owned(), 7));
    }
}
