//! What a decision costs, as the bundle grows: `cargo run --release -p hallpass-broker --example decide_cost`.
//!
//! Each bundle has ten policies that bear on the measured query; the rest are for other roles, or for the same role and
//! other repositories, by what the provenance says of them or the record of the issuer's kind.

#![expect(clippy::expect_used, reason = "a measurement that cannot be made has nothing to report")]

use std::sync::Arc;
use std::time::Instant;

use hallpass_broker::config::PolicySource;
use hallpass_broker::policy::cedar::CedarEngine;
use hallpass_core::catalog::Catalog;
use hallpass_core::identity::AttributeValue;
use hallpass_core::policy::PolicyQuery;
use hallpass_core::port::PolicyEngine as _;
use hallpass_core::testing::sample;

const BEARING: usize = 10;
const ROUNDS: usize = 31;
const DECISIONS_PER_ROUND: usize = 100;

/// What the policies that do not bear on the query are for.
#[derive(Clone, Copy)]
enum Others {
    Roles,
    Repositories,
    Records,
}

/// What GitHub always says of a job, beside the repository's id.
const SAID: &[(&str, &str)] = &[
    ("repository_owner_id", "123"),
    ("repository", "acme/app"),
    ("repository_owner", "acme"),
    ("ref", "refs/heads/main"),
    ("event_name", "push"),
    ("run_id", "4242"),
    ("run_attempt", "1"),
];

fn main() {
    let measured = [
        (Others::Roles, "other roles"),
        (Others::Repositories, "other repositories"),
        (Others::Records, "other repositories, of records"),
    ];
    for (others, name) in measured {
        for total in [10, 100, 1_000, 5_000] {
            let engine = engine(total, others);
            let query = query();
            let evaluated = engine.policies_evaluated(&query).expect("the query conforms");
            let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| round(&engine, &query)).collect();
            rounds.sort_by(f64::total_cmp);
            let median = rounds.get(ROUNDS / 2).copied().unwrap_or_default();
            println!("{name:<30} {total:>5} policies, {evaluated:>4} evaluated: {median:>7.1} µs a decision (median)");
        }
    }
}

fn query() -> PolicyQuery {
    let mut query = sample::query("repo:acme/app", "payments/prod/deploy");
    query.principal.issuer_kind = "github-actions".to_owned();
    let said = SAID.iter().chain([&("repository_id", "222")]);
    let said = said.map(|(name, value)| ((*name).to_owned(), AttributeValue::Text((*value).to_owned())));
    query.principal.attributes = said.collect();
    query
}

fn round(engine: &CedarEngine, query: &PolicyQuery) -> f64 {
    let began = now();
    for _ in 0..DECISIONS_PER_ROUND {
        std::hint::black_box(engine.decide(std::hint::black_box(query)).expect("the policies can be evaluated"));
    }
    began.elapsed().as_secs_f64() * 1e6 / DECISIONS_PER_ROUND as f64
}

#[expect(clippy::disallowed_methods, reason = "a measurement is about real time")]
fn now() -> Instant {
    Instant::now()
}

fn engine(total: usize, others: Others) -> CedarEngine {
    let mut catalog = Catalog::default();
    let role = sample::role("payments/prod/deploy");
    catalog.roles.insert(role.name.clone(), Arc::new(role));
    let policy = |n: usize| {
        let (mut role, mut repository) = ("payments/prod/deploy".to_owned(), 222);
        match others {
            _ if n < BEARING => {}
            Others::Roles => role = format!("team-{n}/prod/deploy"),
            Others::Repositories | Others::Records => repository = 1_000 + n,
        }
        let named = match others {
            Others::Roles | Others::Repositories => {
                format!("context.provenance has repository_id && context.provenance.repository_id == \"{repository}\"")
            }
            Others::Records => {
                format!("principal has github && principal.github.repository_id == \"{repository}\"")
            }
        };
        format!(
            "@id(\"p{n}\") @max_ttl(\"15m\")\n\
             permit(principal in Issuer::\"ci\", action == Action::\"mint\", resource == Role::\"{role}\")\n\
             when {{ {named} &&\n\
             context.provenance has ref && context.provenance.ref like \"refs/heads/*\" }};\n"
        )
    };
    let sources: Vec<_> =
        (0..total).map(|n| PolicySource { file: format!("policies/p{n}.cedar").into(), text: policy(n) }).collect();
    CedarEngine::load(&sources, &catalog, sample::revision('a')).expect("the policies are valid")
}
