//! Killed, cut off and listened to while it mints where people's credentials live: OpenBao, PostgreSQL and AWS, each a
//! real server (ministack for AWS).
//!
//! What is alive is read from those servers, never from our own tables: whatever lives there must have a live grant, and
//! whatever a client holds must have a record.

mod holders;
mod kills;
mod outages;
mod secrets;

use std::collections::BTreeMap;
use std::time::Duration;

use hallpass_tests::estate::{BRIEF_LEASE, Estate, LEASE, Living, SESSION, TOKEN, USER, Whose};
use hallpass_tests::{Row, eventually, unix_now};
use tempfile::TempDir;

use self::holders::Holders;
use crate::house::House;
use crate::ledger::{self, hex, millis, text};

/// One role of each kind of credential.
pub(crate) const KINDS: &[&str] = &[TOKEN, LEASE, USER, SESSION];
/// All of them.
const ALL: &[&str] = &[TOKEN, LEASE, USER, SESSION, BRIEF_LEASE];
/// How long the servers and the broker may take to know one another, on a machine that builds at the same time.
const ACQUAINTED: Duration = Duration::from_secs(40);
/// How long it may take until a crash has no trace left at any server: what was lost is undone once it can no longer take
/// effect (27 s), and what has no record at all is found by the second count (30 s apart) after that.
const SETTLED: Duration = Duration::from_secs(150);
/// How long something may be unaccounted for: a server may still be making what it was asked for by a dead broker.
const A_MOMENT: Duration = Duration::from_secs(10);
/// Between two looks at the servers.
const LOOK: Duration = Duration::from_millis(250);
/// How many credentials are tried after each restart: the latest.
const TRIED: usize = 16;

/// A broker that may die, the servers where it mints, and who holds what it minted.
pub(crate) struct Ground {
    pub(crate) house: House,
    pub(crate) estate: Estate,
    pub(crate) holders: Holders,
}

impl Ground {
    /// A broker that runs, with relays that write down what is made. None where a server is not installed.
    pub(crate) async fn open() -> Option<Self> {
        Some(Self::on(Estate::watched().await?).await)
    }

    /// The same on these servers.
    pub(crate) async fn on(estate: Estate) -> Self {
        let folder = TempDir::with_prefix("hallpass-crash-").expect("a temporary folder");
        let mut house = House::build_with(folder, |setup| estate.known_to(setup)).await;
        house.start().await;
        Self::of(house, estate).await
    }

    /// The same of a broker that runs, once everybody knows everybody.
    pub(crate) async fn of(house: House, estate: Estate) -> Self {
        let ground = Self { house, estate, holders: Holders::default() };
        ground.estate.admit(&ground.issuer()).await;
        for role in KINDS {
            eventually(&format!("{role} is to be had"), ACQUAINTED, async || {
                let asked = ground.holders.ask(&ground.house.caller, role, None).await;
                asked.expect("an answer").ok()
            })
            .await;
        }
        ground
    }

    /// The broker's origin.
    pub(crate) fn issuer(&self) -> String {
        self.house.caller.at("")
    }

    fn grants(&self) -> BTreeMap<String, Row> {
        let columns = "id, state, cause, backend, role, proof_id, activated_at, fenced_at, end_at";
        let rows = self.house.store().rows(&format!("SELECT {columns} FROM grants"), &[]);
        rows.into_iter().map(|row| (text(&row, "id").to_owned(), row)).collect()
    }

    /// The spares, each with the grant that took it, if one did.
    fn spares(&self) -> BTreeMap<String, Option<String>> {
        let rows = self.house.store().rows("SELECT id, grant_id FROM spares", &[]);
        let taken = |row: &Row| row["grant_id"].as_str().map(str::to_owned);
        rows.iter().map(|row| (text(row, "id").to_owned(), taken(row))).collect()
    }

    /// What is alive at the servers and has nothing in the ledger that answers for it, each with the reason.
    pub(crate) async fn orphans(&self) -> Vec<(Living, String)> {
        let living = self.estate.living(&self.issuer()).await;
        let (spares, grants) = (self.spares(), self.grants());
        let why = |one: &Living| match one.whose.as_ref() {
            None => Some("nothing tells whose it is".to_owned()),
            Some(Whose::Grant(id)) => unaccounted(&grants, &hex(id)),
            Some(Whose::Spare(id)) => match spares.get(&hex(id)) {
                None => Some("its spare is not in the ledger".to_owned()),
                Some(None) => None,
                Some(Some(grant)) => unaccounted(&grants, grant),
            },
        };
        living.into_iter().filter_map(|one| why(&one).map(|why| (one, why))).collect()
    }

    /// Asserts, after a restart, that nothing is held without a record, that nothing lives whose grant is over or is none,
    /// and that what is said to be over is. Only a spare may be at its server without a record for now: the broker died
    /// between the two, and it has given nothing to anybody.
    pub(crate) async fn assert_kept(&self) {
        ledger::assert_sound(&self.house.store());
        self.holders.assert_recorded(&self.grants());
        let spare = |one: &Living| matches!(&one.whose, Some(Whose::Spare(_)));
        let mut left = Vec::new();
        let mut looks = tokio::time::interval(LOOK);
        let accounted = async {
            loop {
                looks.tick().await;
                // What ended between the two looks is not there at the next.
                left = self.orphans().await.into_iter().filter(|(one, _)| !spare(one)).collect();
                if left.is_empty() {
                    return;
                }
            }
        };
        let in_time = tokio::time::timeout(A_MOMENT, accounted).await;
        assert!(in_time.is_ok(), "alive without a live grant: {left:?}");
        self.assert_over_is_over().await;
    }

    /// Awaits that whatever was under way is over, and asserts that nothing is alive at the servers but what the ledger
    /// has, and that what it has as active is alive.
    pub(crate) async fn assert_settled(&self) {
        let mut left = String::new();
        let mut looks = tokio::time::interval(LOOK);
        let settled = async {
            loop {
                looks.tick().await;
                let unsettled = self.unsettled();
                let orphans = self.orphans().await;
                if unsettled.is_empty() && orphans.is_empty() {
                    return;
                }
                left = format!("grants {unsettled:?}; alive without a live grant: {orphans:?}");
            }
        };
        let in_time = tokio::time::timeout(SETTLED, settled).await;
        assert!(in_time.is_ok(), "after {SETTLED:?}: {left}");
        self.assert_kept().await;
        let grants = self.grants();
        for received in self.holders.received().iter().rev().take(TRIED) {
            let grant = &grants[&hex(&received.grant)];
            let lives = text(grant, "state") == "active" && unix_now() * 1000 + 1000 < millis(grant, "end_at");
            if lives {
                assert!(self.estate.works(&received.held).await, "it was ended and nobody asked: {grant:?}");
            }
        }
    }

    /// Grants of which it is not yet said what becomes of them.
    fn unsettled(&self) -> Vec<String> {
        let is_open = |grant: &&Row| match text(grant, "state") {
            "pending" => true,
            "revoking" => text(grant, "backend") != "aws" || grant["fenced_at"].is_null(),
            _ => false,
        };
        self.grants().values().filter(is_open).map(|grant| format!("{grant:?}")).collect()
    }

    /// Of the latest credentials, those whose grant is over do not work any more.
    async fn assert_over_is_over(&self) {
        let grants = self.grants();
        let over = |grant: &Row| text(grant, "state") == "revoked" || !grant["fenced_at"].is_null();
        let received = self.holders.received();
        let ended = received.iter().rev().filter(|one| over(&grants[&hex(&one.grant)])).take(TRIED);
        for one in ended {
            let grant = &grants[&hex(&one.grant)];
            assert!(!self.estate.works(&one.held).await, "{} works though {grant:?}", one.role);
        }
    }
}

/// Why a grant does not answer for something that is alive; none where it does.
fn unaccounted(grants: &BTreeMap<String, Row>, id: &str) -> Option<String> {
    let Some(grant) = grants.get(id) else { return Some("its grant is not in the ledger".to_owned()) };
    let state = text(grant, "state");
    let said_to_be_fenced = text(grant, "backend") == "aws" && !grant["fenced_at"].is_null();
    (!matches!(state, "pending" | "active" | "revoking") || said_to_be_fenced)
        .then(|| format!("its grant {id} is {state}"))
}
