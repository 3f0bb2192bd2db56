//! Measures how fast the broker exchanges proofs for tokens, and what that costs.
//!
//! The broker is the release binary, as it is deployed: single use of proofs on, every grant durable before its token
//! leaves. The load generator shares the machine with it, so it is lean: proofs are signed before the clock starts,
//! requests are written as bytes, answers are looked at no more than to see that they carry a token. At the end the
//! ledger must have one grant for each token that was received.

mod backends;
mod broker;
mod ledger;
mod load;
mod machine;
mod proofs;
mod report;
mod revocation;
mod scale;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::broker::{BenchedBroker, Transport};
use crate::load::{Load, Measured};
use crate::proofs::Proofs;
use crate::scale::Scale;

/// What the command line asks for.
struct Arguments {
    broker: PathBuf,
    seconds: u64,
    clients: Vec<usize>,
    tls_clients: Vec<usize>,
    profile: Option<PathBuf>,
    scale: Scale,
    /// How many leases are to end at once, where real backends are measured.
    backends: Option<usize>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    rustls::crypto::ring::default_provider().install_default().ok().context("a TLS provider is installed already")?;
    // As many as the machine the figures are stated for has cores; more would only take them from the broker.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(&arguments))?;
    Ok(ExitCode::SUCCESS)
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    report::machine(&machine::facts()?);
    if arguments.scale.is_asked_for() {
        return arguments.scale.measure(&arguments.broker).await;
    }
    if let Some(leases) = arguments.backends {
        return backends::measure(&arguments.broker, arguments.seconds, &arguments.clients, leases).await;
    }
    report::heading();
    measure(arguments, Transport::Plain, &arguments.clients).await?;
    measure(arguments, Transport::Tls, &arguments.tls_clients).await
}

/// Measures one way to connect, on a broker and a ledger of its own.
async fn measure(arguments: &Arguments, transport: Transport, clients: &[usize]) -> anyhow::Result<()> {
    if clients.is_empty() {
        return Ok(());
    }
    let mut broker = BenchedBroker::start(&arguments.broker, transport).await?;
    let proofs = Proofs::of(&broker.issuer, &broker.key);
    let mut granted = 0;
    let mut profiled = false;
    for &clients in clients {
        // A short run first: it fills caches, and tells how many proofs the real one needs.
        let trial = Load { clients, longest: Duration::from_secs(1), proofs: proofs.sign(TRIAL_PROOFS) };
        let trial = trial.run(&broker).await?;
        granted += trial.tokens;
        let wanted = trial.per_second() * arguments.seconds as f64 * SPARE;
        let load = Load {
            clients,
            longest: Duration::from_secs(arguments.seconds),
            proofs: proofs.sign((wanted as usize).max(TRIAL_PROOFS)),
        };
        let profile = arguments.profile.as_ref().filter(|_| transport == Transport::Plain && !profiled);
        let profile = profile.filter(|_| Some(&clients) == arguments.clients.iter().max());
        let profiler = profile.map(|file| broker.profile(file)).transpose()?;
        let measured: Measured = load.run(&broker).await?;
        if let Some(profiler) = profiler {
            profiler.finish()?;
            profiled = true;
        }
        granted += measured.tokens;
        report::line(transport, clients, &measured);
    }
    report::memory(transport, &broker.memory()?);
    broker.stop().await?;
    let recorded = broker.grants()?;
    ensure!(recorded == granted, "{granted} tokens were received and {recorded} grants are in the ledger");
    report::kept(granted);
    Ok(())
}

/// Proofs for the short run.
const TRIAL_PROOFS: usize = 12_000;
/// More proofs than the trial foretells: a run that is faster must not end early.
const SPARE: f64 = 1.4;

impl Arguments {
    fn parse(mut given: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut parsed = Self {
            broker: PathBuf::new(),
            seconds: 10,
            clients: vec![1, 8, 64],
            tls_clients: vec![8, 64],
            profile: None,
            scale: Scale::default(),
            backends: None,
        };
        while let Some(name) = given.next() {
            let value = given.next().with_context(|| format!("{name} needs a value"))?;
            let list = || {
                let numbers = value.split(',').filter(|number| !number.is_empty()).map(str::parse);
                numbers.collect::<Result<Vec<usize>, _>>().with_context(|| format!("{name} {value}"))
            };
            match name.as_str() {
                "--broker" => parsed.broker = value.into(),
                "--seconds" => parsed.seconds = value.parse().with_context(|| format!("{name} {value}"))?,
                "--clients" => parsed.clients = list()?,
                "--tls-clients" => parsed.tls_clients = list()?,
                "--restart" => parsed.scale.restart = Some(value.parse().with_context(|| format!("{name} {value}"))?),
                "--due" => parsed.scale.due = Some(value.parse().with_context(|| format!("{name} {value}"))?),
                "--revoke" => parsed.scale.revoke = Some(value.parse().with_context(|| format!("{name} {value}"))?),
                "--backends" => parsed.backends = Some(value.parse().with_context(|| format!("{name} {value}"))?),
                "--profile" => parsed.profile = Some(value.into()),
                _ => anyhow::bail!("unknown argument: {name}"),
            }
        }
        ensure!(parsed.broker.is_file(), "--broker names the broker's binary");
        ensure!(parsed.seconds > 0, "--seconds is at least 1");
        ensure!(!parsed.clients.contains(&0) && !parsed.tls_clients.contains(&0), "a load has at least one client");
        Ok(parsed)
    }
}
