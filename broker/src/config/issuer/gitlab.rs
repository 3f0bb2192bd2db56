//! `kind = "gitlab"`: gitlab.com, or an instance of one's own, whose `iss` is its address without a trailing slash
//! (<https://docs.gitlab.com/ci/secrets/id_token_authentication>).

use hallpass_core::time::Ttl;

use super::kind::Standard;

/// A job has its tokens from its start, one for each entry of its `id_tokens`, and they live as long as it may: by default
/// an hour. A job that wants several credentials has an entry for each.
pub(super) const STANDARD: Standard = Standard {
    url: Some("https://gitlab.com"),
    url_hint: "",
    jwks_origins: &[],
    single_use: true,
    max_age: Some(Ttl::from_hours(1)),
    max_lifetime: Ttl::from_hours(1),
};
