//! Secrets that cannot be printed, cloned or serialised by accident, and that are wiped when dropped.
//!
//! [`Secret`] and [`SecretMap`] implement neither `Clone` nor `Display` nor `Serialize`. A wire type that must carry one
//! says so at the field, with `#[serde(with = "…::expose")]`: deriving `Serialize` without it does not compile.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use zeroize::{Zeroize, Zeroizing};

/// Secret text: a token, a password, a private key in PEM.
///
/// ```compile_fail
/// #[derive(serde::Serialize)]
/// struct Leak { token: hallpass_sdk::wire::Secret }
/// ```
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

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self::new(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// Named secret values of any JSON type, as a dynamic path of Vault may answer them.
pub struct SecretMap(BTreeMap<String, Value>);

impl SecretMap {
    /// Takes ownership of secret values.
    #[must_use]
    pub fn new(values: BTreeMap<String, Value>) -> Self {
        Self(values)
    }

    /// The secret values themselves. Every use of this is a place to review.
    #[must_use]
    pub fn expose(&self) -> &BTreeMap<String, Value> {
        &self.0
    }
}

impl fmt::Debug for SecretMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

impl Drop for SecretMap {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A secret that this version of the wire carries in a field: name this module in `#[serde(with)]`.
pub mod expose {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Secret, SecretMap};

    /// What may be put on the wire deliberately.
    pub trait Exposed: Sized {
        /// Writes the secret.
        ///
        /// # Errors
        /// Whatever the serialiser fails with.
        fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
        /// Reads the secret.
        ///
        /// # Errors
        /// Whatever the deserialiser fails with; never with the content in the message.
        fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
    }

    impl Exposed for Secret {
        fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(self.expose())
        }

        fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            String::deserialize(deserializer).map(Self::new)
        }
    }

    impl Exposed for SecretMap {
        fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.expose().serialize(serializer)
        }

        fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Deserialize::deserialize(deserializer).map(Self::new)
        }
    }

    /// Writes a secret to the wire.
    ///
    /// # Errors
    /// Whatever the serialiser fails with.
    pub fn serialize<T: Exposed, S: Serializer>(secret: &T, serializer: S) -> Result<S::Ok, S::Error> {
        secret.write(serializer)
    }

    /// Reads a secret from the wire.
    ///
    /// # Errors
    /// Whatever the deserialiser fails with.
    pub fn deserialize<'de, T: Exposed, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        T::read(deserializer)
    }
}

/// The same as [`expose`](mod@expose), for a secret that may be absent or null.
pub mod expose_optional {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Secret;

    /// Writes a secret, or null, to the wire.
    ///
    /// # Errors
    /// Whatever the serialiser fails with.
    pub fn serialize<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
        match secret {
            Some(secret) => serializer.serialize_some(secret.expose()),
            None => serializer.serialize_none(),
        }
    }

    /// Reads a secret, or null, from the wire.
    ///
    /// # Errors
    /// Whatever the deserialiser fails with.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".to_owned())), "[REDACTED]");
        let map = SecretMap::new(BTreeMap::from([("k".to_owned(), Value::from("hunter2"))]));
        assert_eq!(format!("{map:?}"), "[REDACTED]");
    }
}
