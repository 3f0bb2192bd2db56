//! The audit log on standard output, for whatever collects the output of the process.
//!
//! Whoever reads it may stop reading, and then a write never returns. So a thread of its own writes, which nobody waits
//! for without end and which holds up no shutdown.

use std::io::{self, Write};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use async_trait::async_trait;
use hallpass_core::port::{AuditSink, ExportLine, SinkFailed};
use tokio::sync::{Mutex, oneshot};

/// How long one batch may take to be read.
const DEADLINE: Duration = Duration::from_secs(5);

/// Writes to standard output.
#[derive(Debug)]
pub struct StdoutSink {
    name: String,
    deadline: Duration,
    writer: SyncSender<Chunk>,
    progress: Mutex<Progress>,
}

type Chunk = (String, oneshot::Sender<io::Result<()>>);

/// What the thread has done, and is doing.
#[derive(Debug, Default)]
struct Progress {
    /// The place of the first entry that was not written.
    next: u64,
    /// A batch under way, and what comes after it.
    under_way: Option<(oneshot::Receiver<io::Result<()>>, u64)>,
}

impl StdoutSink {
    /// Standard output, remembered as `name`.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn new(name: String) -> io::Result<Self> {
        Self::writing(name, DEADLINE, io::stdout())
    }

    fn writing(name: String, deadline: Duration, mut output: impl Write + Send + 'static) -> io::Result<Self> {
        let (writer, chunks) = sync_channel::<Chunk>(1);
        std::thread::Builder::new().name("audit-stdout".to_owned()).spawn(move || {
            for (text, done) in chunks {
                let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
                // Whoever gave up waiting asks again.
                let _ = done.send(written);
            }
        })?;
        Ok(Self { name, deadline, writer, progress: Mutex::default() })
    }

    /// Waits for what is under way.
    async fn settle(&self, progress: &mut Progress) -> Result<(), SinkFailed> {
        let Some((done, next)) = &mut progress.under_way else { return Ok(()) };
        let next = *next;
        let written = tokio::time::timeout(self.deadline, done).await;
        let Ok(written) = written else {
            return Err(SinkFailed("standard output is not read".to_owned()));
        };
        progress.under_way = None;
        match written {
            Ok(Ok(())) => {
                progress.next = progress.next.max(next);
                Ok(())
            }
            Ok(Err(error)) => Err(SinkFailed(format!("standard output cannot be written: {error}"))),
            Err(_) => Err(SinkFailed("standard output cannot be written any more".to_owned())),
        }
    }
}

#[async_trait]
impl AuditSink for StdoutSink {
    fn name(&self) -> &str {
        &self.name
    }

    async fn take(&self, lines: &[ExportLine]) -> Result<(), SinkFailed> {
        let mut guard = self.progress.lock().await;
        let progress = &mut *guard;
        // What an earlier call gave up on may have been written since.
        self.settle(progress).await?;
        let next = progress.next;
        let left: Vec<_> = lines.iter().filter(|line| line.sequence >= next).collect();
        let Some(last) = left.last() else { return Ok(()) };
        let text = left.iter().fold(String::new(), |text, line| text + &line.text + "\n");
        let (reply, done) = oneshot::channel();
        let gone = |_| SinkFailed("standard output cannot be written any more".to_owned());
        self.writer.try_send((text, reply)).map_err(gone)?;
        progress.under_way = Some((done, last.sequence.saturating_add(1)));
        self.settle(progress).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sequence: u64) -> ExportLine {
        ExportLine { sequence, text: format!("entry {sequence}") }
    }

    #[tokio::test]
    async fn nothing_is_lost_or_written_twice_while_nobody_reads() {
        let (mut reader, writer) = io::pipe().unwrap();
        let sink = StdoutSink::writing("stdout".to_owned(), Duration::from_millis(50), writer).unwrap();
        let long = |sequence| ExportLine { text: "x".repeat(200_000), ..line(sequence) };
        sink.take(&[line(0)]).await.unwrap();
        for _ in 0..3 {
            let error = sink.take(&[long(1)]).await.unwrap_err();
            assert_eq!(error.to_string(), "standard output is not read");
        }
        let read = std::thread::spawn(move || {
            let mut text = String::new();
            io::Read::read_to_string(&mut reader, &mut text).unwrap();
            text
        });
        let mut taken = sink.take(&[long(1), line(2)]).await;
        for _ in 0..100 {
            if taken.is_ok() {
                break;
            }
            taken = sink.take(&[long(1), line(2)]).await;
        }
        taken.unwrap();
        drop(sink);
        assert_eq!(read.join().unwrap(), format!("entry 0\n{}\nentry 2\n", "x".repeat(200_000)));
    }

    #[tokio::test]
    async fn an_output_that_is_closed_is_said_to_be() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let sink = StdoutSink::writing("stdout".to_owned(), DEADLINE, writer).unwrap();
        let error = sink.take(&[line(0)]).await.unwrap_err();
        assert!(error.to_string().starts_with("standard output cannot be written"), "{error}");
    }
}
