//! Texts of the server that may be secret, on their way through.

use hallpass_core::secret::Secret;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is wiped when it is dropped, and does not print.
pub(super) struct Text(Secret);

impl Text {
    pub(super) fn new(secret: Secret) -> Self {
        Self(secret)
    }

    pub(super) fn expose(&self) -> &str {
        self.0.expose()
    }

    pub(super) fn into_secret(self) -> Secret {
        self.0
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}
