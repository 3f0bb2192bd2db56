//! The audit log as a file of JSON lines: each entry once, however often the broker was killed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use hallpass_core::port::{AuditSink, ExportLine, SinkFailed};
use serde_json::Value;

/// How much of the end of a file is looked through for its last line.
const MAX_TAIL_BYTES: u64 = 64 * 1024 * 1024;
/// A file that others rotate is opened anew for each batch.
const CHUNK: u64 = 64 * 1024;

/// Appends to a file.
#[derive(Debug)]
pub struct FileSink {
    name: String,
    path: PathBuf,
}

impl FileSink {
    /// The file at `path`, remembered as `name`.
    #[must_use]
    pub const fn new(name: String, path: PathBuf) -> Self {
        Self { name, path }
    }
}

#[async_trait]
impl AuditSink for FileSink {
    fn name(&self) -> &str {
        &self.name
    }

    async fn take(&self, lines: &[ExportLine]) -> Result<(), SinkFailed> {
        let (path, lines) = (self.path.clone(), lines.to_vec());
        let failed = |error: &dyn std::fmt::Display| SinkFailed(format!("{}: {error}", self.path.display()));
        match tokio::task::spawn_blocking(move || append(&path, &lines)).await {
            Ok(outcome) => outcome.map_err(|error| failed(&error)),
            Err(error) => Err(failed(&error)),
        }
    }
}

fn append(path: &Path, lines: &[ExportLine]) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
    let last = settle(&mut file)?;
    let mut text = String::new();
    for line in lines.iter().filter(|line| last.as_ref().is_none_or(|(last, _)| line.sequence > *last)) {
        text.push_str(&line.text);
        text.push('\n');
    }
    if let Some((last, found)) = last
        && lines.first().is_some_and(|first| last >= first.sequence)
    {
        // What was written before a crash is there, and the same: anything else would be skipped for it.
        let same = lines.iter().find(|line| line.sequence == last).is_some_and(|line| line.text == found);
        if !same {
            let reason = format!(
                "it ends with an entry {last} that this log does not have: it is another log's, or an older database was put back"
            );
            return Err(io::Error::other(reason));
        }
    }
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

/// Cuts off a last line that was not written to its end, and gives the one before with its entry's place.
fn settle(file: &mut File) -> io::Result<Option<(u64, String)>> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut tail: Vec<u8> = Vec::new();
    let mut start = length;
    // Back to the beginning of the last whole line: two line ends, or the beginning of the file.
    while start > 0 && tail.iter().filter(|byte| **byte == b'\n').count() < 2 {
        if length.saturating_sub(start) > MAX_TAIL_BYTES {
            return Err(io::Error::other("its last line has no end"));
        }
        let size = start.min(CHUNK);
        start = start.saturating_sub(size);
        file.seek(SeekFrom::Start(start))?;
        let mut chunk = Vec::new();
        Read::take(&mut *file, size).read_to_end(&mut chunk)?;
        chunk.append(&mut tail);
        tail = chunk;
    }
    let Some(end) = tail.iter().rposition(|byte| *byte == b'\n') else {
        file.set_len(0)?;
        return Ok(None);
    };
    let (whole, cut) = tail.split_at_checked(end).unwrap_or((&tail, &[]));
    let cut = u64::try_from(cut.len()).unwrap_or(0).saturating_sub(1);
    if cut > 0 {
        file.set_len(length.saturating_sub(cut))?;
    }
    let line = whole.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let text = String::from_utf8(line.to_vec()).map_err(io::Error::other)?;
    let event: Value =
        serde_json::from_str(&text).map_err(|_| io::Error::other("its last line is no exported entry"))?;
    let sequence = event.pointer("/metadata/sequence").and_then(Value::as_u64);
    sequence
        .map(|sequence| Some((sequence, text)))
        .ok_or_else(|| io::Error::other("its last line is no exported entry"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sequence: u64, what: &str) -> ExportLine {
        ExportLine { sequence, text: format!(r#"{{"metadata":{{"sequence":{sequence}}},"what":"{what}"}}"#) }
    }

    fn lines(places: std::ops::Range<u64>) -> Vec<ExportLine> {
        places.map(|n| line(n, "x")).collect()
    }

    fn written(lines: &[ExportLine]) -> String {
        lines.iter().fold(String::new(), |text, line| text + &line.text + "\n")
    }

    #[tokio::test]
    async fn each_entry_is_there_once_whatever_was_written_before_a_crash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let sink = FileSink::new("file".to_owned(), path.clone());
        sink.take(&lines(0..3)).await.unwrap();
        // Written, and not remembered as written.
        sink.take(&lines(0..5)).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), written(&lines(0..5)));
        for cut in [1, 7, 30] {
            let whole = written(&lines(0..5));
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            sink.take(&lines(3..7)).await.unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), written(&lines(0..7)), "{cut} bytes cut");
        }
        std::fs::write(&path, "half a li").unwrap();
        sink.take(&lines(7..8)).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), written(&lines(7..8)));
        std::fs::remove_file(&path).unwrap();
        sink.take(&lines(8..9)).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), written(&lines(8..9)), "rotated away");
    }

    #[tokio::test]
    async fn a_long_last_line_is_found_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let sink = FileSink::new("file".to_owned(), path.clone());
        let long = [line(0, "x"), line(1, &"y".repeat(300_000))];
        sink.take(&long).await.unwrap();
        sink.take(&[&long[1..], &[line(2, "z")]].concat()).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), written(&[&long[..], &[line(2, "z")]].concat()));
    }

    #[tokio::test]
    async fn another_logs_file_is_not_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let sink = FileSink::new("file".to_owned(), path.clone());
        sink.take(&lines(0..9)).await.unwrap();
        let before = std::fs::read(&path).unwrap();
        sink.take(&lines(3..5)).await.unwrap_err();
        sink.take(&[line(8, "another")]).await.unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), before);
        std::fs::write(&path, "something else\n").unwrap();
        let error = sink.take(&lines(9..10)).await.unwrap_err();
        assert!(error.to_string().contains("audit.jsonl: its last line is no exported entry"), "{error}");
    }
}
