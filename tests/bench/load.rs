//! Clients that exchange proofs as fast as they are answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use rustls::HandshakeKind;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::broker::{BenchedBroker, role, server_name};
use crate::machine::CpuTime;
use crate::wire::{After, Connection, Shown};

/// One run.
pub(crate) struct Load {
    pub(crate) clients: usize,
    pub(crate) longest: Duration,
    pub(crate) proofs: Vec<Shown>,
}

/// What a run showed.
pub(crate) struct Measured {
    pub(crate) tokens: u64,
    pub(crate) took: Duration,
    /// Microseconds from before a request, or its connection, to the end of its answer.
    pub(crate) latency: Histogram<u64>,
    /// Connections that resumed a session.
    pub(crate) resumed: u64,
    /// Processor time of the broker, and of the load itself.
    pub(crate) broker: Duration,
    pub(crate) load: Duration,
}

/// What the clients share.
struct Shared {
    proofs: Vec<Shown>,
    next: AtomicUsize,
    until: Instant,
    over: AtomicBool,
}

/// What one client saw.
struct Seen {
    latency: Histogram<u64>,
    resumed: u64,
}

/// How many proofs the short run has, and the real one at least.
const TRIAL_PROOFS: usize = 12_000;
/// More proofs than the short run foretells: a run that is faster must not end early.
const SPARE: f64 = 1.4;

/// A load of `seconds` with proofs enough, and the tokens of a short run first: it fills caches, and tells how many proofs
/// the real one needs.
pub(crate) async fn sized(
    broker: &BenchedBroker,
    clients: usize,
    seconds: u64,
    sign: impl Fn(usize) -> Vec<Shown>,
) -> anyhow::Result<(u64, Load)> {
    let trial = Load { clients, longest: Duration::from_secs(1), proofs: sign(TRIAL_PROOFS) };
    let trial = trial.run(broker).await?;
    let wanted = trial.per_second() * seconds as f64 * SPARE;
    let proofs = sign((wanted as usize).max(TRIAL_PROOFS));
    Ok((trial.tokens, Load { clients, longest: Duration::from_secs(seconds), proofs }))
}

impl Load {
    pub(crate) async fn run(self, broker: &BenchedBroker) -> anyhow::Result<Measured> {
        self.run_beside(broker, std::future::pending::<anyhow::Result<()>>()).await.map(|(measured, _)| measured)
    }

    /// Runs until `work` is done, whose outcome it gives; no longer than its own time.
    pub(crate) async fn run_beside<T>(
        self,
        broker: &BenchedBroker,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<(Measured, Option<T>)> {
        let (broker_before, load_before) = (CpuTime::of(broker.process_id())?, CpuTime::of(std::process::id())?);
        let started = now();
        let shared = Arc::new(Shared {
            proofs: self.proofs,
            next: AtomicUsize::new(0),
            until: started + self.longest,
            over: AtomicBool::new(false),
        });
        let mut clients = JoinSet::new();
        for number in 0..self.clients {
            let (shared, listen, new_each) = (Arc::clone(&shared), broker.listen, broker.connections.new_each);
            let tls = broker.connections.tls_of(number).map(TlsConnector::from);
            clients.spawn(async move {
                match tls {
                    None => keep_one_connection(&shared, connect(listen).await?).await,
                    Some(tls) if new_each => connect_each_time(&shared, listen, tls).await,
                    Some(tls) => keep_one_connection(&shared, connect_over(&tls, listen).await?).await,
                }
            });
        }
        let mut latency = Histogram::new(3)?;
        let mut resumed = 0;
        let mut done = None;
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                ended = clients.join_next() => {
                    let Some(ended) = ended else { break };
                    let seen = ended?.with_context(|| broker.log())?;
                    latency.add(seen.latency)?;
                    resumed += seen.resumed;
                }
                finished = &mut work, if done.is_none() => {
                    done = Some(finished?);
                    shared.over.store(true, Ordering::Relaxed);
                }
            }
        }
        let measured = Measured {
            tokens: latency.len(),
            took: started.elapsed(),
            latency,
            resumed,
            broker: CpuTime::of(broker.process_id())?.since(&broker_before),
            load: CpuTime::of(std::process::id())?.since(&load_before),
        };
        Ok((measured, done))
    }
}

impl Measured {
    pub(crate) fn per_second(&self) -> f64 {
        self.tokens as f64 / self.took.as_secs_f64()
    }
}

impl Shared {
    /// The next proof with its number; `None` when the time is over, or the proofs are.
    fn next(&self) -> Option<(usize, &Shown)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let proof = self.proofs.get(number)?;
        let goes_on = now() < self.until && !self.over.load(Ordering::Relaxed);
        goes_on.then_some((number, proof))
    }
}

impl Seen {
    fn nothing() -> anyhow::Result<Self> {
        Ok(Self { latency: Histogram::new(3)?, resumed: 0 })
    }

    fn record(&mut self, since: Instant) -> anyhow::Result<()> {
        Ok(self.latency.record(u64::try_from(since.elapsed().as_micros())?)?)
    }
}

async fn connect(listen: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(listen).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn connect_over(tls: &TlsConnector, listen: SocketAddr) -> anyhow::Result<TlsStream<TcpStream>> {
    Ok(tls.connect(server_name()?, connect(listen).await?).await?)
}

async fn keep_one_connection(shared: &Shared, stream: impl AsyncRead + AsyncWrite + Unpin) -> anyhow::Result<Seen> {
    let mut connection = Connection::new(stream);
    let mut seen = Seen::nothing()?;
    while let Some((number, proof)) = shared.next() {
        let started = now();
        connection.ask(proof, &role(number), After::Keep).await?;
        seen.record(started)?;
    }
    Ok(seen)
}

async fn connect_each_time(shared: &Shared, listen: SocketAddr, tls: TlsConnector) -> anyhow::Result<Seen> {
    let mut seen = Seen::nothing()?;
    while let Some((number, proof)) = shared.next() {
        let started = now();
        let stream = connect_over(&tls, listen).await?;
        seen.resumed += u64::from(stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed));
        Connection::new(stream).ask(proof, &role(number), After::Close).await?;
        seen.record(started)?;
    }
    Ok(seen)
}

#[expect(clippy::disallowed_methods, reason = "the time that passes is what is measured")]
fn now() -> Instant {
    Instant::now()
}
