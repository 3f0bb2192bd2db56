//! A server is away while grants fall due and are revoked by hand: nothing is said to be revoked that still works, the
//! other servers' credentials come and go as before, and when it is back all that was to end is confirmed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hallpass_tests::estate::{Estate, Held, LEASE, SESSION, TOKEN, USER};
use hallpass_tests::openbao::OpenBao;
use hallpass_tests::{Exchange, eventually, size};
use tokio::task::JoinHandle;

use super::Ground;
use super::holders::Received;
use crate::caller::Caller;
use crate::house::House;
use crate::ledger::{hex, text};

/// How long an outage lasts at least, from when the first grants are due.
fn outage() -> Duration {
    Duration::from_secs(size(4, 120) as u64)
}
/// A life that ends in the outage.
const SHORT_LIFE: &str = "6s";
/// How long the servers that are there may take to end something.
const PROMPT: Duration = Duration::from_secs(15);
/// How long it may take after an outage until all is confirmed: the longest that nobody tries again, and the tries.
const CONFIRMED: Duration = Duration::from_secs(120);
/// Between two looks at one credential.
const LOOK: Duration = Duration::from_millis(250);
/// How many credentials of another server a latency is told by.
const ASKED: usize = 30;

/// How OpenBao is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Sealed,
    Hanging,
    Stopped,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_openbao_is_away_nothing_is_said_to_be_revoked_that_works_and_others_go_on() {
    let Some(bao) = OpenBao::start_durable().await else { return };
    let Some(estate) = Estate::at(bao).await else { return };
    let mut ground = Ground::on(estate).await;
    for way in [Way::Sealed, Way::Hanging, Way::Stopped] {
        let before = latency(&ground.house.caller).await;
        let neighbours = held(&ground, &[USER, USER, SESSION], None).await;
        let to_end = to_end(&ground, &[TOKEN, LEASE]).await;
        match way {
            Way::Sealed => drop(ground.estate.bao.write("sys/seal", &serde_json::json!({})).await),
            Way::Hanging => ground.estate.bao.freeze(),
            Way::Stopped => ground.estate.bao.stop(),
        }
        let probe = Probe::of(&ground, &to_end);
        go_on_beside(&ground, &format!("OpenBao {way:?}"), &to_end, &neighbours, before).await;
        match way {
            Way::Sealed => ground.estate.bao.unseal().await,
            Way::Hanging => ground.estate.bao.thaw(),
            Way::Stopped => ground.estate.bao.restart().await,
        }
        all_confirmed(&ground, &to_end).await;
        probe.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_postgresql_is_away_nothing_is_said_to_be_revoked_that_works_and_others_go_on() {
    let Some(bao) = OpenBao::start().await else { return };
    let Some(estate) = Estate::at(bao).await else { return };
    let ground = Ground::on(estate).await;
    let before = latency(&ground.house.caller).await;
    let neighbours = held(&ground, &[TOKEN, TOKEN, SESSION], None).await;
    let to_end = to_end(&ground, &[USER]).await;
    ground.estate.postgres.freeze();
    let probe = Probe::of(&ground, &to_end);
    go_on_beside(&ground, "PostgreSQL hanging", &to_end, &neighbours, before).await;
    ground.estate.postgres.thaw();
    all_confirmed(&ground, &to_end).await;
    probe.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_aws_is_away_nothing_is_said_to_be_fenced_that_works_and_others_go_on() {
    let Some(bao) = OpenBao::start().await else { return };
    let Some(estate) = Estate::at(bao).await else { return };
    let ground = Ground::on(estate).await;
    let before = latency(&ground.house.caller).await;
    // Nothing of AWS falls due within a test: its sessions live for a quarter of an hour at least.
    let to_end = held(&ground, &[SESSION, SESSION], None).await;
    let neighbours = held(&ground, &[USER, TOKEN, LEASE], None).await;
    ground.estate.aws.hang();
    let probe = Probe::of(&ground, &to_end);
    for one in &to_end {
        assert!(ground.holders.end(&ground.house.caller, one).await);
    }
    go_on_beside(&ground, "AWS hanging", &[], &neighbours, before).await;
    for one in &to_end {
        assert!(is_not_over(&ground, one), "it was fenced while nobody answered");
    }
    ground.estate.aws.go_on();
    all_confirmed(&ground, &to_end).await;
    probe.end().await;
}

/// Credentials whose grants fall due in an outage, and as many that are ended by hand in it.
async fn to_end(ground: &Ground, roles: &[&str]) -> Vec<Received> {
    let mut all = held(ground, roles, None).await;
    all.extend(held(ground, roles, Some(SHORT_LIFE)).await);
    all
}

async fn held(ground: &Ground, roles: &[&str], life: Option<&str>) -> Vec<Received> {
    let mut all = Vec::new();
    for role in roles {
        let asked = async || ground.holders.ask(&ground.house.caller, role, life).await.expect("an answer").ok();
        let received = eventually(&format!("{role} is to be had"), CONFIRMED, asked).await;
        assert!(ground.estate.works(&received.held).await, "{role} does not work");
        all.push(received);
    }
    all
}

/// What must go on in an outage: the neighbours' grants are ended, and confirmed at their servers; tokens of the broker's
/// own are had as fast as before; and what is at the server that is away stays to be ended, whoever asks.
async fn go_on_beside(ground: &Ground, what: &str, to_end: &[Received], neighbours: &[Received], before: Duration) {
    let began = now();
    let caller = &ground.house.caller;
    // Those without a short life: the others are left to fall due.
    for one in &to_end[..to_end.len() / 2] {
        assert!(ground.holders.end(caller, one).await, "nobody can ask for an end");
    }
    let during = latency(caller).await;
    for one in neighbours {
        assert!(ground.holders.end(caller, one).await);
    }
    for one in neighbours {
        eventually(&format!("{what}: {} is over meanwhile", one.role), PROMPT, async || {
            (!is_not_over(ground, one)).then_some(())
        })
        .await;
        assert!(!ground.estate.works(&one.held).await, "{what}: {} works, and is said to be over", one.role);
    }
    let (others_before, others_during) = (before.max(Duration::from_millis(50)), during);
    tell(&format!("{what}: the slowest of {ASKED} tokens took {before:?} before and {during:?} meanwhile"));
    // A call that waited for the server that is away would take two seconds at least.
    assert!(
        others_during < others_before * 3 + Duration::from_millis(700),
        "{what}: {during:?}, and {before:?} before"
    );
    let mut looks = tokio::time::interval(LOOK);
    while began.elapsed() < outage() + Duration::from_secs(6) {
        looks.tick().await;
    }
    for one in to_end {
        // What falls due waits for a call to the same server that is given up after ten seconds.
        eventually(&format!("{what}: {} is to end", one.role), PROMPT * 2, async || {
            assert!(is_not_over(ground, one), "{what}: {} is said to be over while nobody can know", one.role);
            (state(ground, one).0 == "revoking").then_some(())
        })
        .await;
    }
}

async fn all_confirmed(ground: &Ground, to_end: &[Received]) {
    for one in to_end {
        eventually(&format!("{} is confirmed", one.role), CONFIRMED, async || {
            (!is_not_over(ground, one)).then_some(())
        })
        .await;
        assert!(!ground.estate.works(&one.held).await, "{} works, and is said to be over", one.role);
    }
}

/// The state, and whether it is fenced.
fn state(ground: &Ground, one: &Received) -> (String, bool) {
    state_in(&ground.house, one)
}

fn state_in(house: &House, one: &Received) -> (String, bool) {
    let id = hallpass_tests::id(&one.grant);
    let rows = house.store().rows("SELECT state, fenced_at FROM grants WHERE id = ?1", &[&id]);
    let row = rows.first().unwrap_or_else(|| panic!("no grant {}", hex(&one.grant)));
    (text(row, "state").to_owned(), !row["fenced_at"].is_null())
}

/// Whether the broker does not say yet that the credential is of no use any more.
fn is_not_over(ground: &Ground, one: &Received) -> bool {
    let (state, is_fenced) = state(ground, one);
    !(state == "revoked" || state == "expired" || (one.role == SESSION && is_fenced))
}

/// The slowest of some tokens of the broker's own.
async fn latency(caller: &Caller) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..ASKED {
        let proof = caller.proof();
        let began = now();
        caller.exchange(&Exchange::of(&proof.token), None).await.expect("an answer").assert_status(200);
        slowest = slowest.max(began.elapsed());
    }
    slowest
}

/// Goes on using credentials, and holds against the ledger whether they work.
struct Probe {
    over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Probe {
    fn of(ground: &Ground, all: &[Received]) -> Self {
        let over = Arc::<AtomicBool>::default();
        let task = |one: &Received| {
            let (one, over, database) = (one.clone(), Arc::clone(&over), ground.house.database.clone());
            let tried = ground.estate.tried();
            tokio::spawn(async move {
                let mut looks = tokio::time::interval(LOOK);
                let mut was_refused = false;
                // Each is seen to be refused at last: one that nobody could try would show nothing.
                while !(over.load(Ordering::Relaxed) && was_refused) {
                    looks.tick().await;
                    // Said first, tried after: what is over by then must not work.
                    let id = hallpass_tests::id(&one.grant);
                    let sql = "SELECT state, fenced_at FROM grants WHERE id = ?1";
                    let rows = hallpass_tests::Store::open(&database).rows(sql, &[&id]);
                    let said_over = matches!(text(&rows[0], "state"), "revoked" | "expired")
                        || (matches!(one.held, Held::Session(_)) && !rows[0]["fenced_at"].is_null());
                    let works = tried.works(&one.held).await;
                    assert!(
                        !(said_over && works == Some(true)),
                        "{} works, and is said to be over: {rows:?}",
                        one.role
                    );
                    was_refused |= works == Some(false);
                }
            })
        };
        Self { tasks: all.iter().map(task).collect(), over }
    }

    async fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            let ended = tokio::time::timeout(CONFIRMED, task).await.expect("a credential was never tried");
            ended.expect("nothing was said to be over that worked");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the time that passes is what is measured")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::print_stderr, reason = "the figures are what the experiment is for")]
fn tell(figures: &str) {
    eprintln!("{figures}");
}
