//! Who holds which real credential, written down by them.

use std::collections::BTreeMap;
use std::time::Duration;

use hallpass_tests::estate::{Held, SESSION};
use hallpass_tests::{Journal, Row, size};
use serde_json::json;
use tokio::task::JoinSet;

use super::ALL;
use crate::caller::{Caller, NoReply, Proof, Reply};
use crate::ledger::{hex, text};

/// How many clients work at once.
const CLIENTS: usize = 4;
/// The life of credentials that are to end while an experiment runs.
const SHORT_LIFE: &str = "10s";

/// Everything that holders saw.
#[derive(Clone, Default)]
pub(crate) struct Holders {
    received: Journal<Received>,
    refused: Journal<(u16, String)>,
}

/// A credential that reached its holder.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) role: String,
    pub(crate) proof: Proof,
    pub(crate) grant: String,
    pub(crate) held: Held,
}

impl Holders {
    /// Has clients open grants of one role, or of all in turn, and end every second, until nobody answers any more.
    pub(crate) async fn watch_until_silence(&self, caller: &Caller, role: Option<&'static str>) {
        let longest = Duration::from_secs(size(60, 600) as u64);
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(self.clone().client(caller.clone(), number, role));
        }
        let all = async {
            while let Some(ended) = clients.join_next().await {
                ended.expect("no client meets what it did not expect");
            }
        };
        let silent = tokio::time::timeout(longest, all).await;
        assert!(silent.is_ok(), "the broker still answers after {longest:?}: it should have died");
    }

    async fn client(self, caller: Caller, number: usize, role: Option<&'static str>) {
        for round in number.. {
            let role = role.unwrap_or(ALL[round % ALL.len()]);
            let life = (round % 4 == 3 && role != SESSION).then_some(SHORT_LIFE);
            match self.ask(&caller, role, life).await {
                None => return,
                Some(Ok(received)) if round % 2 == 0 && !self.end(&caller, &received).await => return,
                Some(_) => {}
            }
        }
    }

    /// Asks for a credential: none where no answer came, and an error where a server is said to be away.
    pub(crate) async fn ask(
        &self,
        caller: &Caller,
        role: &str,
        life: Option<&str>,
    ) -> Option<Result<Received, (u16, String)>> {
        let proof = caller.proof();
        let mut body = json!({"role": role, "purpose": "deploy build 4f2c"});
        if let Some(life) = life {
            body["ttl"] = json!(life);
        }
        let reply = caller.open(&proof, &body, None).await.ok()?;
        if reply.status != 201 {
            assert!(reply.status >= 500, "{role} refused: {} {}", reply.status, reply.text);
            self.refused.record((reply.status, reply.text.clone()));
            return Some(Err((reply.status, reply.text)));
        }
        let held = Held::of(&reply.body["credential"]).unwrap_or_else(|| panic!("no credential in {}", reply.text));
        let received = Received { role: role.to_owned(), proof, grant: reply.grant().to_owned(), held };
        self.received.record(received.clone());
        Some(Ok(received))
    }

    /// Asks that a grant ends; `false` where no answer came.
    pub(crate) async fn end(&self, caller: &Caller, received: &Received) -> bool {
        match self.try_end(caller, received).await {
            Ok(reply) => {
                assert!(matches!(reply.status, 200 | 202), "not revoked: {} {}", reply.status, reply.text);
                true
            }
            Err(_) => false,
        }
    }

    async fn try_end(&self, caller: &Caller, received: &Received) -> Result<Reply, NoReply> {
        caller.revoke(&received.proof, &received.grant).await
    }

    /// Credentials that came, oldest first.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.entries()
    }

    /// Asserts that whatever anybody holds was recorded before it came.
    pub(crate) fn assert_recorded(&self, grants: &BTreeMap<String, Row>) {
        for received in self.received() {
            let grant = grants.get(&hex(&received.grant));
            let grant = grant.unwrap_or_else(|| panic!("a caller has a credential without a record: {received:?}"));
            assert_eq!(text(grant, "proof_id"), received.proof.id, "grant {} is of another proof", received.grant);
            assert_eq!(text(grant, "role"), received.role, "grant {} is of another role", received.grant);
            let state = text(grant, "state");
            assert!(
                !grant["activated_at"].is_null(),
                "grant {} was {state}, and its credential given out",
                received.grant
            );
        }
    }

    /// Asserts that credentials of each role came, and more than refusals did.
    pub(crate) fn assert_served(&self, roles: &[&str]) {
        let received = self.received();
        for role in roles {
            assert!(received.iter().any(|one| one.role == *role), "no {role} came");
        }
        let refused = self.refused.entries();
        assert!(refused.len() < received.len(), "hardly anything came: {refused:?}");
    }
}
