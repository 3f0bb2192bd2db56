//! The failures that an operation has because of its shape.

use std::collections::{BTreeMap, BTreeSet};

use utoipa::Modify;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{Content, Header, OpenApi, Ref, RefOr, Response, ResponseBuilder};

use crate::http::problem::{self, Surface};

/// Lays over every operation the failures of its shape, each as a component that says which codes it comes with.
pub(super) struct Failures;

impl Modify for Failures {
    fn modify(&self, document: &mut OpenApi) {
        let told =
            [Surface::V1, Surface::Token, Surface::OAuth].map(|surface| (surface, problem::told::failures(surface)));
        let told = Told(told);
        for (path, operation) in super::operations(document) {
            let surface = Surface::of(path);
            let mut statuses = of_shape(surface, operation);
            let responses = &mut operation.responses.responses;
            responses.retain(|status, response| match (status.parse(), response) {
                // Peculiar to the operation, and told like every other.
                (Ok(status @ 400..), RefOr::T(response)) if response.content.is_empty() => {
                    statuses.insert(status);
                    false
                }
                (_, RefOr::T(response)) => {
                    response.headers.insert("X-Request-Id".to_owned(), request_id().into());
                    true
                }
                _ => true,
            });
            for status in statuses.into_iter().filter(|status| told.has(surface, *status)) {
                let component = || Ref::from_response_name(name(surface, status)).into();
                responses.entry(status.to_string()).or_insert_with(component);
            }
        }
        document.components.get_or_insert_default().responses.extend(told.components());
    }
}

/// The statuses that follow from what an operation wants.
fn of_shape(surface: Surface, operation: &Operation) -> BTreeSet<u16> {
    let parameters = operation.parameters.iter().flatten();
    let within: Vec<_> = parameters
        .filter_map(|parameter| match parameter {
            RefOr::T(parameter) => Some(&parameter.parameter_in),
            RefOr::Ref(_) => None,
        })
        .collect();
    let mut statuses = BTreeSet::from([421, 500, 503, 504]);
    if wants_proof(operation) || surface == Surface::Token {
        // A repeated header, a proof of any kind of wrongness, a policy that says no, too many at once.
        statuses.extend([400, 401, 403, 413, 429]);
    }
    if within.contains(&&ParameterIn::Path) {
        statuses.insert(404);
    }
    if within.iter().any(|place| matches!(place, ParameterIn::Query | ParameterIn::Header)) {
        statuses.extend([400, 422]);
    }
    if operation.request_body.is_some() {
        statuses.extend([400, 408, 413, 415, 422]);
    }
    statuses
}

fn wants_proof(operation: &Operation) -> bool {
    let named = operation.security.iter().flatten().filter_map(|wanted| serde_json::to_value(wanted).ok());
    named.into_iter().any(|wanted| wanted.get("proof").is_some())
}

fn name(surface: Surface, status: u16) -> String {
    match surface {
        Surface::V1 => format!("problem_{status}"),
        Surface::Token => format!("token_error_{status}"),
        Surface::OAuth => format!("oauth_error_{status}"),
    }
}

/// What is told on each surface: statuses with their codes.
struct Told([(Surface, BTreeMap<u16, BTreeSet<&'static str>>); 3]);

impl Told {
    fn has(&self, surface: Surface, status: u16) -> bool {
        self.0.iter().any(|(told_on, told)| *told_on == surface && told.contains_key(&status))
    }

    fn components(&self) -> impl Iterator<Item = (String, RefOr<Response>)> {
        self.0.iter().flat_map(|(surface, told)| {
            told.iter().map(|(status, codes)| (name(*surface, *status), component(*surface, *status, codes).into()))
        })
    }
}

fn component(surface: Surface, status: u16, codes: &BTreeSet<&'static str>) -> Response {
    let (media_type, schema, member) = match surface {
        Surface::V1 => (hallpass_sdk::wire::PROBLEM_JSON, "Problem", "code"),
        Surface::Token | Surface::OAuth => ("application/json", "OAuthProblem", "reason"),
    };
    let code = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes.iter().copied()));
    let schema = AllOfBuilder::new()
        .item(Ref::from_schema_name(schema))
        .item(ObjectBuilder::new().property(member, code).required(member));
    let mut response = ResponseBuilder::new()
        .description(meaning(status))
        .content(media_type, Content::new(Some(Schema::from(schema.build()))))
        .header("X-Request-Id", request_id());
    if matches!(status, 429 | 503 | 504) {
        response = response.header("Retry-After", seconds("When trying again could help, in seconds."));
    }
    if status == 401 {
        let challenge = HeaderBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::String)));
        response = response.header("WWW-Authenticate", challenge.description(Some("RFC 6750 §3.")).build());
    }
    response.build()
}

const fn meaning(status: u16) -> &'static str {
    match status {
        400 => "The request is not in the form that it claims to be in, or on `/oauth2/token` not acceptable.",
        401 => "The proof is not accepted.",
        403 => "Policy says no.",
        404 => "There is no such thing that the caller may see.",
        408 => "The body came in too slowly.",
        409 => "The thing is in a state that does not allow this.",
        412 => "Another revision is in force than `If-Match` names.",
        413 => "The request is too large.",
        415 => "The body is of another type than is spoken here.",
        421 => "The request names another host than its connection does.",
        422 => "The request is well-formed and not acceptable.",
        428 => "`If-Match` is missing.",
        429 => "Too many requests.",
        500 => "The broker failed; its log has more under the request's id.",
        502 => "The backend refused.",
        503 => "A part of the broker does not answer.",
        504 => "An answer did not come in time.",
        _ => "A failure.",
    }
}

fn request_id() -> Header {
    let format = SchemaFormat::Custom("uuid".to_owned());
    let id = ObjectBuilder::new().schema_type(Type::String).format(Some(format)).build();
    HeaderBuilder::new().schema(Some(id)).description(Some("Under this id the audit log has the full reason.")).build()
}

fn seconds(meaning: &str) -> Header {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build();
    HeaderBuilder::new().schema(Some(number)).description(Some(meaning)).build()
}
