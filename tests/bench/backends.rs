//! Credentials of real servers through the broker, against asking those servers oneself: OpenBao's own login with the same
//! proof and the same mint, on the same machine in the same run.
#![expect(clippy::indexing_slicing, reason = "a member that JSON does not have reads as null")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hallpass_tests::config::{AUDIENCE, OPERATOR};
use hallpass_tests::estate::{Estate, TOKEN, USER};
use hallpass_tests::openbao::OpenBao;
use hallpass_tests::{SigningKey, Store, unix_now};
use hdrhistogram::Histogram;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::broker::{BenchedBroker, Transport};
use crate::report;
use crate::scale::now;

/// A lease whose parent is made when it is asked for.
const UNPREPARED: &str = "bench/lease-unprepared";
/// A lease whose parent is ready.
const PREPARED: &str = "bench/lease-prepared";
/// As many as a role may have.
const SPARES: usize = 64;
/// How long spares are given to be made before they are measured.
const STOCKED: Duration = Duration::from_secs(30);
/// How long the ends of all leases may take.
const LONGEST: Duration = Duration::from_secs(900);
/// How many clients open the leases that are ended.
const OPENERS: usize = 16;

/// Whoever asks, and what they ask.
struct Bench {
    client: Client,
    broker: String,
    bao: String,
    /// Claims of a proof, but for its id.
    claims: Value,
    key: Arc<SigningKey>,
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Login,
    LoginAndToken,
    LoginAndLease,
    Through(&'static str),
}

pub(crate) async fn measure(program: &Path, seconds: u64, clients: &[usize], leases: usize) -> anyhow::Result<()> {
    let bao = OpenBao::start().await.context("OpenBao is not installed: run tests/run")?;
    let estate = Estate::at(bao).await.context("PostgreSQL or ministack is not installed: run tests/run")?;
    let with = |spares: usize| {
        let mut leased = estate.leased();
        leased["spares"] = json!(spares);
        leased
    };
    let (none, many) = (with(0), with(SPARES));
    let mut broker = BenchedBroker::start_with(program, Transport::Plain, |setup| {
        estate.known_to(setup).role(UNPREPARED, "vault", "vault", none).role(PREPARED, "vault", "vault", many)
    })
    .await?;
    let origin = format!("http://{}", broker.listen);
    estate.admit(&origin).await;
    trust_proofs(&estate.bao, broker.issuer.url()).await;
    let bench = Arc::new(Bench::of(&broker, &estate)?);
    settle(&bench).await?;

    report::heading_of_backends();
    for &clients in clients {
        for (what, asked) in [
            ("OpenBao: login", Asked::Login),
            ("OpenBao: login, token", Asked::LoginAndToken),
            ("broker: token", Asked::Through(TOKEN)),
            ("OpenBao: login, lease", Asked::LoginAndLease),
            ("broker: lease, no spare", Asked::Through(UNPREPARED)),
            ("broker: lease, spares", Asked::Through(PREPARED)),
            ("broker: PostgreSQL user", Asked::Through(USER)),
        ] {
            let (took, latency) = load(&bench, clients, Duration::from_secs(seconds), asked).await?;
            report::line_of_backends(what, clients, took, &latency);
        }
    }
    end_at_once(&bench, &broker.database(), leases).await?;
    broker.stop().await
}

/// Has OpenBao take the proofs that the broker takes, for what the broker has there, too.
async fn trust_proofs(bao: &OpenBao, issuer: &str) {
    bao.write("sys/auth/proofs", &json!({"type": "jwt"})).await;
    let keys = json!({"jwks_url": format!("{issuer}/jwks"), "bound_issuer": issuer});
    bao.write("auth/proofs/config", &keys).await;
    let mints = "path \"auth/token/create/hallpass\" { capabilities = [\"update\"] }";
    bao.write("sys/policies/acl/mints", &json!({"policy": mints})).await;
    let role = json!({
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": [AUDIENCE], "token_ttl": "10m",
        "token_policies": ["mints", "db"], "token_no_default_policy": true,
    });
    bao.write("auth/proofs/role/ci", &role).await;
}

/// Awaits that the broker has its session, and its spares.
async fn settle(bench: &Arc<Bench>) -> anyhow::Result<()> {
    let began = now();
    for role in [TOKEN, USER, PREPARED] {
        while bench.through(role).await.is_err() {
            ensure!(began.elapsed() < STOCKED, "{role} is not to be had");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}

/// Has so many clients ask for so long; gives how long it took, and the latencies in microseconds.
async fn load(
    bench: &Arc<Bench>,
    clients: usize,
    longest: Duration,
    asked: Asked,
) -> anyhow::Result<(Duration, Histogram<u64>)> {
    if matches!(asked, Asked::Through(PREPARED)) {
        // Sixteen are made every two seconds: what is measured is a stock that lasts for as long as it does.
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let began = now();
    let mut all = JoinSet::new();
    for _ in 0..clients {
        let bench = Arc::clone(bench);
        all.spawn(async move {
            let mut latency = Histogram::<u64>::new(3)?;
            while began.elapsed() < longest {
                let started = now();
                bench.ask(asked).await?;
                latency.record(u64::try_from(started.elapsed().as_micros())?)?;
            }
            anyhow::Ok(latency)
        });
    }
    let mut latency = Histogram::new(3)?;
    while let Some(ended) = all.join_next().await {
        latency.add(ended??)?;
    }
    Ok((began.elapsed(), latency))
}

/// Opens leases, has all of them end at once, and tells how many were confirmed in a second.
async fn end_at_once(bench: &Arc<Bench>, database: &Path, leases: usize) -> anyhow::Result<()> {
    let mut all = JoinSet::new();
    for client in 0..OPENERS {
        let (bench, mine) = (Arc::clone(bench), leases / OPENERS + usize::from(client < leases % OPENERS));
        all.spawn(async move {
            for _ in 0..mine {
                bench.through(UNPREPARED).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = all.join_next().await {
        ended??;
    }
    let live = count(database, "active")?;
    ensure!(live >= leases as u64, "{leases} leases were opened and {live} are live");
    let (before, began) = (count(database, "revoked")?, now());
    let body = json!({"selector": {"role": UNPREPARED}, "reason": "the measurement is over"});
    let key = format!("end-{}", fresh_id());
    let asked = bench.client.post(format!("{}/v1/revocations", bench.broker)).bearer_auth(bench.proof(OPERATOR));
    let answer = asked.header("idempotency-key", key).json(&body).send().await?;
    let (status, said) = (answer.status().as_u16(), answer.text().await?);
    ensure!(status == 202, "the revocation answers {status} {said}");
    loop {
        let ended = count(database, "revoked")?.saturating_sub(before);
        let store = Store::open(database);
        let left = store.rows(
            "SELECT count(*) AS n FROM grants WHERE role = ?1 AND state IN ('active', 'revoking')",
            &[&UNPREPARED],
        );
        if left.first().and_then(|row| row["n"].as_u64()) == Some(0) {
            let took = began.elapsed();
            report::fact(
                &format!("{ended} leases ended at once"),
                &format!(
                    "{:.0} confirmed a second, all after {:.1} s",
                    ended as f64 / took.as_secs_f64(),
                    took.as_secs_f64()
                ),
            );
            return Ok(());
        }
        ensure!(began.elapsed() < LONGEST, "after {LONGEST:?} {ended} of {leases} have ended");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn count(database: &Path, state: &str) -> anyhow::Result<u64> {
    let rows = Store::open(database).rows("SELECT count(*) AS n FROM grants WHERE state = ?1", &[&state]);
    rows.first().and_then(|row| row["n"].as_u64()).context("a count")
}

impl Bench {
    fn of(broker: &BenchedBroker, estate: &Estate) -> anyhow::Result<Self> {
        Ok(Self {
            client: client()?,
            broker: format!("http://{}", broker.listen),
            bao: estate.bao.url(),
            claims: broker.issuer.claims(AUDIENCE, "repo:acme@111/app@222:ref:refs/heads/main"),
            key: Arc::clone(&broker.key),
        })
    }

    async fn ask(&self, asked: Asked) -> anyhow::Result<()> {
        match asked {
            Asked::Login => self.login().await.map(drop),
            Asked::LoginAndToken => {
                let token = self.login().await?;
                let body = json!({"policies": ["app"], "ttl": "10m", "no_default_policy": true});
                let made = self.at_bao(reqwest::Method::POST, "auth/token/create/hallpass", Some(&token), Some(&body));
                made.await.map(drop)
            }
            Asked::LoginAndLease => {
                let token = self.login().await?;
                self.at_bao(reqwest::Method::GET, "database/creds/app", Some(&token), None).await.map(drop)
            }
            Asked::Through(role) => self.through(role).await,
        }
    }

    async fn login(&self) -> anyhow::Result<String> {
        let body = json!({"role": "ci", "jwt": self.proof_of_workload()});
        let answer = self.at_bao(reqwest::Method::POST, "auth/proofs/login", None, Some(&body)).await?;
        Ok(answer["auth"]["client_token"].as_str().context("a token")?.to_owned())
    }

    async fn at_bao(
        &self,
        method: reqwest::Method,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let mut request = self.client.request(method, format!("{}/v1/{path}", self.bao));
        if let Some(token) = token {
            request = request.header("x-vault-token", token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{path}: {status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    async fn through(&self, role: &str) -> anyhow::Result<()> {
        let body = json!({"role": role, "purpose": "deploy build 4f2c", "ttl": "10m"});
        let request = self.client.post(format!("{}/v1/grants", self.broker)).bearer_auth(self.proof_of_workload());
        let answer = request.json(&body).send().await?;
        let (status, text) = (answer.status().as_u16(), answer.text().await?);
        ensure!(status == 201, "{role}: {status} {text}");
        Ok(())
    }

    fn proof_of_workload(&self) -> String {
        self.proof("repo:acme@111/app@222:ref:refs/heads/main")
    }

    fn proof(&self, subject: &str) -> String {
        let mut claims = self.claims.clone();
        // A measurement may last longer than one proof.
        for (name, ahead) in [("iat", 0), ("nbf", 0), ("exp", 300)] {
            claims[name] = (unix_now() + ahead).into();
        }
        claims["jti"] = fresh_id().into();
        claims["sub"] = subject.into();
        self.key.sign(&claims)
    }
}

fn fresh_id() -> String {
    uuid::Uuid::from_bytes(hallpass_tests::random_bytes::<16>()).to_string()
}

#[expect(clippy::disallowed_methods, reason = "the load's own client; it is bounded here")]
fn client() -> anyhow::Result<Client> {
    Ok(Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?)
}
