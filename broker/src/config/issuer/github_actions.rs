//! `kind = "github-actions"`.
//!
//! An enterprise that has an `iss` of its own writes `https://token.actions.githubusercontent.com/<slug>`; with data
//! residency it is `https://token.actions.<subdomain>.ghe.com`; an Enterprise Server's is
//! `https://<host>/_services/token` (<https://docs.github.com/en/actions/reference/security/oidc>).

use hallpass_core::time::Ttl;

use super::kind::Standard;

/// A job asks for a token when it needs one, and for each use anew: one that is older than ten minutes was kept, and
/// one that comes twice was copied. GitHub's live for minutes.
pub(super) const STANDARD: Standard = Standard {
    url: Some("https://token.actions.githubusercontent.com"),
    url_hint: "",
    jwks_origins: &[],
    single_use: true,
    max_age: Some(Ttl::from_mins(10)),
    max_lifetime: Ttl::from_hours(1),
};
