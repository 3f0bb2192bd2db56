//! `/v1/roles` and `/v1/owners`: the inventory, as far as the caller may read it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_core::port::{self, PageRequest};
use hallpass_core::role::Role;
use hallpass_core::service::inspect;
use hallpass_sdk::wire::{self as sdk, Page};
use serde::Serialize;

use super::json;
use super::pages::{Fitting, Listing, fitting, written};
use crate::http::extract::{Bearer, Context, Named};
use crate::http::failure::{Failure, Unreadable};
use crate::http::openapi;
use crate::http::router::ApiState;
use crate::http::wire;

type Api = State<Arc<ApiState>>;

/// Lists the roles that the caller may read.
#[utoipa::path(
    get,
    path = "/v1/roles",
    operation_id = "list_roles",
    tag = "catalog",
    params(openapi::PageQuery),
    responses((status = 200, description = "One page.", body = Page<sdk::Role>)),
    security(("proof" = []))
)]
pub(in crate::http) async fn roles(State(state): Api, listing: Listing<PageRequest>) -> Result<Response, Failure> {
    let roles = listing.caller.roles(&state.ports).await?;
    let tell = |role: &Arc<Role>| wire::role(role, listing.caller.revision());
    written(cut(&roles, &listing.wanted, |role| role.name.as_str(), tell)?)
}

/// Reads a role. Its name may stand with its slashes or with them encoded.
#[utoipa::path(
    get,
    path = "/v1/roles/{name}",
    operation_id = "read_role",
    tag = "catalog",
    params(("name" = String, Path, description = "Name of the role, such as `payments/prod/deploy`.")),
    responses((status = 200, description = "The role.", body = sdk::Role)),
    security(("proof" = []))
)]
pub(in crate::http) async fn role(
    State(state): Api,
    Context(origin): Context,
    Bearer(proof): Bearer,
    Named(name): Named,
) -> Result<Response, Failure> {
    let caller = inspect::caller(&state.ports, &proof, &origin).await?;
    let role = caller.role(&state.ports, &name).await?;
    json(&wire::role(&role, caller.revision()))
}

/// Lists the owners that the caller may read.
#[utoipa::path(
    get,
    path = "/v1/owners",
    operation_id = "list_owners",
    tag = "catalog",
    params(openapi::PageQuery),
    responses((status = 200, description = "One page.", body = Page<sdk::Owner>)),
    security(("proof" = []))
)]
pub(in crate::http) async fn owners(State(state): Api, listing: Listing<PageRequest>) -> Result<Response, Failure> {
    let owners = listing.caller.owners(&state.ports).await?;
    written(cut(&owners, &listing.wanted, |owner| owner.name.as_str(), |owner| wire::owner(owner))?)
}

/// Reads an owner: who answers, and how to reach them.
#[utoipa::path(
    get,
    path = "/v1/owners/{name}",
    operation_id = "read_owner",
    tag = "catalog",
    params(("name" = String, Path, description = "Name of the owner.")),
    responses((status = 200, description = "The owner.", body = sdk::Owner)),
    security(("proof" = []))
)]
pub(in crate::http) async fn owner(
    State(state): Api,
    Context(origin): Context,
    Bearer(proof): Bearer,
    Named(name): Named,
) -> Result<Response, Failure> {
    let caller = inspect::caller(&state.ports, &proof, &origin).await?;
    let owner = caller.owner(&state.ports, &name).await?;
    json(&wire::owner(&owner))
}

/// One page of what is sorted by name. The cursor is the last name of the page before, wrapped so that nobody builds on
/// it.
fn cut<T, W: Serialize>(
    all: &[T],
    page: &PageRequest,
    name: impl Fn(&T) -> &str,
    tell: impl Fn(&T) -> W,
) -> Result<port::Page<Vec<u8>>, Failure> {
    let after = match &page.cursor {
        None => None,
        Some(cursor) => Some(unwrapped(cursor).ok_or_else(|| {
            Unreadable::content("cursor", "`cursor` is not one that this list gave; start again without it")
        })?),
    };
    let left = all.iter().filter(|item| after.as_deref().is_none_or(|after| name(item) > after));
    let Fitting { items, ends_at } = fitting(left, page, tell)?;
    let next = ends_at.map(|item| URL_SAFE_NO_PAD.encode(format!("name:{}", name(item))));
    Ok(port::Page { items, next })
}

fn unwrapped(cursor: &str) -> Option<String> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    text.strip_prefix("name:").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(cursor: Option<String>, limit: usize) -> PageRequest {
        PageRequest { cursor, limit }
    }

    #[test]
    fn pages_hold_everything_once() {
        let all = ["a", "b", "c", "d", "e"].map(str::to_owned);
        let mut seen = Vec::new();
        let mut cursor = None;
        for _ in 0..3 {
            let cut = cut(&all, &page(cursor, 2), String::as_str, String::clone).unwrap();
            seen.extend(cut.items.iter().map(|item| serde_json::from_slice::<String>(item).unwrap()));
            cursor = cut.next;
        }
        assert_eq!(seen, all);
        assert_eq!(cursor, None);
        let whole = cut(&all, &page(None, 5), String::as_str, String::clone).unwrap();
        assert_eq!(whole.next, None, "a full last page is the last");
    }

    #[test]
    fn a_cursor_of_ones_own_making_is_refused() {
        let all = ["a".to_owned()];
        for cursor in ["tampered", "", "%", "Zm9v"] {
            let cut = cut(&all, &page(Some(cursor.to_owned()), 2), String::as_str, String::clone);
            assert!(cut.is_err(), "{cursor}");
        }
    }
}
