//! `kind = "google"`: identity tokens of service accounts, from the metadata server or the IAM credentials API
//! (<https://cloud.google.com/docs/authentication/token-types#id>). Google publishes its keys at another origin than its `iss`.

use hallpass_core::time::Ttl;

use super::kind::Standard;

/// A token lives an hour, has no `jti`, and is cached and shown again by the metadata server and by Google's libraries.
pub(super) const STANDARD: Standard = Standard {
    url: Some("https://accounts.google.com"),
    url_hint: "",
    jwks_origins: &["https://www.googleapis.com"],
    single_use: false,
    max_age: None,
    max_lifetime: Ttl::from_hours(1),
};
