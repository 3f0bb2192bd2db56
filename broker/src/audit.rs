//! Where the audit log goes beside the store.

mod checkpoint_file;

pub use checkpoint_file::CheckpointFile;
