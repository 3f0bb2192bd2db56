//! How many grants a second the store opens durably, and what one costs its writer.
//!
//! `cargo run --release -p hallpass-sqlite --example open_rate [tasks] [seconds] [repositories] [folder]`
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measurement: it reads the real clock, prints, and stops at the first error"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hallpass_core::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use hallpass_core::credential::RevocationClass;
use hallpass_core::port::{
    IdempotencyClaim, LineageClaim, LineageKey, OpenOutcome, Opening, ProofUse, Quotas, Sealer, Store,
};
use hallpass_core::testing::{TestSealer, sample};
use hallpass_core::time::Ttl;
use hallpass_sqlite::SqliteStore;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let tasks: u64 = arguments.next().map_or(64, |text| text.parse().unwrap());
    let seconds: u64 = arguments.next().map_or(5, |text| text.parse().unwrap());
    let repositories: u64 = arguments.next().map_or(100, |text| text.parse().unwrap());
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(parent).unwrap();
    let path = folder.path().join("hallpass.db");
    let sealer: Arc<dyn Sealer> = Arc::new(TestSealer::new(1));
    let store = Arc::new(SqliteStore::open(&path, sealer, sample::id(1)).unwrap());

    let (next, opened) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(0)));
    let (start, before) = (Instant::now(), cpu_of_writer());
    let end = start.checked_add(Duration::from_secs(seconds)).unwrap();
    let mut running = Vec::new();
    for _ in 0..tasks {
        let (store, next, opened) = (Arc::clone(&store), Arc::clone(&next), Arc::clone(&opened));
        running.push(tokio::spawn(async move {
            let mut waits = Vec::new();
            while Instant::now() < end {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let asked = Instant::now();
                let outcome = store.open(opening(n, repositories, &store)).await.unwrap();
                assert!(matches!(outcome, OpenOutcome::Opened(_)), "{outcome:?}");
                waits.push(asked.elapsed());
                opened.fetch_add(1, Ordering::Relaxed);
            }
            waits
        }));
    }
    let mut waits = Vec::new();
    for task in running {
        waits.extend(task.await.unwrap());
    }
    let (count, elapsed) = (opened.load(Ordering::Relaxed), start.elapsed());
    let writer = cpu_of_writer().saturating_sub(before);
    waits.sort_unstable();
    let at = |percent: usize| waits.get(waits.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default();
    println!("{tasks} tasks, {count} grants in {elapsed:.1?}: {:.0} a second", count as f64 / elapsed.as_secs_f64());
    println!("wait: p50 {:.1?}, p99 {:.1?}, longest {:.1?}", at(50), at(99), at(100));
    println!("writer: {:.1} us of CPU a grant", writer.as_secs_f64() * 1e6 / count as f64);
    println!("database: {} bytes a grant", std::fs::metadata(&path).unwrap().len() / count.max(1));

    let now = sample::NOW.plus(Ttl::from_hours(2));
    let (start, before) = (Instant::now(), cpu_of_writer());
    let mut expired: usize = 0;
    loop {
        let some = store.expire_due(now, 500).await.unwrap();
        if some == 0 {
            break;
        }
        expired = expired.saturating_add(some);
    }
    let writer = cpu_of_writer().saturating_sub(before);
    let each = |time: Duration| time.as_secs_f64() * 1e6 / expired as f64;
    println!(
        "expired {expired}: {:.1} us each, {:.1} us of them the writer's CPU",
        each(start.elapsed()),
        each(writer)
    );
}

fn opening(n: u64, repositories: u64, store: &SqliteStore) -> Opening {
    let now = sample::NOW.plus(Ttl::from_secs(n / 5_000));
    let mut grant = sample::active(n, RevocationClass::Fenced, now);
    grant.record.status_index = store.next_status_index();
    // Each run opens three; repositories take turns, which is the worst for the indexes that lead to them.
    grant.record.provenance.run = Some(format!("{}", 1_000_000 + n / 3));
    grant.record.provenance.commit = Some(format!("{:040x}", (n / 3).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    grant.record.provenance.repository_id = Some(format!("{}", n % repositories));
    grant.record.provenance.repository = Some(format!("acme/app-{}", n % repositories));
    grant.record.holder.subject = format!("repo:acme/app-{}:ref:refs/heads/main", n % repositories);
    grant.record.signed_by = Some("a-key-of-the-brokers-own".to_owned());
    let id = grant.record.id;
    let actor =
        Actor::Identity { issuer: grant.record.holder.issuer.clone(), subject: grant.record.holder.subject.clone() };
    let entry = |action| {
        AuditEntry::success(now, actor.clone(), action, AuditObject::Grant { id })
            .by_decision(sample::id(n))
            .in_request(sample::id(n))
            .with("role", "payments/prod/deploy")
            .with("purpose", "deploy 4f2c to prod")
    };
    let mut scope = [0_u8; 32];
    for chunk in scope.chunks_mut(8) {
        chunk.copy_from_slice(&n.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes());
    }
    let keep_until = now.plus(Ttl::from_hours(1));
    Opening {
        quotas: Quotas::NONE,
        handle: sample::handle(n),
        decision: sample::decision(n),
        entries: vec![entry(AuditAction::GrantOpen), entry(AuditAction::GrantActivate)],
        acting: None,
        proof_use: Some(ProofUse {
            issuer: grant.record.holder.issuer.clone(),
            proof_id: format!("{:032x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            keep_until,
        }),
        idempotency: Some(IdempotencyClaim { scope, request_digest: [7; 32], keep_until }),
        lineage: LineageClaim {
            key: LineageKey {
                issuer: grant.record.holder.issuer.clone(),
                subject: grant.record.holder.subject.clone(),
                role: grant.record.role.clone(),
            },
            fresh: sample::id(n),
            assumed_start: None,
        },
        epoch: store.epoch(),
        now,
        fenced_by_record: true,
        replaced: None,
        spare: None,
        grant,
    }
}

/// Time that the writer's thread has had on a processor (Linux).
fn cpu_of_writer() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let nanos = threads.filter_map(|thread| {
        let thread = thread.unwrap().path();
        let name = std::fs::read_to_string(thread.join("comm")).ok()?;
        let stat = std::fs::read_to_string(thread.join("schedstat")).ok()?;
        (name.trim() == "store-writer").then(|| stat.split(' ').next()?.parse::<u64>().ok())?
    });
    Duration::from_nanos(nanos.sum())
}
