//! Who has connected to the control socket and has not said yet what it wants.
//!
//! Whoever connects and says nothing costs a descriptor, and must cost nobody else anything: callers are heard side by
//! side, each for a short time, and where there are too many the one that has been silent for longest makes room. A command
//! says what it wants as soon as it is connected.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// Callers that are heard at once.
pub(super) const CALLERS: usize = 128;
/// How long one may take to say what it wants.
const SAID_WITHIN: Duration = Duration::from_secs(2);
/// Longest request in bytes: one brings certificates.
const MAX_LINE: u64 = 96 * 1024;

/// Somebody who has said what it wants.
pub(super) struct Asked {
    pub(super) stream: UnixStream,
    pub(super) line: String,
}

/// Those who are heard. Dropped, it hears nobody any longer.
pub(super) struct Callers {
    hearing: JoinSet<()>,
    /// The longest silent first.
    silent: VecDeque<AbortHandle>,
    said: mpsc::Sender<Asked>,
}

impl Callers {
    /// What they say goes to `said`, as far as there is room.
    pub(super) fn new(said: mpsc::Sender<Asked>) -> Self {
        Self { hearing: JoinSet::new(), silent: VecDeque::new(), said }
    }

    /// Hears one more.
    pub(super) fn hear(&mut self, stream: UnixStream) {
        while self.hearing.try_join_next().is_some() {}
        self.silent.retain(|caller| !caller.is_finished());
        if self.silent.len() >= CALLERS
            && let Some(silent) = self.silent.pop_front()
        {
            tracing::warn!("too many callers at the control socket say nothing; the first of them was sent away");
            silent.abort();
        }
        let said = self.said.clone();
        self.silent.push_back(self.hearing.spawn(async move {
            match timeout(SAID_WITHIN, heard(stream)).await {
                // With no room for it, it is closed: so many others have said what they want and wait.
                Ok(Ok(asked)) => drop(said.try_send(asked)),
                Ok(Err(_)) | Err(_) => tracing::warn!("a caller at the control socket did not finish its request"),
            }
        }));
    }
}

async fn heard(mut stream: UnixStream) -> io::Result<Asked> {
    let mut line = String::new();
    BufReader::new((&mut stream).take(MAX_LINE)).read_line(&mut line).await?;
    Ok(Asked { stream, line })
}
