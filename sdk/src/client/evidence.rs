//! The audit log, and what it proves.

use serde_json::Value;

use super::Client;
use super::call::Call;
use super::error::Error;
use crate::wire::{AuditEntry, AuditQuery, ConsistencyProof, InclusionProof, Page};

impl Client {
    /// `GET /v1/audit`: one page of the audit entries that match, oldest first.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditEntry>, Error> {
        let mut pairs = Vec::new();
        if let Ok(Value::Object(fields)) = serde_json::to_value(query) {
            pairs.extend(fields.into_iter().map(|(name, value)| match value {
                Value::String(text) => (name, text),
                other => (name, other.to_string()),
            }));
        }
        self.answer(self.evidence(&[], &pairs)?).await
    }

    /// `GET /v1/audit/checkpoint`: what the log has come to, signed (C2SP tlog-checkpoint). Keep it: who has one can tell
    /// later whether anything before it was changed.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn audit_checkpoint(&self) -> Result<String, Error> {
        self.reply(self.evidence(&["checkpoint"], &[])?).await?.into_text()
    }

    /// `GET /v1/audit/proof?entry=…`: the entry is in the log of `size` entries, or of all that there are.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn audit_inclusion(&self, entry: u64, size: Option<u64>) -> Result<InclusionProof, Error> {
        self.answer(self.evidence(&["proof"], &numbers("entry", entry, size))?).await
    }

    /// `GET /v1/audit/proof?from=…`: the log of `size` entries, or of all that there are, begins with the first `from`.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn audit_consistency(&self, from: u64, size: Option<u64>) -> Result<ConsistencyProof, Error> {
        self.answer(self.evidence(&["proof"], &numbers("from", from, size))?).await
    }

    fn evidence(&self, below: &[&str], query: &[(String, String)]) -> Result<Call, Error> {
        let mut url = self.url(&[&["v1", "audit"], below].concat())?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(Call::get(url))
    }
}

fn numbers(name: &str, number: u64, size: Option<u64>) -> Vec<(String, String)> {
    let size = size.map(|size| ("size".to_owned(), size.to_string()));
    [(name.to_owned(), number.to_string())].into_iter().chain(size).collect()
}
