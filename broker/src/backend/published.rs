//! Signed lists that anybody may ask for at any rate: looked at once a second, signed when there is something new.
//!
//! A list is at most [`LOOK_EVERY`] behind the record when it leaves here. Handlers add to that what they let others keep
//! it for; together the two stay below five seconds. How often it is asked for costs neither signatures nor reads.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hallpass_core::error::ServiceError;
use hallpass_core::time::{Clock, Timestamp, Ttl};
use ring::digest;

/// For how long a list is answered without looking at the record again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// For how long a list that says nothing new keeps its signature. Longer, and verifiers that judge by its date would find
/// it old; a tenth of what any of our lists lives.
const SIGN_AGAIN_AFTER: Ttl = Ttl::from_secs(30);

/// Lists that are kept at once: enough for the live credentials of millions of grants, and a few megabytes at most.
const MOST_KEPT: usize = 128;

/// A list as it is given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its signed form.
    pub bytes: Bytes,
    /// Entity tag (RFC 9110 §8.8.3), with its quotes: the same bytes have the same.
    pub etag: String,
}

/// The lists that were asked for lately, by their place.
pub(super) struct Shelf<P> {
    clock: Arc<dyn Clock>,
    places: Mutex<HashMap<P, Arc<Place>>>,
}

/// One list. Whoever asks while it is being made waits for it.
#[derive(Default)]
struct Place(tokio::sync::Mutex<Option<Kept>>);

struct Kept {
    looked_at: Duration,
    signed_at: Timestamp,
    content: [u8; 32],
    published: Published,
}

impl<P: Clone + Eq + Hash> Shelf<P> {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, places: Mutex::default() }
    }

    /// The time that lists are dated by.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The list at `place`. `look` reads what it must say now, if there is such a list; `sign` makes it of that.
    /// `digest` tells contents apart.
    pub(super) async fn get<C>(
        &self,
        place: P,
        look: impl Future<Output = Result<Option<C>, ServiceError>>,
        digest: impl FnOnce(&C) -> [u8; 32],
        sign: impl FnOnce(C, Timestamp) -> Result<Vec<u8>, ServiceError>,
    ) -> Result<Option<Published>, ServiceError> {
        let shared = self.place(&place);
        let mut kept = shared.0.lock().await;
        let looked_at = self.clock.monotonic();
        if let Some(kept) = kept.as_ref().filter(|kept| looked_at.saturating_sub(kept.looked_at) < LOOK_EVERY) {
            return Ok(Some(kept.published.clone()));
        }
        let Some(found) = look.await? else {
            // Nothing is kept of what is not there: anybody may ask for anything.
            self.places.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
            return Ok(None);
        };
        let (content, now) = (digest(&found), self.clock.now());
        let stands = |kept: &&mut Kept| kept.content == content && now.since(kept.signed_at) < SIGN_AGAIN_AFTER;
        if let Some(kept) = kept.as_mut().filter(stands) {
            kept.looked_at = looked_at;
            return Ok(Some(kept.published.clone()));
        }
        let bytes = Bytes::from(sign(found, now)?);
        let tag = digest::digest(&digest::SHA256, &bytes);
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(tag.as_ref().get(..16).unwrap_or_default()));
        let published = Published { bytes, etag };
        *kept = Some(Kept { looked_at, signed_at: now, content, published: published.clone() });
        Ok(Some(published))
    }

    fn place(&self, place: &P) -> Arc<Place> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = places.get(place) {
            return Arc::clone(known);
        }
        if places.len() >= MOST_KEPT {
            // Which one goes hardly matters: it is made again when it is asked for.
            let goes = places.iter().find(|(_, kept)| Arc::strong_count(kept) == 1).map(|(place, _)| place.clone());
            if let Some(goes) = goes {
                places.remove(&goes);
            }
        }
        let fresh = Arc::new(Place::default());
        // All are being made at this moment: one more would be too many, so it is made and not kept.
        if places.len() < MOST_KEPT {
            places.insert(place.clone(), Arc::clone(&fresh));
        }
        fresh
    }
}

/// Tells contents apart by their parts, each with its length.
pub(super) fn digest_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    context.finish().as_ref().try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hallpass_core::testing::MockClock;
    use hallpass_core::testing::sample::NOW;

    use super::*;

    /// Counts looks and signatures.
    #[derive(Default)]
    struct Count {
        looks: AtomicUsize,
        signatures: AtomicUsize,
    }

    async fn ask(shelf: &Shelf<u64>, place: u64, content: Option<u8>, count: &Count) -> Option<Published> {
        let look = async {
            count.looks.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok(content)
        };
        let sign = |content, now: Timestamp| {
            count.signatures.fetch_add(1, Ordering::SeqCst);
            Ok(format!("{content} at {now}").into_bytes())
        };
        shelf.get(place, look, |content| [*content; 32], sign).await.unwrap()
    }

    fn counted(count: &Count) -> (usize, usize) {
        (count.looks.load(Ordering::SeqCst), count.signatures.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn a_list_is_looked_at_once_a_second_and_signed_when_it_says_something_new() {
        let clock = Arc::new(MockClock::starting_at(NOW));
        let (shelf, count) = (Shelf::new(clock.clone() as Arc<dyn Clock>), Count::default());
        let first = ask(&shelf, 0, Some(1), &count).await.unwrap();
        assert_eq!(ask(&shelf, 0, Some(2), &count).await.unwrap(), first, "within the second");
        assert_eq!(counted(&count), (1, 1));
        clock.advance(Ttl::from_secs(1));
        assert_eq!(ask(&shelf, 0, Some(1), &count).await.unwrap(), first, "nothing new");
        assert_eq!(counted(&count), (2, 1));
        clock.advance(Ttl::from_secs(1));
        let second = ask(&shelf, 0, Some(2), &count).await.unwrap();
        assert_eq!(counted(&count), (3, 2));
        assert_ne!(second.etag, first.etag);
        clock.advance(SIGN_AGAIN_AFTER);
        let third = ask(&shelf, 0, Some(2), &count).await.unwrap();
        assert_ne!(third, second, "its date is not let grow old");
    }

    #[tokio::test]
    async fn of_many_who_ask_at_once_one_makes_the_list_and_another_list_waits_for_none() {
        let clock = Arc::new(MockClock::starting_at(NOW));
        let (shelf, count) = (Shelf::new(clock as Arc<dyn Clock>), Count::default());
        let asked = tokio::join!(
            ask(&shelf, 0, Some(1), &count),
            ask(&shelf, 0, Some(1), &count),
            ask(&shelf, 0, Some(1), &count),
        );
        assert_eq!(counted(&count), (1, 1));
        assert!(asked.0 == asked.1 && asked.1 == asked.2 && asked.0.is_some());
        assert_ne!(ask(&shelf, 1, Some(2), &count).await, asked.0);
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_and_what_is_not_there_is_not_kept() {
        let clock = Arc::new(MockClock::starting_at(NOW));
        let (shelf, count) = (Shelf::new(clock as Arc<dyn Clock>), Count::default());
        for place in 0..1_000 {
            assert_eq!(ask(&shelf, place, None, &count).await, None);
        }
        assert_eq!(shelf.places.lock().unwrap().len(), 0);
        for place in 0..1_000 {
            assert!(ask(&shelf, place, Some(1), &count).await.is_some());
        }
        assert_eq!(shelf.places.lock().unwrap().len(), MOST_KEPT);
    }
}
