//! Where the audit log goes beside the store.

mod checkpoint_file;
mod file_sink;
mod https_sink;
mod stdout_sink;

pub use checkpoint_file::CheckpointFile;
pub use file_sink::FileSink;
pub use https_sink::HttpsSink;
pub use stdout_sink::StdoutSink;
