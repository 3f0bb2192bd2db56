//! Takes the audit log away, entry by entry, to one destination: from where it had come, which is durable, in order, and
//! never over one that could not be taken.

use crate::audit::event;
use crate::port::{ExportLine, SinkFailed, StoreError};
use crate::service::{Export, Ports};

/// Entries that one tick takes at most.
const BATCH: usize = 500;
/// Bytes that one tick takes at most, unless one entry alone has more.
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// What a tick did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Entries that were taken.
    pub taken: usize,
    /// Entries that wait.
    pub lag: u64,
}

/// Why a tick took nothing away. The next one tries again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportFailed {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The destination does not take it.
    #[error(transparent)]
    Sink(#[from] SinkFailed),
    /// An entry cannot be written as an event.
    #[error("entry {sequence} cannot be exported: {error}")]
    Entry {
        /// Which.
        sequence: u64,
        /// Why.
        error: event::UnreadableEntry,
    },
}

/// Takes what comes next to the destination, and remembers how far it has come.
///
/// # Errors
/// [`ExportFailed`].
pub async fn tick(ports: &Ports, export: &Export) -> Result<Exported, ExportFailed> {
    let from = export.next();
    let mut lines = Vec::new();
    let mut bytes = 0_usize;
    for leaf in ports.store.leaves(from, BATCH).await? {
        let sequence = leaf.sequence();
        let text = event::line_of(&leaf).map_err(|error| ExportFailed::Entry { sequence, error })?;
        bytes = bytes.saturating_add(text.len());
        if bytes > BATCH_BYTES && !lines.is_empty() {
            break;
        }
        lines.push(ExportLine { sequence, text });
    }
    if let Some(last) = lines.last() {
        let next = last.sequence.saturating_add(1);
        export.sink.take(&lines).await?;
        ports.store.advance_export(export.sink.name(), next).await?;
        export.advance(next);
    }
    Ok(Exported { taken: lines.len(), lag: export.lag(ports.store.log_size()) })
}
