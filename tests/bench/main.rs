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
mod policies;
mod proofs;
mod report;
mod revocation;
mod scale;
mod ways;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};

use crate::broker::{BenchedBroker, Transport};
use crate::load::Measured;
use crate::proofs::Proofs;
use crate::scale::Scale;

/// What the command line asks for.
struct Arguments {
    broker: PathBuf,
    /// How long for each number of clients.
    seconds: Option<u64>,
    clients: Vec<usize>,
    tls_clients: Vec<usize>,
    profile: Option<PathBuf>,
    scale: Scale,
    /// How many leases are to end at once, where real backends are measured.
    backends: Option<usize>,
    /// Whether the ways to prove oneself are measured.
    proofs: bool,
    /// Whether bundles of growing size are.
    policies: bool,
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
    if arguments.proofs {
        return ways::measure(&arguments.broker, arguments.seconds.unwrap_or(5), &arguments.tls_clients).await;
    }
    if arguments.policies {
        return policies::measure(&arguments.broker, arguments.seconds.unwrap_or(10)).await;
    }
    let seconds = arguments.seconds.unwrap_or(10);
    if let Some(leases) = arguments.backends {
        return backends::measure(&arguments.broker, seconds, &arguments.clients, leases).await;
    }
    report::heading();
    measure(arguments, Transport::Plain, &arguments.clients, seconds).await?;
    measure(arguments, Transport::Tls, &arguments.tls_clients, seconds).await
}

/// Measures one way to connect, on a broker and a ledger of its own.
async fn measure(arguments: &Arguments, transport: Transport, clients: &[usize], seconds: u64) -> anyhow::Result<()> {
    if clients.is_empty() {
        return Ok(());
    }
    let mut broker = BenchedBroker::start(&arguments.broker, transport).await?;
    let proofs = Proofs::of(&broker.issuer, &broker.key);
    let mut granted = 0;
    let mut profiled = false;
    for &clients in clients {
        let (before, load) = load::sized(&broker, clients, seconds, |count| proofs.sign(count)).await?;
        granted += before;
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

impl Arguments {
    fn parse(mut given: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut parsed = Self {
            broker: PathBuf::new(),
            seconds: None,
            clients: vec![1, 8, 64],
            tls_clients: vec![8, 64],
            profile: None,
            scale: Scale::default(),
            backends: None,
            proofs: false,
            policies: false,
        };
        while let Some(name) = given.next() {
            match name.as_str() {
                "--proofs" => {
                    parsed.proofs = true;
                    continue;
                }
                "--policies" => {
                    parsed.policies = true;
                    continue;
                }
                _ => {}
            }
            let value = given.next().with_context(|| format!("{name} needs a value"))?;
            let list = || {
                let numbers = value.split(',').filter(|number| !number.is_empty()).map(str::parse);
                numbers.collect::<Result<Vec<usize>, _>>().with_context(|| format!("{name} {value}"))
            };
            match name.as_str() {
                "--broker" => parsed.broker = value.into(),
                "--seconds" => parsed.seconds = Some(value.parse().with_context(|| format!("{name} {value}"))?),
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
        ensure!(parsed.seconds != Some(0), "--seconds is at least 1");
        ensure!(!parsed.clients.contains(&0) && !parsed.tls_clients.contains(&0), "a load has at least one client");
        Ok(parsed)
    }
}
