//! The documents of the API server that the broker writes and reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::backend::rest::Text;

/// Asks for the metadata of objects alone: what a Secret holds is nobody's business here.
pub(super) const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
/// The same for lists.
pub(super) const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewSecret<'a> {
    pub(super) api_version: &'a str,
    pub(super) kind: &'a str,
    pub(super) metadata: NewMetadata<'a>,
    pub(super) immutable: bool,
    #[serde(rename = "type")]
    pub(super) secret_type: &'a str,
}

#[derive(Serialize)]
pub(super) struct NewMetadata<'a> {
    pub(super) name: &'a str,
    pub(super) labels: BTreeMap<&'a str, &'a str>,
    pub(super) annotations: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewTokenRequest<'a> {
    pub(super) api_version: &'a str,
    pub(super) kind: &'a str,
    pub(super) spec: NewTokenSpec<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewTokenSpec<'a> {
    pub(super) audiences: &'a [&'a str],
    pub(super) expiration_seconds: u64,
    pub(super) bound_object_ref: BoundObject<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BoundObject<'a> {
    pub(super) api_version: &'a str,
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
    pub(super) uid: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeleteOptions<'a> {
    pub(super) api_version: &'a str,
    pub(super) kind: &'a str,
    pub(super) preconditions: Preconditions<'a>,
}

#[derive(Serialize)]
pub(super) struct Preconditions<'a> {
    pub(super) uid: &'a str,
}

/// An object, as far as it matters.
#[derive(Debug, Deserialize)]
pub(super) struct Object {
    pub(super) metadata: Metadata,
}

#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) uid: String,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
}

/// A page of objects.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    #[serde(default)]
    pub(super) metadata: PageMetadata,
    pub(super) items: Vec<Object>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct PageMetadata {
    #[serde(default, rename = "continue")]
    pub(super) next: String,
}

/// A token was made.
#[derive(Deserialize)]
pub(super) struct MadeToken {
    pub(super) status: TokenStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenStatus {
    pub(super) token: Text,
    pub(super) expiration_timestamp: String,
}

/// Why something was refused.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    pub(super) reason: String,
}
