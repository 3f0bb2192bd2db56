//! URLs in configuration, checked and otherwise left as they are written: issuers are compared byte for byte.

use std::path::{Path, PathBuf};

use url::{Host, Url};

/// Checks an absolute URL that the broker will fetch from or compare with.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(text: &str, allow_http: bool) -> Result<Url, String> {
    if text.contains(['*', '{', '}', '\\']) || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("{text:?} is not one URL: patterns are not supported"));
    }
    let url = Url::parse(text).map_err(|error| format!("{text:?} is not an absolute URL: {error}"))?;
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        // Not shown: it may hold a password.
        return Err("must have no user, password, query or fragment".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if allow_http || is_loopback(&url) => Ok(url),
        "http" => Err(format!(
            "{text:?} is plain http to another machine: anybody on the path could answer in its name; use https"
        )),
        other => Err(format!("{text:?} has the scheme {other:?}; use https")),
    }
}

/// The path of a Unix socket, written `unix:///run/agent.sock` or `unix:/run/agent.sock`.
pub(crate) fn unix_socket(text: &str) -> Option<PathBuf> {
    let path = text.strip_prefix("unix:")?;
    let path = Path::new(path.strip_prefix("//").unwrap_or(path));
    path.is_absolute().then(|| path.to_owned())
}

/// Checks an origin: scheme, host and port, nothing behind.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_origin(text: &str, allow_http: bool) -> Result<Url, String> {
    let url = check(text, allow_http)?;
    if url.origin().ascii_serialization() == text {
        Ok(url)
    } else {
        let right = url.origin().ascii_serialization();
        Err(format!("{text:?} must be an origin without path or trailing slash, such as {right:?}"))
    }
}

/// Whether the URL's host is this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
