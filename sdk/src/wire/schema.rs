//! Schemas of the types whose JSON is not told by their fields (feature `openapi`).

use std::borrow::Cow;

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    AdditionalProperties, KnownFormat, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, Type,
};
use utoipa::{PartialSchema, ToSchema};

use super::{Duration, Secret, SecretMap, Timestamp};

/// A [`Duration`] as text: at least one of the four units, in their order.
const DURATION: &str = "^(?=[0-9])([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$";

impl PartialSchema for Timestamp {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
        let example = serde_json::json!("2026-01-31T09:00:00Z");
        let object = ObjectBuilder::new().schema_type(Type::String).format(Some(format)).examples([example]);
        object.description(Some("RFC 3339; UTC in every answer.")).into()
    }
}

impl ToSchema for Timestamp {
    fn name() -> Cow<'static, str> {
        "Timestamp".into()
    }
}

impl PartialSchema for Duration {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(DURATION));
        let text = text.examples([serde_json::json!("1h30m")]);
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
        let said = "Units, largest first, or whole seconds; units in every answer.";
        OneOfBuilder::new().item(text).item(seconds).description(Some(said)).into()
    }
}

impl ToSchema for Duration {
    fn name() -> Cow<'static, str> {
        "Duration".into()
    }
}

impl PartialSchema for Secret {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::Password);
        let object = ObjectBuilder::new().schema_type(Type::String).format(Some(format));
        object.description(Some("Never logged and never shown again.")).into()
    }
}

impl ToSchema for Secret {
    fn name() -> Cow<'static, str> {
        "Secret".into()
    }
}

impl PartialSchema for SecretMap {
    fn schema() -> RefOr<Schema> {
        let any = AdditionalProperties::FreeForm(true);
        let object = ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(any));
        object.description(Some("Secret values by name.")).into()
    }
}

impl ToSchema for SecretMap {
    fn name() -> Cow<'static, str> {
        "SecretMap".into()
    }
}
