//! The interface's description of itself: OpenAPI 3.1, generated from the handlers and from the types that they speak.
//!
//! What a handler's annotation says is what is its own: its request, its successes, and failures that are peculiar to
//! it. The failures that follow from its shape (it wants a proof, it has a body, it names something in its path) are
//! laid over all of them here, with the codes that `http::problem` really answers them with. A test holds the
//! document and the routes together, both ways.

mod failures;
mod parts;

use std::sync::LazyLock;

use bytes::Bytes;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{Schema, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, RefOr};
use utoipa::{Modify, OpenApi as _};

use super::handlers::{
    audit, catalog, configuration, discovery, exchange, grants, identity, oauth, operations, pki, quarantines,
    revocations, status_lists,
};

use failures::Failures;

pub(super) use parts::{
    AuditProof, AuditQuery, DifferenceQuery, DryRunQuery, ExchangeForm, JwkSet, PageQuery, ProofQuery, ServerMetadata,
    TokenForm,
};

/// The document.
#[must_use]
pub fn document() -> OpenApi {
    Interface::openapi()
}

/// The document as it is served.
pub(super) fn json() -> Bytes {
    static JSON: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(document().to_json().unwrap_or_default()));
    JSON.clone()
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Hallpass",
        description = "A short-lived credential broker: a proof of identity in, a narrowly scoped credential out, its \
            record kept and its end made sure of. Every answer carries `X-Request-Id`, under which the audit log has \
            the full reason of a refusal.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        exchange::exchange,
        oauth::introspect,
        oauth::revoke,
        discovery::authorization_server,
        discovery::openid_configuration,
        discovery::jwks,
        discovery::interface,
        status_lists::list,
        pki::ca,
        pki::crl,
        pki::crl_of,
        grants::open,
        grants::list,
        grants::read,
        grants::delete,
        grants::renew,
        grants::revoke,
        grants::abandon,
        grants::heartbeat,
        identity::whoami,
        identity::decisions,
        catalog::roles,
        catalog::role,
        catalog::owners,
        catalog::owner,
        revocations::begin,
        revocations::list,
        revocations::read,
        quarantines::add,
        quarantines::list,
        quarantines::read,
        quarantines::lift,
        audit::list,
        audit::checkpoint,
        audit::proof,
        configuration::read,
        configuration::put,
        configuration::revisions,
        configuration::revision,
        configuration::rollback,
        operations::healthz,
        operations::readyz,
        operations::metrics,
    ),
    components(schemas(hallpass_sdk::wire::GrantState, hallpass_sdk::wire::Problem, parts::OAuthProblem)),
    tags(
        (name = "exchange", description = "OAuth: a proof for a token, and what is asked about tokens."),
        (name = "grants", description = "The record of credentials: opening, reading, renewing, ending."),
        (name = "commands", description = "Ending sets of grants, and stopping new ones."),
        (name = "identity", description = "What the broker sees of a caller, and what it would decide."),
        (name = "catalog", description = "Roles, and who answers for them."),
        (name = "audit", description = "What was written down."),
        (name = "configuration", description = "What is governed: the bundle in force, its history, and its successor."),
        (name = "discovery", description = "What others need to trust what the broker signs."),
        (name = "pki", description = "The built-in certificate authority."),
        (name = "operations", description = "For those who run the broker; on a listener of its own.")
    ),
    modifiers(&Proof, &ClosedSets, &Absent, &Failures)
)]
struct Interface;

/// How a caller proves who it is.
struct Proof;

impl Modify for Proof {
    fn modify(&self, document: &mut OpenApi) {
        let description = "A proof: an OIDC token of a configured issuer, a JWT-SVID, or a token that this broker minted \
                           for itself. Where clients are asked for certificates, an X.509-SVID that the handshake showed \
                           is one without any header. There are no passwords and no API keys.";
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
        let scheme = SecurityScheme::Http(bearer.description(Some(description)).build());
        document.components.get_or_insert_default().add_security_scheme("proof", scheme);
    }
}

/// Takes `unknown` out of closed sets: it is what a caller makes of a word from a newer broker, and no broker says it.
struct ClosedSets;

impl Modify for ClosedSets {
    fn modify(&self, document: &mut OpenApi) {
        for schema in document.components.iter_mut().flat_map(|components| components.schemas.values_mut()) {
            match schema {
                RefOr::T(Schema::Object(object)) => {
                    if let Some(words) = &mut object.enum_values {
                        words.retain(|word| word != "unknown");
                    }
                }
                RefOr::T(Schema::OneOf(variants)) => variants.items.retain(|variant| !is_unknown(variant)),
                _ => {}
            }
        }
    }
}

/// Whether a variant's tag can only be `unknown`.
fn is_unknown(variant: &RefOr<Schema>) -> bool {
    let RefOr::T(Schema::Object(object)) = variant else { return false };
    object.properties.values().any(|property| {
        let RefOr::T(Schema::Object(tag)) = property else { return false };
        tag.schema_type == SchemaType::Type(Type::String)
            && tag.enum_values.as_ref().is_some_and(|words| words.iter().eq(["unknown"]))
    })
}

/// Takes `null` out of parameters and bodies as a whole: what is optional there is absent, and cannot be null.
struct Absent;

impl Modify for Absent {
    fn modify(&self, document: &mut OpenApi) {
        for (_, operation) in operations(document) {
            let parameters = operation.parameters.iter_mut().flatten().filter_map(|parameter| match parameter {
                RefOr::T(parameter) => parameter.schema.as_mut(),
                RefOr::Ref(_) => None,
            });
            let bodies = operation.request_body.iter_mut().filter_map(|body| match body {
                RefOr::T(body) => Some(body.content.values_mut()),
                RefOr::Ref(_) => None,
            });
            let bodies = bodies.flatten().filter_map(|content| match content {
                RefOr::T(content) => content.schema.as_mut(),
                RefOr::Ref(_) => None,
            });
            parameters.chain(bodies).for_each(without_null);
        }
    }
}

fn without_null(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            if let SchemaType::Array(types) = &mut object.schema_type {
                types.retain(|one| *one != Type::Null);
                if let [only] = types.as_slice() {
                    object.schema_type = SchemaType::Type(only.clone());
                }
            }
        }
        RefOr::T(Schema::OneOf(variants)) => {
            variants.items.retain(|variant| {
                !matches!(variant, RefOr::T(Schema::Object(object))
                if object.schema_type == SchemaType::Type(Type::Null))
            });
            if let [only] = variants.items.as_slice() {
                *schema = only.clone();
            }
        }
        _ => {}
    }
}

/// Every operation with its path.
fn operations(document: &mut OpenApi) -> impl Iterator<Item = (&str, &mut Operation)> {
    document.paths.paths.iter_mut().flat_map(|(path, item)| {
        let all = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        all.into_iter().flatten().map(|operation| (path.as_str(), operation))
    })
}
