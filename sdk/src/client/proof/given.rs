//! A proof that was handed over once.

use super::{Proof, ProofContext, ProofError, ProofFuture, ProofSource};
use crate::wire::Secret;

/// A token that somebody else fetched, such as from an environment variable. It cannot be refreshed.
pub struct Given {
    token: Secret,
    name: String,
    variable: Option<String>,
}

impl Given {
    /// The token itself.
    ///
    /// # Errors
    /// [`ProofError::Malformed`] when it cannot be a token.
    pub fn token(token: Secret) -> Result<Self, ProofError> {
        Proof::new(token.expose())?;
        Ok(Self { token, name: "given".to_owned(), variable: None })
    }

    /// The token that stood in an environment variable.
    ///
    /// # Errors
    /// [`ProofError::Malformed`] when it cannot be a token.
    pub fn from_variable(variable: &str, token: Secret) -> Result<Self, ProofError> {
        Proof::new(token.expose())?;
        Ok(Self { token, name: format!("env:{variable}"), variable: Some(variable.to_owned()) })
    }
}

impl ProofSource for Given {
    fn name(&self) -> &str {
        &self.name
    }

    fn refreshable(&self) -> bool {
        false
    }

    fn variables(&self) -> Vec<String> {
        self.variable.iter().cloned().collect()
    }

    fn fetch<'a>(&'a self, _context: &'a ProofContext<'a>) -> ProofFuture<'a> {
        Box::pin(async { Proof::new(self.token.expose()) })
    }
}
