//! SPIFFE IDs and trust domains (SPIFFE-ID §2): one spelling each, and nothing normalised.
//!
//! Policies match on prefixes of these texts. So a text that two readers could read differently is no SPIFFE ID: dot
//! segments, empty segments, a trailing slash, percent-encoding, upper case in the trust domain, anything but the
//! characters that the specification has.

use std::fmt;

/// Longest SPIFFE ID (SPIFFE-ID §2.3).
pub const MAX_SPIFFE_ID_BYTES: usize = 2048;

/// Longest trust domain (SPIFFE-ID §2.1).
pub const MAX_TRUST_DOMAIN_BYTES: usize = 255;

const SCHEME: &str = "spiffe://";

/// The name of a trust domain, such as `prod.example.org`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Reads the bare name, without `spiffe://`.
    ///
    /// # Errors
    /// [`NotASpiffeId`] says which rule it breaks.
    pub fn new(name: impl Into<String>) -> Result<Self, NotASpiffeId> {
        let name = name.into();
        if name.is_empty() {
            return Err(NotASpiffeId::NoTrustDomain);
        }
        if name.len() > MAX_TRUST_DOMAIN_BYTES {
            return Err(NotASpiffeId::TrustDomainTooLong);
        }
        let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        if !name.bytes().all(fine) {
            return Err(NotASpiffeId::TrustDomainCharacter);
        }
        Ok(Self(name))
    }

    /// The bare name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a workload in its trust domain, such as `spiffe://prod.example.org/ns/pay/sa/deployer`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    text: String,
    trust_domain: TrustDomain,
}

impl SpiffeId {
    /// Reads an ID as it is written in `sub` or in a certificate.
    ///
    /// # Errors
    /// [`NotASpiffeId`] says which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, NotASpiffeId> {
        if text.len() > MAX_SPIFFE_ID_BYTES {
            return Err(NotASpiffeId::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(NotASpiffeId::Scheme)?;
        let (name, path) = match rest.split_once('/') {
            Some((name, path)) => (name, Some(path)),
            None => (rest, None),
        };
        let trust_domain = TrustDomain::new(name)?;
        for segment in path.into_iter().flat_map(|path| path.split('/')) {
            check_segment(segment)?;
        }
        Ok(Self { text: text.to_owned(), trust_domain })
    }

    /// The ID as it was written, which is its one spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path with its leading slash; empty for the trust domain itself.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.get(SCHEME.len().saturating_add(self.trust_domain.as_str().len())..).unwrap_or_default()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn check_segment(segment: &str) -> Result<(), NotASpiffeId> {
    match segment {
        "" => Err(NotASpiffeId::EmptySegment),
        "." | ".." => Err(NotASpiffeId::DotSegment),
        _ if segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)) => Ok(()),
        _ => Err(NotASpiffeId::PathCharacter),
    }
}

/// Which rule of SPIFFE-ID §2 a text breaks. Repeats nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotASpiffeId {
    /// It does not begin with the scheme.
    #[error("it does not begin with \"spiffe://\", in lower case")]
    Scheme,
    /// Too long as a whole.
    #[error("it is longer than {MAX_SPIFFE_ID_BYTES} bytes")]
    TooLong,
    /// Nothing where the trust domain belongs.
    #[error("it has no trust domain")]
    NoTrustDomain,
    /// The trust domain is too long.
    #[error("its trust domain is longer than {MAX_TRUST_DOMAIN_BYTES} bytes")]
    TrustDomainTooLong,
    /// A character that trust domains do not have.
    #[error("its trust domain has another character than a-z, 0-9, '.', '-' and '_'")]
    TrustDomainCharacter,
    /// Two slashes in a row, or one at the end.
    #[error("its path has an empty segment or ends with a slash")]
    EmptySegment,
    /// `.` or `..`.
    #[error("its path has a segment \".\" or \"..\"")]
    DotSegment,
    /// A character that paths do not have.
    #[error("its path has another character than letters, digits, '.', '-' and '_'")]
    PathCharacter,
}

#[cfg(test)]
mod tests;
