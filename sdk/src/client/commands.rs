//! Commands over sets of grants: revocations and quarantines.

use super::Client;
use super::call::Call;
use super::error::Error;
use crate::wire::{Page, Quarantine, QuarantineRequest, RevocationPreview, RevocationRequest, SetRevocation};

impl Client {
    /// `POST /v1/revocations`: ends every grant that is selected and that the caller may end. It holds when this returns;
    /// ask [`Client::revocation`] for how far it has come. The call repeats under one idempotency key.
    ///
    /// # Errors
    /// Any [`Error`]; then nothing is ended.
    pub async fn revoke_set(&self, request: &RevocationRequest) -> Result<SetRevocation, Error> {
        let request = RevocationRequest { dry_run: false, ..request.clone() };
        self.answer(Call::post(self.url(&["v1", "revocations"])?).json(&request)?.keyed()).await
    }

    /// The same as a dry run: what would end, and nothing changes.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn preview_revocation(&self, request: &RevocationRequest) -> Result<RevocationPreview, Error> {
        let request = RevocationRequest { dry_run: true, ..request.clone() };
        self.answer(Call::post(self.url(&["v1", "revocations"])?).json(&request)?).await
    }

    /// `GET /v1/revocations/{id}`: how far it has come, and its receipt once it is complete.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn revocation(&self, id: &str) -> Result<SetRevocation, Error> {
        self.answer(Call::get(self.url(&["v1", "revocations", id])?)).await
    }

    /// `GET /v1/revocations`: one page, newest first; `cursor` from the page before.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn revocations(&self, cursor: Option<&str>) -> Result<Page<SetRevocation>, Error> {
        self.page("revocations", cursor).await
    }

    /// `POST /v1/quarantines`: stops grants that are selected from being opened or renewed, as far as the caller may.
    ///
    /// # Errors
    /// Any [`Error`]; then nothing is stopped.
    pub async fn quarantine(&self, request: &QuarantineRequest) -> Result<Quarantine, Error> {
        self.answer(Call::post(self.url(&["v1", "quarantines"])?).json(request)?.once()).await
    }

    /// `GET /v1/quarantines`: one page, newest first; `cursor` from the page before.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn quarantines(&self, cursor: Option<&str>) -> Result<Page<Quarantine>, Error> {
        self.page("quarantines", cursor).await
    }

    /// `DELETE /v1/quarantines/{id}`: lifts it. Lifting one that is over already is no error.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn lift_quarantine(&self, id: &str) -> Result<Quarantine, Error> {
        self.answer(Call::delete(self.url(&["v1", "quarantines", id])?)).await
    }
}
