//! `kind = "oidc"`: nothing is known of it but what its entry says.

use hallpass_core::time::Ttl;

use super::kind::Standard;

/// Strict, since it could be anything: a proof that may be shown again has to be asked for.
pub(super) const STANDARD: Standard = Standard {
    url: None,
    url_hint: "write the `iss` of its tokens",
    jwks_origins: &[],
    single_use: true,
    max_age: None,
    max_lifetime: Ttl::from_hours(1),
};
