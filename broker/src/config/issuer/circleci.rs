//! `kind = "circleci"`: each organisation has an `iss` of its own
//! (<https://circleci.com/docs/guides/permissions-authentication/openid-connect-tokens/>).

use hallpass_core::time::Ttl;

use super::kind::Standard;

/// A job has its token from its start, for an hour. It has no `jti`, and mints once by what it says.
pub(super) const STANDARD: Standard = Standard {
    url: None,
    url_hint: "write \"https://oidc.circleci.com/org/\" and the organisation's id",
    jwks_origins: &[],
    single_use: true,
    max_age: Some(Ttl::from_hours(1)),
    max_lifetime: Ttl::from_hours(1),
};
