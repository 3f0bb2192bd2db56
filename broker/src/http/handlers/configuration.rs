//! `/v1/configuration`: the bundle in force, its history, and putting another one into force.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{ETAG, HeaderValue};
use axum::response::Response;
use hallpass_core::error::ServiceError;
use hallpass_core::id::RevisionId;
use hallpass_core::port::PageRequest;
use hallpass_core::service::configuration::{Content, Published, Publisher, Publishing, Wanted, publisher, reader};
use hallpass_sdk::wire::{self as sdk, Page, PutConfiguration, RevisionDetail};

use super::pages::page;
use super::{json, readable, to_its_end};
use crate::http::extract::{Bearer, Context, IfMatch, Named, Unread};
use crate::http::failure::{Failure, Unreadable};
use crate::http::measure;
use crate::http::openapi;
use crate::http::places::Turns;
use crate::http::query::{DryRun, Query, UpTo};
use crate::http::router::ApiState;
use crate::http::wire;

type Api = State<Arc<ApiState>>;

/// Reads the bundle in force. Its revision is the answer's `ETag`.
#[utoipa::path(
    get,
    path = "/v1/configuration",
    operation_id = "read_configuration",
    tag = "configuration",
    responses((status = 200, description = "The bundle.", body = sdk::Configuration,
        headers(("ETag" = String, description = "The revision, as an entity tag.")))),
    security(("proof" = []))
)]
pub(in crate::http) async fn read(
    State(state): Api,
    Context(origin): Context,
    Bearer(proof): Bearer,
    turns: Turns,
) -> Result<Response, Failure> {
    let publishing = published_here(&state)?;
    let reader = reader(&state.ports, &proof, &origin).await?;
    let _turn = turns.take().await?;
    let shown = reader.active(&state.ports).await?;
    let id = shown.record.id.clone();
    tagged(json(&wire::configuration(shown, publishing.source))?, &id)
}

/// Puts a whole bundle into force in the place of the revision that `If-Match` names, or says what that would do.
///
/// Everything that is wrong with it is told at once, in `findings`. A bundle that could widen the publisher's own rights
/// is refused.
// Nothing of the body is held for somebody who may not publish.
#[utoipa::path(
    put,
    path = "/v1/configuration",
    operation_id = "put_configuration",
    tag = "configuration",
    params(
        ("If-Match" = Option<String>, Header,
            description = "The revision that is to be replaced, as an entity tag. Only a dry run needs none."),
        openapi::DryRunQuery
    ),
    request_body = PutConfiguration,
    responses(
        (status = 200, description = "What was published, or would be.", body = sdk::Publication,
            headers(("ETag" = String, description = "The revision in force, as an entity tag."))),
        (status = 409, description = "Bundles come from files here, or the content is no longer kept."),
        (status = 412, description = "Another revision is in force than `If-Match` names."),
        (status = 428, description = "`If-Match` is missing.")
    ),
    security(("proof" = []))
)]
pub(in crate::http) async fn put(
    State(state): Api,
    Context(origin): Context,
    Bearer(proof): Bearer,
    IfMatch(replaces): IfMatch,
    Query(query): Query<DryRun>,
    body: Unread,
) -> Result<Response, Failure> {
    let publishing = published_here(&state)?;
    let publisher = match publisher(&state.ports, &publishing, proof, &origin).await {
        Ok(publisher) => publisher,
        Err(error) => {
            body.discard(&state.limits).await;
            return Err(error.into());
        }
    };
    let asked = match (replaces, query) {
        (Ok(replaces), Ok(DryRun(preview))) => (replaces, preview),
        (Err(unreadable), _) | (_, Err(unreadable)) => {
            body.discard(&state.limits).await;
            return Err(by(&publisher, unreadable));
        }
    };
    let sent = body.json::<PutConfiguration>(&state.limits).await;
    let files = sent.map_err(|unreadable| by(&publisher, unreadable))?.files;
    publish(&state, publishing, publisher, Content::Files(files), asked).await
}

/// Lists publications, newest first.
#[utoipa::path(
    get,
    path = "/v1/configuration/revisions",
    operation_id = "list_configuration_revisions",
    tag = "configuration",
    params(openapi::PageQuery),
    responses((status = 200, description = "One page.", body = Page<sdk::Revision>)),
    security(("proof" = []))
)]
pub(in crate::http) async fn revisions(
    State(state): Api,
    Context(origin): Context,
    Bearer(proof): Bearer,
    Query(query): Query<PageRequest>,
    turns: Turns,
) -> Result<Response, Failure> {
    let wanted = readable(&state, &proof, query, &origin).await?;
    let reader = reader(&state.ports, &proof, &origin).await?;
    let _turn = turns.take().await?;
    page(reader.revisions(&state.ports, &wanted).await?, |revision| wire::revision(&revision))
}

/// Reads one revision with its content, or with what leads to it from another.
#[utoipa::path(
    get,
    path = "/v1/configuration/revisions/{id}",
    operation_id = "read_configuration_revision",
    tag = "configuration",
    params(("id" = String, Path, description = "The revision."), openapi::DifferenceQuery),
    responses(
        (status = 200, description = "The revision.", body = RevisionDetail),
        (status = 409, description = "The content is no longer kept.")
    ),
    security(("proof" = []))
)]
pub(in crate::http) async fn revision(
    State(state): Api,
    Context(origin): Context,
    Bearer(proof): Bearer,
    Named(id): Named,
    Query(query): Query<UpTo>,
    turns: Turns,
) -> Result<Response, Failure> {
    let UpTo(from) = readable(&state, &proof, query, &origin).await?;
    let reader = reader(&state.ports, &proof, &origin).await?;
    let _turn = turns.take().await?;
    let id = RevisionId::new(id).map_err(|_| ServiceError::NotFound)?;
    let shown = reader.revision(&state.ports, &id).await?;
    let publication = wire::revision(&shown.record);
    let Some(from) = from else {
        return json(&RevisionDetail { publication, files: shown.files, difference: None });
    };
    let (changes, before, after) = reader.difference(&state.ports, &from, &id).await?;
    let comparing =
        tokio::task::spawn_blocking(move || wire::difference(from.to_string(), &changes, &before, &after)).await;
    let difference = comparing.map_err(|_| Failure::Crashed)?;
    json(&RevisionDetail { publication, files: None, difference: Some(difference) })
}

/// Publishes the content of an earlier revision again, in the place of the one that `If-Match` names, or says what that
/// would do. It is a publication like any other.
#[utoipa::path(
    post,
    path = "/v1/configuration/revisions/{id}/rollback",
    operation_id = "roll_configuration_back",
    tag = "configuration",
    params(
        ("id" = String, Path, description = "The revision whose content is wanted."),
        ("If-Match" = Option<String>, Header,
            description = "The revision that is to be replaced, as an entity tag. Only a dry run needs none."),
        openapi::DryRunQuery
    ),
    responses(
        (status = 200, description = "What was published, or would be.", body = sdk::Publication,
            headers(("ETag" = String, description = "The revision in force, as an entity tag."))),
        (status = 409, description = "Bundles come from files here, or the content is no longer kept."),
        (status = 412, description = "Another revision is in force than `If-Match` names."),
        (status = 428, description = "`If-Match` is missing.")
    ),
    security(("proof" = []))
)]
pub(in crate::http) async fn rollback(
    State(state): Api,
    Context(origin): Context,
    Bearer(proof): Bearer,
    IfMatch(replaces): IfMatch,
    Query(query): Query<DryRun>,
    Named(id): Named,
) -> Result<Response, Failure> {
    let publishing = published_here(&state)?;
    let publisher = publisher(&state.ports, &publishing, proof, &origin).await?;
    let replaces = replaces.map_err(|unreadable| by(&publisher, unreadable))?;
    let DryRun(preview) = query.map_err(|unreadable| by(&publisher, unreadable))?;
    let id = RevisionId::new(id).map_err(|_| ServiceError::NotFound)?;
    publish(&state, publishing, publisher, Content::Earlier(id), (replaces, preview)).await
}

/// Publishes, whatever becomes of the caller meanwhile.
async fn publish(
    state: &Arc<ApiState>,
    publishing: Arc<Publishing>,
    mut publisher: Publisher,
    content: Content,
    (replaces, preview): (Option<Vec<RevisionId>>, bool),
) -> Result<Response, Failure> {
    let ports = state.ports.clone();
    let action = match content {
        Content::Files(_) => "configuration_publish",
        Content::Earlier(_) => "configuration_rollback",
    };
    let outcome = to_its_end(state, async move {
        let outcome = publisher.publish(&ports, &publishing, Wanted { content, replaces, preview }).await;
        if !preview {
            measure::privileged(action, outcome.is_ok());
        }
        outcome
    });
    let published: Published = outcome.await??;
    let id = if preview { published.replaces.clone() } else { published.revision.clone() };
    tagged(json(&wire::publication(published))?, &id)
}

/// Publishing, where this API has it.
fn published_here(state: &ApiState) -> Result<Arc<Publishing>, Failure> {
    state.publishing.clone().ok_or(Failure::NoSuchEndpoint)
}

/// What could not be read of a publisher's request.
fn by(publisher: &Publisher, mut unreadable: Unreadable) -> Failure {
    unreadable.actor = Some(Box::new(publisher.actor()));
    unreadable.into()
}

/// The answer with the revision that it is about as its tag.
fn tagged(mut response: Response, id: &RevisionId) -> Result<Response, Failure> {
    let tag = HeaderValue::try_from(format!("\"{id}\"")).map_err(|_| Failure::Crashed)?;
    response.headers_mut().insert(ETAG, tag);
    Ok(response)
}
