//! What is governed: reading it, its history, and putting another bundle into force.

use reqwest::Method;
use url::Url;

use super::Client;
use super::call::Call;
use super::error::Error;
use crate::wire::{Configuration, Page, Publication, PutConfiguration, Revision, RevisionDetail};

impl Client {
    /// `GET /v1/configuration`: the bundle in force.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn configuration(&self) -> Result<Configuration, Error> {
        self.answer(Call::get(self.url(&["v1", "configuration"])?).large()).await
    }

    /// `PUT /v1/configuration`: puts a whole bundle into force in the place of the revision `replaces`; with `dry_run`
    /// only says what that would do.
    ///
    /// # Errors
    /// Any [`Error`]. A refusal's problem has every finding; `revision_moved` says that somebody else published
    /// meanwhile.
    pub async fn put_configuration(
        &self,
        configuration: &PutConfiguration,
        replaces: Option<&str>,
        dry_run: bool,
    ) -> Result<Publication, Error> {
        let url = previewed(self.url(&["v1", "configuration"])?, dry_run);
        let call = Call::with_method(Method::PUT, url).json(configuration)?.large();
        self.answer(replacing(call, replaces, dry_run)).await
    }

    /// `GET /v1/configuration/revisions`: one page of publications, newest first; `cursor` from the page before.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn configuration_revisions(&self, cursor: Option<&str>) -> Result<Page<Revision>, Error> {
        let mut url = self.url(&["v1", "configuration", "revisions"])?;
        if let Some(cursor) = cursor {
            url.query_pairs_mut().append_pair("cursor", cursor);
        }
        self.answer(Call::get(url)).await
    }

    /// `GET /v1/configuration/revisions/{id}`: one revision with its content, or with what leads to it from `diff`.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn configuration_revision(&self, id: &str, diff: Option<&str>) -> Result<RevisionDetail, Error> {
        let mut url = self.url(&["v1", "configuration", "revisions", id])?;
        if let Some(diff) = diff {
            url.query_pairs_mut().append_pair("diff", diff);
        }
        self.answer(Call::get(url).large()).await
    }

    /// `POST /v1/configuration/revisions/{id}/rollback`: publishes the content of `id` again, in the place of the
    /// revision `replaces`; with `dry_run` only says what that would do.
    ///
    /// # Errors
    /// Any [`Error`], as from [`Client::put_configuration`].
    pub async fn roll_configuration_back(
        &self,
        id: &str,
        replaces: Option<&str>,
        dry_run: bool,
    ) -> Result<Publication, Error> {
        let url = previewed(self.url(&["v1", "configuration", "revisions", id, "rollback"])?, dry_run);
        self.answer(replacing(Call::post(url), replaces, dry_run)).await
    }
}

fn previewed(mut url: Url, dry_run: bool) -> Url {
    if dry_run {
        url.query_pairs_mut().append_pair("dry_run", "true");
    }
    url
}

/// A publication is not sent again once anything of it was sent: the answer to the second would say that the first
/// moved the revision.
fn replacing(call: Call, replaces: Option<&str>, dry_run: bool) -> Call {
    let call = if dry_run { call } else { call.once() };
    match replaces {
        Some(revision) => call.if_match(revision),
        None => call,
    }
}
