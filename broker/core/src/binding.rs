//! Keys that callers, proofs and credentials are bound to.
//!
//! A bearer token works for whoever has it. One that is bound to a key works for whoever shows that it has the key, too:
//! by a proof made for each request (DPoP, RFC 9449), or by the certificate of the connection (RFC 8705).

mod possession;

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

pub use possession::{Possession, UsedPossessions};

/// How possession of a key is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// By a signature over the request (RFC 9449).
    Dpop,
    /// By the client certificate of the connection (RFC 8705).
    Mtls,
    /// By an X.509-SVID, whichever of those that its workload is given one after another: by its name, not by its key.
    Svid,
}

impl Binding {
    /// What an unbound caller is called where a binding would be named.
    pub const BEARER: &'static str = "bearer";

    /// The word used in policy, on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dpop => "dpop",
            Self::Mtls => "mtls",
            Self::Svid => "svid",
        }
    }

    /// The binding of this name that a policy can ask for.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Dpop, Self::Mtls].into_iter().find(|binding| binding.as_str() == name)
    }

    /// The member of `cnf` (RFC 7800 §3.1) that a key is named in.
    const fn member(self) -> &'static str {
        match self {
            Self::Dpop => "jkt",
            Self::Mtls => "x5t#S256",
            Self::Svid => "svid",
        }
    }
}

/// A key that somebody is bound to, by its SHA-256 thumbprint: of the JWK (`jkt`, RFC 9449 §6.1) or of the certificate
/// (`x5t#S256`, RFC 8705 §3.1); or of the SPIFFE ID that stands for all of a workload's. Its text is the two, joined by a
/// colon.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BindingKey {
    binding: Binding,
    sha256: [u8; 32],
}

impl BindingKey {
    /// A key by its digest.
    #[must_use]
    pub const fn new(binding: Binding, sha256: [u8; 32]) -> Self {
        Self { binding, sha256 }
    }

    /// Whichever key the X.509-SVID of this SPIFFE ID has.
    #[must_use]
    pub fn of_svid(id: &str) -> Self {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, id.as_bytes()).as_ref());
        Self { binding: Binding::Svid, sha256 }
    }

    /// A key by its thumbprint in base64url; none where that is no SHA-256 in its one spelling.
    #[must_use]
    pub fn of_thumbprint(binding: Binding, thumbprint: &str) -> Option<Self> {
        let sha256 = URL_SAFE_NO_PAD.decode(thumbprint).ok()?.try_into().ok()?;
        Some(Self { binding, sha256 })
    }

    /// How possession of it is shown.
    #[must_use]
    pub const fn binding(&self) -> Binding {
        self.binding
    }

    /// The member of `cnf` that names it, and what it says there.
    #[must_use]
    pub fn confirmation(&self) -> (&'static str, String) {
        (self.binding.member(), self.thumbprint())
    }

    /// Its thumbprint in base64url.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.sha256)
    }
}

impl fmt::Display for BindingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.binding.member(), self.thumbprint())
    }
}

impl fmt::Debug for BindingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BindingKey({self})")
    }
}

/// A text that is no key that somebody can be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is neither jkt: nor x5t#S256: nor svid: with a SHA-256 in base64url")]
pub struct InvalidBindingKey;

impl FromStr for BindingKey {
    type Err = InvalidBindingKey;

    fn from_str(text: &str) -> Result<Self, InvalidBindingKey> {
        let known = [Binding::Dpop, Binding::Mtls, Binding::Svid].into_iter().find_map(|binding| {
            let thumbprint = text.strip_prefix(binding.member())?.strip_prefix(':')?;
            Self::of_thumbprint(binding, thumbprint)
        });
        known.ok_or(InvalidBindingKey)
    }
}

impl TryFrom<String> for BindingKey {
    type Error = InvalidBindingKey;

    fn try_from(text: String) -> Result<Self, InvalidBindingKey> {
        text.parse()
    }
}

impl From<BindingKey> for String {
    fn from(key: BindingKey) -> Self {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_text_which_says_how_it_is_shown() {
        let (key, by_certificate) = (BindingKey::new(Binding::Dpop, [1; 32]), BindingKey::new(Binding::Mtls, [1; 32]));
        for key in [key, by_certificate, BindingKey::of_svid("spiffe://td.test/a")] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        assert_ne!(key, by_certificate, "one is not shown as the other is");
        assert!(key.to_string().starts_with("jkt:AQEB"));
        let text = key.to_string();
        for wrong in ["", "jkt:", "jkt:AQEB", &text[4..], &format!("{text}="), &format!("{text}A"), "bearer"] {
            assert_eq!(wrong.parse::<BindingKey>(), Err(InvalidBindingKey), "{wrong}");
        }
    }
}
