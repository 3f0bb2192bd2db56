//! How lists are answered: whoever has proved who it is waits for its turn, and gets a page of bounded size.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::Response;
use hallpass_core::port::{Page, PageRequest, PageRoom};
use hallpass_core::request::Origin;
use hallpass_core::service::inspect::{self, Caller};
use http::request::Parts;
use serde::Serialize;

use super::{bytes_of, json_body, readable};
use crate::http::extract::{Bearer, Context};
use crate::http::failure::Failure;
use crate::http::places::{Turn, Turns};
use crate::http::query::{FromQuery, Query};
use crate::http::router::ApiState;

/// A list that is asked for, in its turn.
pub(in crate::http) struct Listing<Q> {
    pub(super) origin: Origin,
    pub(super) caller: Caller,
    /// Which page of what.
    pub(super) wanted: Q,
    /// Until the page is written.
    _turn: Turn,
}

impl<Q: FromQuery + Send> FromRequestParts<Arc<ApiState>> for Listing<Q> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ApiState>) -> Result<Self, Failure> {
        let Context(origin) = Context::from_request_parts(parts, state).await?;
        let Bearer(proof) = Bearer::from_request_parts(parts, state).await?;
        let Query(query) = Query::<Q>::from_request_parts(parts, state).await?;
        let turns = Turns::from_request_parts(parts, state).await?;
        let wanted = readable(state, &proof, query, &origin).await?;
        let caller = inspect::caller(&state.ports, &proof, &origin).await?;
        Ok(Self { origin, caller, wanted, _turn: turns.take().await? })
    }
}

/// A page of what the store has bounded, each item as it is told.
pub(super) fn page<T, W: Serialize>(found: Page<T>, tell: impl Fn(T) -> W) -> Result<Response, Failure> {
    let items = found.items.into_iter().map(|item| bytes_of(&tell(item))).collect::<Result<_, _>>()?;
    written(Page { items, next: found.next })
}

/// A page of items that are written: one body, in which nothing is written twice.
pub(super) fn written(page: Page<Vec<u8>>) -> Result<Response, Failure> {
    let next = bytes_of(&page.next)?;
    let length = page.items.iter().map(Vec::len).fold(next.len(), usize::saturating_add);
    let mut body = Vec::with_capacity(length.saturating_add(page.items.len()).saturating_add(32));
    body.extend_from_slice(br#"{"items":["#);
    for (before, item) in page.items.into_iter().enumerate() {
        if before > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&item);
    }
    body.extend_from_slice(br#"],"next_cursor":"#);
    body.extend_from_slice(&next);
    body.push(b'}');
    Ok(json_body(body.into()))
}

/// What of a list fits on a page.
pub(super) struct Fitting<'a, T> {
    /// Written.
    pub(super) items: Vec<Vec<u8>>,
    /// The last of them, where more would follow.
    pub(super) ends_at: Option<&'a T>,
}

/// The first of `all` that fit on a page.
pub(super) fn fitting<'a, T: 'a, W: Serialize>(
    all: impl IntoIterator<Item = &'a T>,
    page: &PageRequest,
    tell: impl Fn(&T) -> W,
) -> Result<Fitting<'a, T>, Failure> {
    let (mut items, mut last, mut room) = (Vec::new(), None, PageRoom::of(page));
    for item in all {
        let bytes = bytes_of(&tell(item))?;
        if !room.takes(bytes.len()) {
            return Ok(Fitting { items, ends_at: last });
        }
        items.push(bytes);
        last = Some(item);
    }
    Ok(Fitting { items, ends_at: None })
}

#[cfg(test)]
mod tests {
    use hallpass_sdk::wire;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_page_is_written_as_the_wire_type_would_be() {
        for (items, next) in [(vec![], None), (vec!["a\"b"], Some("x")), (vec!["a", "b", "c"], None)] {
            let next = next.map(str::to_owned);
            let response =
                page(Page { items: items.clone(), next: next.clone() }, |item| json!({"name": item})).unwrap();
            let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
            let items = items.into_iter().map(|item| json!({"name": item})).collect();
            assert_eq!(body, serde_json::to_vec(&wire::Page { items, next_cursor: next }).unwrap());
        }
    }

    #[test]
    fn what_is_cut_off_a_page_is_told_of() {
        let all = ["a", "b", "c"].map(|letter| letter.repeat(PageRequest::MAX_BYTES * 2 / 5));
        let fit = |all: &[String], limit| {
            let fitting = fitting(all, &PageRequest { cursor: None, limit }, String::clone).unwrap();
            (fitting.items.len(), fitting.ends_at.map(|last| last[..1].to_owned()))
        };
        assert_eq!(fit(&all, 3), (2, Some("b".to_owned())), "three are larger than a page");
        assert_eq!(fit(&all, 1), (1, Some("a".to_owned())));
        assert_eq!(fit(&all[..2], 3), (2, None));
        let large = ["a".repeat(PageRequest::MAX_BYTES * 2)];
        assert_eq!(fit(&large, 3), (1, None), "one always fits, or the list would end there");
    }
}
