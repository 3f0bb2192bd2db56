//! Start and stop: signals, and a drain that ends.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// Tells everybody when to stop, and waits for them.
#[derive(Debug)]
pub struct Lifecycle {
    stop: watch::Sender<bool>,
    /// Work that must finish before the process ends.
    pub tasks: TaskTracker,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { stop: watch::Sender::new(false), tasks: TaskTracker::new() }
    }
}

impl Lifecycle {
    /// Turns true when stopping begins.
    #[must_use]
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Resolves when stopping begins.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stopping = self.stop.subscribe();
        async move {
            // A dropped sender means that the process is ending too.
            let _ = stopping.wait_for(|stop| *stop).await;
        }
    }

    /// Begins to stop.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Begins to stop and waits for tracked work, `longest` at most. `false` when something was still running.
    pub async fn drain(&self, longest: Duration) -> bool {
        self.stop();
        self.tasks.close();
        tokio::time::timeout(longest, self.tasks.wait()).await.is_ok()
    }
}

/// What an operator tells the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP: load the bundle again, and confirm the clock.
    Reload,
}

/// The signals that the broker listens to.
#[derive(Debug)]
pub struct Orders {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Orders {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the system does not let the process handle signals.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Carries out what is ordered, one order after the other, until the order is to stop.
    pub async fn until_stopped(&mut self, mut reload: impl AsyncFnMut()) {
        while self.next().await == Order::Reload {
            reload().await;
        }
    }

    async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.terminate.recv() => Order::Stop,
            _ = self.interrupt.recv() => Order::Stop,
            _ = self.hangup.recv() => Order::Reload,
        }
    }
}
