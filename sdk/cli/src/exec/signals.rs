//! Signals that end a process: caught, so that the grant is not left open, and passed on to the command.

use std::fs::File;

use rustix::process::{Pid, Signal, getpgrp, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};

/// A signal that this process received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caught(Signal);

/// The signals received since they began to be caught.
pub(super) struct Signals {
    caught: Receiver<Caught>,
}

impl Signals {
    /// Catches SIGINT, SIGTERM, SIGHUP and SIGQUIT from now on.
    pub(super) fn catch() -> std::io::Result<Self> {
        let (tell, caught) = channel(16);
        for (kind, number) in [
            (SignalKind::interrupt(), Signal::INT),
            (SignalKind::terminate(), Signal::TERM),
            (SignalKind::hangup(), Signal::HUP),
            (SignalKind::quit(), Signal::QUIT),
        ] {
            let mut stream = signal(kind)?;
            let tell = tell.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    if tell.send(Caught(number)).await.is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self { caught })
    }

    /// A signal that came before there was a command to pass it on to.
    pub(super) fn already_caught(&mut self) -> Option<Caught> {
        self.caught.try_recv().ok()
    }

    pub(super) async fn next(&mut self) -> Caught {
        match self.caught.recv().await {
            Some(caught) => caught,
            // The tasks that send live as long as the runtime.
            None => std::future::pending().await,
        }
    }
}

impl Caught {
    pub(super) const TERMINATE: Self = Self(Signal::TERM);

    /// The status that a shell reports for a process which this signal ended.
    pub(super) fn exit_status(self) -> u8 {
        u8::try_from(self.0.as_raw()).map_or(u8::MAX, |number| number.saturating_add(128))
    }

    /// Whether the terminal's keys sent it, to the command as well: in the foreground the terminal signals the whole
    /// process group. Many programs take a second interrupt for "give up cleaning up".
    pub(super) fn terminal_has_sent_it(self) -> bool {
        if self.0 != Signal::INT && self.0 != Signal::QUIT {
            return false;
        }
        let Ok(terminal) = File::open("/dev/tty") else { return false };
        rustix::termios::tcgetpgrp(&terminal).is_ok_and(|foreground| foreground == getpgrp())
    }

    pub(super) fn send_to(self, process: u32) {
        // A process that is gone needs no signal.
        if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
            let _ = kill_process(process, self.0);
        }
    }
}
