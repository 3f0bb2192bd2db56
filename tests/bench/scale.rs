//! What many live grants cost: a restart among them, and many of them that end at once.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hallpass_tests::unix_now;
use tokio::net::TcpStream;

use crate::broker::{BenchedBroker, Memory, Transport, role};
use crate::ledger::{self, Ending, Ledger};
use crate::load::Load;
use crate::proofs::Proofs;
use crate::report;
use crate::revocation;
use crate::wire::{After, Connection, Shown};

/// Clients that exchange proofs meanwhile.
pub(crate) const CLIENTS: usize = 8;
/// How often a restart is measured; the longest counts.
const RESTARTS: usize = 3;
/// How long clients work before the broker is killed.
const BEFORE_KILL: Duration = Duration::from_secs(2);
/// How long a start and the beginning of a load may take before grants are due.
const LEAD: Duration = Duration::from_secs(8);
/// How long grants may stay due before this gives up.
const LONGEST_ENDING: Duration = Duration::from_secs(120);

/// How many grants.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scale {
    /// Live while the broker is started again.
    pub(crate) restart: Option<u64>,
    /// Due in one second.
    pub(crate) due: Option<u64>,
    /// Live while a tenth of them is revoked at once.
    pub(crate) revoke: Option<u64>,
}

impl Scale {
    pub(crate) fn is_asked_for(self) -> bool {
        self.restart.is_some() || self.due.is_some() || self.revoke.is_some()
    }

    /// All on one ledger, in which the grants that are due are among those that live on.
    pub(crate) async fn measure(self, program: &Path) -> anyhow::Result<()> {
        let mut broker = BenchedBroker::start(program, Transport::Plain).await?;
        let proof = one_proof(&broker);
        let mut connection = Connection::new(TcpStream::connect(broker.listen).await?);
        connection.exchange(&proof, &role(0), After::Close).await?;
        broker.stop().await?;

        let live = [self.restart, self.revoke, self.due.map(|due| due.saturating_mul(2))].into_iter().flatten().max();
        let live = live.unwrap_or(0);
        ensure!(live > 0, "a ledger has at least one grant");
        let began = now();
        Ledger::open(&broker.database())?.fill(live, unix_now() * 1000)?;
        let size = std::fs::metadata(broker.database())?.len() / 1_000_000;
        report::fact(
            "ledger",
            &format!("{live} live grants, {size} MB, made in {:.0} s", began.elapsed().as_secs_f64()),
        );
        // The first start completes what the copying left out.
        broker.start_again().await?;
        broker.stop().await?;

        let mut memory = Vec::new();
        if let Some(live) = self.restart {
            restart(&mut broker, live, &mut memory).await?;
        }
        if self.revoke.is_some() {
            report::heading();
            revocation::measure(&mut broker, &mut memory).await?;
        }
        if let Some(due) = self.due {
            report::heading();
            end_at_once(&mut broker, Ending::ByItself, due, &mut memory).await?;
            end_at_once(&mut broker, Ending::ByTheBroker, due, &mut memory).await?;
        }
        let highest = memory.iter().map(|memory| memory.highest).max().unwrap_or(0);
        report::reached("memory throughout", &format!("{} MB at most", highest / 1024), "< 200 MB");
        Ok(())
    }
}

/// Starts it again after it was told to stop, and after it was killed at work.
async fn restart(broker: &mut BenchedBroker, live: u64, memory: &mut Vec<Memory>) -> anyhow::Result<()> {
    let mut longest = Duration::ZERO;
    for _ in 0..RESTARTS {
        let proof = one_proof(broker);
        longest = longest.max(broker.time_to_first_token(&proof).await?);
        memory.push(broker.memory()?);
        broker.stop().await?;
    }
    let expected = format!("< 3 s with 1,000,000; these are {live}");
    report::reached("restart after a stop", &format!("{:.2} s to the first token", longest.as_secs_f64()), &expected);

    let mut longest = Duration::ZERO;
    for _ in 0..RESTARTS {
        broker.start_again().await?;
        let proofs = sign(broker, PROOFS_BEFORE_KILL);
        Load { clients: CLIENTS, longest: BEFORE_KILL, proofs }.run(broker).await?;
        broker.kill9().await?;
        let proof = one_proof(broker);
        longest = longest.max(broker.time_to_first_token(&proof).await?);
        memory.push(broker.memory()?);
        broker.stop().await?;
    }
    report::reached("restart after kill -9", &format!("{:.2} s to the first token", longest.as_secs_f64()), &expected);
    Ok(())
}

/// More than can be exchanged before the broker is killed.
pub(crate) const PROOFS_BEFORE_KILL: usize = 20_000;

/// Has `due` grants end at one instant, under load.
async fn end_at_once(
    broker: &mut BenchedBroker,
    ending: Ending,
    due: u64,
    memory: &mut Vec<Memory>,
) -> anyhow::Result<()> {
    // What clients can do here while nothing is due, to compare with; and how many proofs they will need.
    broker.start_again().await?;
    let quiet = Load { clients: CLIENTS, longest: Duration::from_secs(3), proofs: sign(broker, PROOFS_BEFORE_KILL) };
    let quiet = quiet.run(broker).await?;
    broker.stop().await?;
    let longest = Duration::from_secs(30) + LEAD;
    let prepared = sign(broker, (quiet.per_second() * longest.as_secs_f64() * 1.2) as usize);

    // To mark them takes time, too.
    let at = unix_now() * 1000 + i64::try_from(LEAD.as_millis())? + i64::try_from(due / 50)?;
    Ledger::open(&broker.database())?.make_due(ending, due, at)?;
    broker.start_again().await?;
    ensure!(unix_now() * 1000 < at, "the start took so long that the grants were due before it");
    let database = broker.database();
    let load = Load { clients: CLIENTS, longest: LONGEST_ENDING, proofs: prepared };
    let (measured, took) = load.run_beside(broker, async move { ended(&database, at).await }).await?;
    let (what, how) = match ending {
        Ending::ByItself => ("due by their own time", "expired"),
        Ending::ByTheBroker => ("to be ended by the broker", "ended"),
    };
    report::named_line("while nothing is due", CLIENTS, &quiet);
    report::named_line(what, CLIENTS, &measured);
    let took = took.context("the proofs were used up before all grants had ended")?;
    let p99 = measured.latency.value_at_quantile(0.99) as f64 / 1000.0;
    report::reached(
        &format!("{due} at once"),
        &format!("all {how} {:.1} s after they were due, p99 {p99:.1} ms", took.as_secs_f64()),
        "100,000 within 30 s, p99 < 100 ms",
    );
    memory.push(broker.memory()?);
    report::named_memory(what, &broker.memory()?);
    broker.stop().await
}

/// Awaits that nothing of what was due at `at` waits; how long after that instant it was so.
async fn ended(database: &Path, at: i64) -> anyhow::Result<Duration> {
    let began = now();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tick.tick().await;
        ensure!(began.elapsed() < LONGEST_ENDING, "{} grants are still due", ledger::waiting(database, at)?);
        let since = unix_millis().saturating_sub(at);
        if since > 0 && ledger::waiting(database, at)? == 0 {
            return Ok(Duration::from_millis(u64::try_from(unix_millis().saturating_sub(at))?));
        }
    }
}

fn one_proof(broker: &BenchedBroker) -> String {
    Proofs::of(&broker.issuer, &broker.key).one(0)
}

pub(crate) fn sign(broker: &BenchedBroker, count: usize) -> Vec<Shown> {
    Proofs::of(&broker.issuer, &broker.key).sign(count)
}

#[expect(clippy::disallowed_methods, reason = "the time that passes is what is measured")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the broker's grants are due by the system's clock")]
fn unix_millis() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
