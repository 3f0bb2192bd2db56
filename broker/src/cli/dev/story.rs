//! The first exchange, told while it happens. Every step is a real call over HTTP; a step that does not go as told is an
//! error.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration as StdDuration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_sdk::Client;
use hallpass_sdk::client::proof::{Given, Proof, ProofContext, ProofError, ProofFuture, ProofSource};
use hallpass_sdk::wire::{CreateGrant, Credential, Duration, Grant, GrantQuery, GrantState, RevokeRequest, Secret};
use serde_json::Value;

use super::issuer::DevIssuer;

/// The role of the story.
pub(super) const ROLE: &str = "payments/prod/deploy";
/// Its purpose.
pub(super) const PURPOSE: &str = "deploy 4f2c8b1 to production";

/// How long a server may take to start or to end, and the broker to end a credential.
pub(super) const PATIENCE: StdDuration = StdDuration::from_secs(20);

/// Where everything of the story listens.
pub(super) struct Stage {
    /// The broker.
    pub(super) broker: SocketAddr,
    /// The issuers.
    pub(super) issuer: Arc<DevIssuer>,
    /// The protected resource.
    pub(super) resource: SocketAddr,
}

/// Proofs of one identity of the embedded issuer, fresh whenever one is asked for.
struct Persona {
    issuers: Arc<DevIssuer>,
    issuer: &'static str,
    who: &'static str,
}

impl ProofSource for Persona {
    fn name(&self) -> &str {
        self.who
    }

    fn refreshable(&self) -> bool {
        true
    }

    fn fetch<'a>(&'a self, _context: &'a ProofContext<'a>) -> ProofFuture<'a> {
        Box::pin(async {
            let token = self.issuers.proof(self.issuer, self.who, None).map_err(|_| ProofError::Malformed)?;
            Proof::new(&token)
        })
    }
}

impl Stage {
    /// A client that calls as `who` of the issuer `name`, with a fresh proof whenever it needs one.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub(super) fn client_of(&self, name: &'static str, who: &'static str) -> anyhow::Result<Client> {
        let persona = Persona { issuers: Arc::clone(&self.issuer), issuer: name, who };
        Ok(Client::builder(format!("http://{}", self.broker)).proof(persona).build()?)
    }

    /// Tells the story.
    ///
    /// # Errors
    /// The first step that did not go as told.
    pub(super) async fn tell(&self) -> anyhow::Result<()> {
        say("A CI job starts. Its CI system signs a proof of what it is: which repository, commit and run.");
        let proof = self.issuer.proof("ci", "deploy-job", None).map_err(anyhow::Error::msg)?;
        show_claims(&proof)?;

        say("The job shows that proof to Hallpass and asks for a role, with a purpose.");
        tell(&format!("role     {ROLE}"));
        tell(&format!("purpose  {PURPOSE:?}"));
        let job = Client::builder(format!("http://{}", self.broker))
            .proof(Given::token(Secret::new(proof.clone()))?)
            .build()?;
        let ten_minutes = Duration::from_secs(600);
        let answer = job
            .create_grant(&CreateGrant::new(ROLE, PURPOSE).ttl(ten_minutes).ticket("CHG-1234"))
            .await
            .context("the exchange")?;
        let grant = answer.grant;
        let Credential::Jwt { token, .. } = &answer.credential else {
            anyhow::bail!("the role {ROLE} should give a token");
        };

        say("Hallpass verified it, decided by policy, and wrote down who, whose, why, from which change, until when.");
        show_grant(&grant, "verifiers that ask the broker refuse it at once");
        ensure!(grant.state == GrantState::Active, "the grant should be active, and is {:?}", grant.state);

        say("The job has a credential for ten minutes: a signed token for one audience. It uses it.");
        show_claims(token.expose())?;
        let (status, text) = self.use_credential(token.expose()).await?;
        tell(&format!("POST /deployments  →  {status}  {text}"));
        ensure!(status == 200, "the resource should accept a live credential");

        say("The same proof a second time opens nothing: proofs of this issuer are for single use.");
        let replay = job.create_grant(&CreateGrant::new(ROLE, PURPOSE)).await;
        let refused = replay.err().context("a replayed proof must be refused")?;
        tell(&format!("refused: {refused}"));
        ensure!(refused.code() == Some("replayed"), "the refusal should say `replayed`");

        say("The job is done and gives its grant back. Hallpass ends it at once.");
        let reason = RevokeRequest { reason: Some("the deployment is done".to_owned()) };
        let ended = job.revoke(&grant.id, &reason).await.context("the revocation")?;
        show_ending(&ended);

        say("The token has not expired, and is worth nothing any more.");
        let (status, text) = self.use_credential(token.expose()).await?;
        tell(&format!("POST /deployments  →  {status}  {text}"));
        ensure!(status == 401, "the resource should refuse an ended credential");

        say("Ada, who belongs to the team that owns the role, asks for everything from that commit.");
        let ada = self.client_of("people", "ada")?;
        let query = GrantQuery { commit: grant.provenance.commit.clone(), ..GrantQuery::default() };
        let found = ada.grants(&query).await.context("the list of grants")?;
        for grant in &found.items {
            tell(&format!("{}  {}  {:?}  {}", grant.id, grant.role, grant.state, grant.purpose));
        }
        ensure!(found.items.iter().any(|seen| seen.id == grant.id), "Ada should see the grant");
        Ok(())
    }

    async fn use_credential(&self, token: &str) -> anyhow::Result<(u16, String)> {
        let client = crate::outbound::loopback_client()?;
        let answer = client.post(format!("http://{}/deployments", self.resource)).bearer_auth(token).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }
}

/// Gives a grant back, and awaits that its backend confirmed the end.
///
/// # Errors
/// When it is not revoked in time.
pub(super) async fn give_back(job: &Client, grant: &str, why: &str) -> anyhow::Result<()> {
    let reason = RevokeRequest { reason: Some(why.to_owned()) };
    job.revoke(grant, &reason).await.context("the revocation")?;
    let grant = until(async || {
        let grant = job.grant(grant).await?;
        ensure!(grant.state == GrantState::Revoked, "the grant should be revoked, and is {:?}", grant.state);
        Ok(grant)
    })
    .await?;
    let confirmed = grant.revocation.confirmed_at.map(|at| at.to_string()).unwrap_or_default();
    tell(&format!("state     {:?}, confirmed by the server at {confirmed}", grant.state));
    Ok(())
}

/// Asks again until there is an answer.
///
/// # Errors
/// The last one, when [`PATIENCE`] is over.
pub(super) async fn until<T>(mut asked: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    const TRIES: u32 = 200;
    let mut last = None;
    for _ in 0..TRIES {
        match asked().await {
            Ok(answer) => return Ok(answer),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(PATIENCE / TRIES).await;
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("it was not tried")))
}

pub(super) fn say(text: &str) {
    println!("\n▸ {text}");
}

pub(super) fn tell(text: &str) {
    println!("    {text}");
}

fn show_claims(token: &str) -> anyhow::Result<()> {
    let payload = token.split('.').nth(1).context("a token of three parts")?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
    const SHOWN: &[&str] =
        &["iss", "sub", "aud", "repository_id", "sha", "ref", "run_id", "role", "owner", "purpose", "grant_id", "exp"];
    for name in SHOWN {
        if let Some(value) = claims.get(*name) {
            tell(&format!("{name:14} {value}"));
        }
    }
    Ok(())
}

pub(super) fn show_grant(grant: &Grant, stopped: &str) {
    tell(&format!("grant     {}", grant.id));
    tell(&format!("who       {} at issuer {}", grant.identity.subject, grant.identity.issuer));
    tell(&format!("whose     {} ({})", grant.owner, grant.owner_contacts.join(", ")));
    tell(&format!("why       {} [{}]", grant.purpose, grant.ticket.as_deref().unwrap_or("no ticket")));
    tell(&format!("what      {} in {}", grant.role, grant.environment.as_deref().unwrap_or("no environment")));
    let said = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "not said".to_owned());
    let provenance = &grant.provenance;
    tell(&format!("from      {}, commit {}", said(&provenance.repository), said(&provenance.commit)));
    tell(&format!("          run {} of workflow {}", said(&provenance.run), said(&provenance.workflow)));
    let rules = grant.decision.determining_policies.join(", ");
    let revision: String = grant.decision.policy_revision.chars().take(12).collect();
    tell(&format!("by        policy {rules} of revision {revision}…"));
    tell(&format!("until     {}", grant.expires_at));
    tell(&format!("stopped   {:?}: {stopped}", grant.revocation.class));
}

fn show_ending(grant: &Grant) {
    tell(&format!("state     {:?} ({})", grant.state, grant.cause.as_deref().unwrap_or("no cause")));
    if let Some(fenced_at) = &grant.revocation.fenced_at {
        tell(&format!("fenced    {fenced_at}: introspection says that it is not active"));
    }
    tell("It will be `expired`, never `revoked`: its signature is good until its time is over, and Hallpass does not");
    tell("call a credential revoked while somebody who does not ask could still accept it.");
}
