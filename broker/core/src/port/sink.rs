//! Where the audit log is taken to as it grows.

use async_trait::async_trait;

/// Takes entries away. It may be given an entry again that it has taken before: each has its place, by which that shows.
#[async_trait]
pub trait AuditSink: Send + Sync + 'static {
    /// Its name, under which it is remembered how far it has come. Another name begins from the first entry.
    fn name(&self) -> &str;

    /// Takes lines, in their order. Answers when they are where they are to be, and within a bounded time.
    ///
    /// # Errors
    /// [`SinkFailed`]; all of them are given to it again.
    async fn take(&self, lines: &[ExportLine]) -> Result<(), SinkFailed>;
}

/// An entry on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportLine {
    /// Its place in the log.
    pub sequence: u64,
    /// Its event, one line without its end.
    pub text: String,
}

/// Lines were not taken; the text says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SinkFailed(pub String);
