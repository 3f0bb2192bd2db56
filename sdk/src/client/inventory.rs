//! What the broker knows: the caller, the rules, the roles and who answers for them.

use super::Client;
use super::call::Call;
use super::error::Error;
use crate::wire::{DecisionAnswer, DecisionRequest, Owner, Page, Role, WhoAmI};

impl Client {
    /// `GET /v1/whoami`: what the broker sees of the proof.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn whoami(&self) -> Result<WhoAmI, Error> {
        self.answer(Call::get(self.url(&["v1", "whoami"])?)).await
    }

    /// `POST /v1/decisions`: what would be decided. Mints nothing, consumes nothing. A denial is an answer, no error.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn decide(&self, request: &DecisionRequest) -> Result<DecisionAnswer, Error> {
        self.answer(Call::post(self.url(&["v1", "decisions"])?).json(request)?).await
    }

    /// `GET /v1/roles`: one page of roles; `cursor` from the page before.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn roles(&self, cursor: Option<&str>) -> Result<Page<Role>, Error> {
        self.page("roles", cursor).await
    }

    /// `GET /v1/roles/{name}`: one role.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn role(&self, name: &str) -> Result<Role, Error> {
        self.answer(Call::get(self.url(&["v1", "roles", name])?)).await
    }

    /// `GET /v1/owners`: one page of owners; `cursor` from the page before.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn owners(&self, cursor: Option<&str>) -> Result<Page<Owner>, Error> {
        self.page("owners", cursor).await
    }

    /// `GET /v1/owners/{name}`: one owner.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn owner(&self, name: &str) -> Result<Owner, Error> {
        self.answer(Call::get(self.url(&["v1", "owners", name])?)).await
    }

    pub(super) async fn page<T: serde::de::DeserializeOwned>(
        &self,
        of: &str,
        cursor: Option<&str>,
    ) -> Result<Page<T>, Error> {
        let mut url = self.url(&["v1", of])?;
        if let Some(cursor) = cursor {
            url.query_pairs_mut().append_pair("cursor", cursor);
        }
        self.answer(Call::get(url)).await
    }
}
