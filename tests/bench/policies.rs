//! Whether a decision costs the same however many policies there are: 10,000 repositories ask, of bundles of growing size.
//!
//! One policy lets every repository of the house have every role. The others are what such a house adds: half of them one
//! repository's, for whatever is in the namespace, so that their scopes are all the same; then some of a role's, for a few
//! repositories by name, and prohibitions of a role's.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::ensure;
use hallpass_tests::config::Setup;
use serde_json::json;

use crate::broker::{BenchedBroker, Transport, role};
use crate::load;
use crate::proofs::Proofs;
use crate::report;
use crate::scale::CLIENTS;
use crate::wire::Shown;

/// How many policies bundles have.
const SIZES: [usize; 4] = [1, 10, 100, 1_000];
/// Different repositories that ask, by turns.
const REPOSITORIES: usize = 10_000;

/// Measures every size.
pub(crate) async fn measure(program: &Path, seconds: u64) -> anyhow::Result<()> {
    report::heading_with_memory("policies");
    let (mut tokens, mut fewest) = (0, REPOSITORIES as u64);
    let mut each = Vec::new();
    for size in SIZES {
        let mut broker =
            BenchedBroker::start_with(program, Transport::Plain, |setup| with_policies(setup, size)).await?;
        let proofs = Proofs::of(&broker.issuer, &broker.key);
        let sign = |count| (0..count).map(|number| Shown::Token(proof(&proofs, number))).collect();
        let (before, load) = load::sized(&broker, CLIENTS, seconds, sign).await?;
        let measured = load.run(&broker).await?;
        fewest = fewest.min(measured.tokens);
        report::line_with_memory(&size.to_string(), CLIENTS, &measured, &broker.memory()?);
        broker.stop().await?;
        let (granted, recorded) = (before + measured.tokens, broker.grants()?);
        ensure!(recorded == granted, "{granted} tokens were received and {recorded} grants are in the ledger");
        tokens += granted;
        each.push(measured.broker.as_secs_f64() / measured.tokens as f64);
    }
    report::kept(tokens);
    report::fact("repositories", &format!("at least {fewest} of {REPOSITORIES} asked of each bundle"));
    if let (Some(first), Some(last)) = (each.first(), each.last()) {
        report::fact("the last by the first", &format!("{:.2} of the processor time an exchange", last / first));
    }
    Ok(())
}

/// A fresh proof of one repository after the other.
fn proof(proofs: &Proofs<'_>, number: usize) -> String {
    let repository = number % REPOSITORIES;
    let id = id(repository);
    let subject = format!("repo:acme@111/app{repository}@{id}:ref:refs/heads/main");
    proofs.of_subject(
        &subject,
        &[("repository_id", &id), ("repository_owner_id", "111"), ("ref", "refs/heads/main"), ("event_name", "push")],
    )
}

fn id(repository: usize) -> String {
    (100_000 + repository).to_string()
}

fn with_policies(mut setup: Setup, size: usize) -> Setup {
    setup.policies.retain(|(name, _)| name != "bench.cedar");
    let setup = setup.each_issuer(|issuer| {
        issuer["provenance"] = json!({
            "repository_id": "repository_id", "repository_owner_id": "repository_owner_id", "ref": "ref",
            "event": "event_name",
        });
    });
    setup.policy("bench.cedar", &policies(size))
}

fn policies(size: usize) -> String {
    let mut text = "@id(\"house\")\npermit (principal in Issuer::\"ci\", action == Action::\"mint\", resource in \
        Namespace::\"bench\")\nwhen { context.provenance has repository_owner_id && context.provenance.repository_owner_id == \
        \"111\" &&\n  context has purpose && context.purpose like \"*deploy*\" };\n\n"
        .to_owned();
    for number in 1..size {
        let own = format!("Role::\"{}\"", role(number));
        let (effect, resource, condition) = match number % 4 {
            0 | 1 => (
                "permit",
                "in Namespace::\"bench\"".to_owned(),
                format!(
                    "context.provenance has repository_id && context.provenance.repository_id == \"{}\" &&\n  \
                     context.provenance has ref && context.provenance.ref == \"refs/heads/main\"",
                    id(number * 7 % REPOSITORIES)
                ),
            ),
            2 => (
                "permit",
                format!("== {own}"),
                format!(
                    "context.provenance has repository_id &&\n  [\"{}\", \"{}\", \"{}\"].contains(context.provenance.repository_id)",
                    id(number),
                    id(number + 1),
                    id(number + 2)
                ),
            ),
            _ => (
                "forbid",
                format!("== {own}"),
                "context.provenance has event && context.provenance.event == \"pull_request\"".to_owned(),
            ),
        };
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "@id(\"bench-{number:04}\")\n{effect} (principal in Issuer::\"ci\", action == Action::\"mint\", resource \
             {resource})\nwhen {{ {condition} }};\n\n"
        );
    }
    text
}
