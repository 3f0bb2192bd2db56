//! What the HTTP interface asks of the keys and of what is published.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use bytes::Bytes;
use hallpass_core::error::ServiceError;
use hallpass_core::port::SignatureAlgorithm;

use crate::backend;
use crate::backend::x509::{Authorities, RevocationLists};
use crate::http::desk::{OwnToken, Pki, PublicKeys, Published, StatusLists, TokenDesk};
use crate::keys::{KeyRing, OwnTokens};

pub(super) struct Desk(pub(super) OwnTokens);

impl TokenDesk for Desk {
    fn read(&self, token: &str) -> Option<OwnToken> {
        let token = self.0.read(token).ok()?;
        Some(OwnToken {
            grant: token.grant,
            client_id: Some(token.subject.clone()),
            subject: token.subject,
            audiences: token.audiences,
            scope: token.scope,
            token_id: Some(token.grant.to_string()),
            issued_at: token.issued_at,
            expires_at: token.expires_at,
            key_id: token.key_id,
            act: token.act,
            binding_key: token.binding_key,
        })
    }
}

pub(super) struct Jwks(pub(super) Arc<KeyRing>);

impl PublicKeys for Jwks {
    fn jwks(&self) -> Bytes {
        Bytes::from(self.0.jwks())
    }

    fn algorithms(&self) -> Vec<&'static str> {
        self.0.token_algorithms().into_iter().map(SignatureAlgorithm::as_str).collect()
    }
}

pub(super) struct BuiltInPki {
    pub(super) authorities: Arc<ArcSwapOption<Authorities>>,
    pub(super) lists: RevocationLists,
}

#[async_trait]
impl Pki for BuiltInPki {
    fn ca_pem(&self) -> String {
        self.authorities.load().as_ref().map(|authorities| authorities.ca_pem()).unwrap_or_default()
    }

    async fn crl(&self, key_id: Option<&str>) -> Result<Option<Published>, ServiceError> {
        Ok(self.lists.list(key_id).await?.map(published))
    }
}

pub(super) struct Statuses(pub(super) backend::jwt::StatusLists);

#[async_trait]
impl StatusLists for Statuses {
    async fn list(&self, number: u64) -> Result<Option<Published>, ServiceError> {
        Ok(self.0.list(number).await?.map(published))
    }
}

fn published(list: backend::Published) -> Published {
    Published { bytes: list.bytes, etag: list.etag }
}
