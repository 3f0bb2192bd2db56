//! What it takes to revoke a set: a tenth of a large ledger, by commit, while clients go on.
#![expect(clippy::indexing_slicing, reason = "a member that JSON does not have reads as null")]

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hallpass_tests::config::OPERATOR;
use rusqlite::{Connection as Database, OpenFlags};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::broker::{BenchedBroker, Memory, role};
use crate::ledger::COMMIT;
use crate::load::Load;
use crate::proofs::Proofs;
use crate::report;
use crate::scale::{CLIENTS, PROOFS_BEFORE_KILL, now, sign};
use crate::wire::{After, Connection};

/// How long the rows of the set may take before this gives up.
const LONGEST: Duration = Duration::from_secs(60);

/// A workload that holds a grant of the set, and one beside it.
const WITNESS: &str = "repo:acme@111/witness@222:ref:refs/heads/main";

/// How long it took, from the request on.
struct Took {
    answered: Duration,
    /// Until a token of the set was told to be inactive.
    inactive: Duration,
    completed: Duration,
    matched: u64,
}

pub(crate) async fn measure(broker: &mut BenchedBroker, memory: &mut Vec<Memory>) -> anyhow::Result<()> {
    broker.start_again().await?;
    let quiet = Load { clients: CLIENTS, longest: Duration::from_secs(3), proofs: sign(broker, PROOFS_BEFORE_KILL) };
    let quiet = quiet.run(broker).await?;

    let mut operator = Operator::connect(broker).await?;
    let witness = operator.open(&[("sha", COMMIT)]).await?;
    let spared = operator.open(&[]).await?;
    ensure!(operator.is_active(&witness).await?, "the witness is inactive before anybody revoked it");
    let expected = matching(&broker.database())?;

    let prepared = sign(broker, (quiet.per_second() * LONGEST.as_secs_f64() * 0.5) as usize);
    let load = Load { clients: CLIENTS, longest: LONGEST, proofs: prepared };
    let work = async {
        let took = operator.revoke(&witness).await?;
        ensure!(operator.is_active(&spared).await?, "a grant of no commit was ended with the set");
        Ok(took)
    };
    let (measured, took) = load.run_beside(broker, work).await?;
    let took = took.context("the proofs were used up before the set had ended")?;
    memory.push(broker.memory()?);
    broker.stop().await?;

    let matched = took.matched;
    ensure!(matched == expected, "{expected} grants are of the commit and {matched} were matched");
    let (ended, others) = outcome(&broker.database())?;
    ensure!((ended, others) == (expected, 0), "{ended} of {expected} have ended, and {others} that are not of the set");
    report::named_line("while nothing is revoked", CLIENTS, &quiet);
    report::named_line("while a set is revoked", CLIENTS, &measured);
    let p99 = measured.latency.value_at_quantile(0.99) as f64 / 1000.0;
    report::reached(
        &format!("{matched} revoked, exactly"),
        &format!(
            "answered after {:.3} s, its tokens inactive after {:.3} s, all rows after {:.1} s, p99 {p99:.1} ms",
            took.answered.as_secs_f64(),
            took.inactive.as_secs_f64(),
            took.completed.as_secs_f64()
        ),
        "100,000 of 1,000,000: < 1 s, < 1 s, 10 s, p99 < 100 ms",
    );
    Ok(())
}

/// Somebody of the team that owns the roles.
struct Operator<'a> {
    connection: Connection<TcpStream>,
    proofs: Proofs<'a>,
}

impl<'a> Operator<'a> {
    async fn connect(broker: &'a BenchedBroker) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(broker.listen).await?;
        stream.set_nodelay(true)?;
        Ok(Self { connection: Connection::new(stream), proofs: Proofs::of(&broker.issuer, &broker.key) })
    }

    /// Opens a grant of a workload whose proof has these claims; gives its token.
    async fn open(&mut self, claims: &[(&str, &str)]) -> anyhow::Result<String> {
        let proof = self.proofs.of_subject(WITNESS, claims);
        let answer = self.connection.exchange_for_token(&proof, &role(0), After::Keep).await?;
        let answer: Value = serde_json::from_str(&answer)?;
        Ok(answer["access_token"].as_str().context("a token")?.to_owned())
    }

    async fn is_active(&mut self, token: &str) -> anyhow::Result<bool> {
        let form = format!("token={token}");
        let body = Some(("application/x-www-form-urlencoded", form.as_str()));
        let proof = self.proofs.of_subject(WITNESS, &[]);
        let (status, answer) = self.connection.call("POST", "/oauth2/introspect", &proof, body).await?;
        ensure!(status == 200, "introspection answers {status} {answer}");
        Ok(answer["active"] == true)
    }

    /// Revokes everything of the commit and follows it to its end.
    async fn revoke(&mut self, witness: &str) -> anyhow::Result<Took> {
        let began = now();
        let asked = json!({"selector": {"commit": COMMIT}, "reason": "the commit is compromised"}).to_string();
        let proof = self.proofs.of_subject(OPERATOR, &[]);
        let body = Some(("application/json", asked.as_str()));
        let (status, begun) = self.connection.call("POST", "/v1/revocations", &proof, body).await?;
        let answered = began.elapsed();
        ensure!(status == 202, "the revocation answers {status} {begun}");
        ensure!(!self.is_active(witness).await?, "a token of the set is active after the answer");
        let inactive = began.elapsed();
        let path = format!("/v1/revocations/{}", begun["id"].as_str().context("an id")?);
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tick.tick().await;
            let proof = self.proofs.of_subject(OPERATOR, &[]);
            let (status, standing) = self.connection.call("GET", &path, &proof, None).await?;
            ensure!(status == 200, "its progress answers {status} {standing}");
            if standing["state"] == "completed" {
                let matched = standing["matched"].as_u64().context("how many matched")?;
                return Ok(Took { answered, inactive, completed: began.elapsed(), matched });
            }
            ensure!(began.elapsed() < LONGEST, "it is not complete after {LONGEST:?}: {standing}");
        }
    }
}

/// How many live grants are of the commit.
fn matching(database: &Path) -> anyhow::Result<u64> {
    count(database, "\"commit\" = ?1 AND state = 'active'")
}

/// How many of the commit have ended or are ending, and how many of others by that revocation.
fn outcome(database: &Path) -> anyhow::Result<(u64, u64)> {
    let ended = count(database, "\"commit\" = ?1 AND state <> 'active'")?;
    let others = count(database, "\"commit\" IS NOT ?1 AND state <> 'active'")?;
    Ok((ended, others))
}

fn count(database: &Path, which: &str) -> anyhow::Result<u64> {
    let database = Database::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let sql = format!("SELECT count(*) FROM grants WHERE {which}");
    let count: i64 = database.query_row(&sql, [COMMIT], |row| row.get(0))?;
    Ok(u64::try_from(count)?)
}
