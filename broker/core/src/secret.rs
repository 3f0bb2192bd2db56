//! Secrets that cannot be printed, cloned or serialised by accident, and that are wiped when dropped.

use std::collections::BTreeMap;
use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Secret text: a token, a password, a private key in PEM.
///
/// There is no `Clone`, no `Serialize` and no way to see the value but [`Secret::expose`]; equality takes constant
/// time in the content.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes ownership of secret text.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The secret itself. Every use of this is a place to review.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

/// One secret JSON object: what a backend gave that names its own members.
#[derive(Debug, PartialEq)]
pub struct SecretObject(Secret);

impl SecretObject {
    /// Takes the text of an object.
    ///
    /// # Errors
    /// The text is none of a JSON object. It is not repeated.
    pub fn parse(text: Secret) -> Result<Self, NotAnObject> {
        let object: Result<BTreeMap<String, serde::de::IgnoredAny>, _> = serde_json::from_str(text.expose());
        if object.is_ok() { Ok(Self(text)) } else { Err(NotAnObject) }
    }

    /// Its text. Every use of this is a place to review.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// Its members. Every use of this is a place to review.
    #[must_use]
    pub fn expose_members(&self) -> BTreeMap<String, serde_json::Value> {
        // It was one when it was taken.
        serde_json::from_str(self.0.expose()).unwrap_or_default()
    }
}

/// A text that is no JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no JSON object")]
pub struct NotAnObject;

/// Secret bytes: key material, a handle that could be used to act at a backend.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes ownership of secret bytes.
    #[must_use]
    pub fn new(value: Vec<u8>) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The secret itself. Every use of this is a place to review.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

impl PartialEq for SecretBytes {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(other.0.as_slice()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "[REDACTED]");
        assert_eq!(format!("{:?}", SecretBytes::new(vec![1, 2, 3])), "[REDACTED]");
        assert!(secret == Secret::new("hunter2".to_owned()));
        assert!(secret != Secret::new("hunter3".to_owned()));
    }
}
