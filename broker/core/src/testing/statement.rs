use serde_json::{Map, Value};

use crate::port::{SigningFailed, StatementSigner};

/// Signs nothing: a statement is its kind and its claims, in clear.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainStatements;

impl StatementSigner for PlainStatements {
    fn sign(&self, kind: &str, claims: Map<String, Value>) -> Result<String, SigningFailed> {
        Ok(format!("{kind} {}", Value::Object(claims)))
    }
}
