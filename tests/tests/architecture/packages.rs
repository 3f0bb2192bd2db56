//! Which package may depend on which, held against what cargo resolves.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::{Breach, assert_kept, root};

/// The arrows of the house. Dependencies for tests count: a test that reaches across rooms ties them together as well.
const ALLOWED: &[(&str, &[&str])] = &[
    ("hallpass-core", &[]),
    ("hallpass-sqlite", &["hallpass-core"]),
    ("hallpass-postgres", &["hallpass-core"]),
    ("hallpass-sdk", &[]),
    ("hallpass-cli", &["hallpass-sdk"]),
    ("hallpass-examples", &["hallpass-sdk"]),
    ("hallpass-broker", &["hallpass-core", "hallpass-sdk", "hallpass-sqlite", "hallpass-postgres"]),
    (
        "hallpass-tests",
        &["hallpass-core", "hallpass-sdk", "hallpass-sqlite", "hallpass-postgres", "hallpass-broker", "hallpass-cli"],
    ),
];

/// Transports, databases and token formats: adapters know them, the domain does not.
const FOREIGN_TO_CORE: &[&str] = &[
    "axum",
    "cedar-policy",
    "hyper",
    "jsonwebtoken",
    "rcgen",
    "reqwest",
    "rusqlite",
    "rustls",
    "sqlx",
    "tokio-rustls",
    "tower",
    "tower-http",
];

/// Only these may use a database's crate; the suites look into the files that the store leaves behind.
const DATABASE_USERS: &[(&str, &[&str])] = &[
    ("rusqlite", &["hallpass-sqlite", "hallpass-tests"]),
    ("sqlx", &["hallpass-sqlite", "hallpass-postgres", "hallpass-tests"]),
];

#[test]
fn packages_depend_only_along_the_arrows_of_the_house() {
    assert_kept("a dependency runs against the house's arrows", &against_the_arrows(&direct_dependencies()));
}

#[test]
fn database_crates_are_used_by_the_store_packages_alone() {
    assert_kept("a database's crate is used outside the store", &databases_outside_the_store(&direct_dependencies()));
}

#[test]
fn core_reaches_no_transport_database_or_socket() {
    let output = cargo(&[
        "tree",
        "--package",
        "hallpass-core",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}|{f}",
    ]);
    assert_kept("core reaches what belongs to an adapter", &foreign_to_core(&output));
}

type Dependencies = BTreeMap<String, BTreeSet<String>>;

fn direct_dependencies() -> Dependencies {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).expect("cargo speaks JSON");
    let text = |value: &Value| value.as_str().expect("a name").to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
            (text(&package["name"]), dependencies.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}

fn against_the_arrows(dependencies: &Dependencies) -> Vec<Breach> {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let mut breaches = Vec::new();
    for (package, uses) in dependencies {
        let place = format!("package {package}");
        let Some(allowed) = allowed.get(package.as_str()) else {
            breaches
                .push(Breach { place, what: "has no place in the house yet; add its arrows to ALLOWED".to_owned() });
            continue;
        };
        for used in uses.iter().filter(|used| used.starts_with("hallpass-") && *used != package) {
            if !allowed.contains(&used.as_str()) {
                breaches.push(Breach { place: place.clone(), what: format!("must not depend on {used}") });
            }
        }
    }
    breaches
}

fn databases_outside_the_store(dependencies: &Dependencies) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (database, users) in DATABASE_USERS {
        for (package, uses) in dependencies {
            if uses.contains(*database) && !users.contains(&package.as_str()) {
                breaches.push(Breach {
                    place: format!("package {package}"),
                    what: format!("must reach {database} through the Store port only"),
                });
            }
        }
    }
    breaches
}

fn foreign_to_core(tree: &str) -> Vec<Breach> {
    let mut breaches = BTreeSet::new();
    for line in tree.lines() {
        let (package, features) = line.split_once('|').unwrap_or((line, ""));
        let name = package.split(' ').next().unwrap_or_default();
        if FOREIGN_TO_CORE.contains(&name) || (name.starts_with("hallpass-") && name != "hallpass-core") {
            breaches.insert(format!("reaches {name}: give it a port, and an adapter in the broker"));
        }
        if name == "tokio" && features.split(',').any(|feature| ["net", "full", "fs", "process"].contains(&feature)) {
            breaches.insert(format!("reaches tokio with `{features}`: core only waits and signals, it opens nothing"));
        }
    }
    breaches.into_iter().map(|what| Breach { place: "package hallpass-core".to_owned(), what }).collect()
}

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).current_dir(root()).args(arguments).args(["--offline", "--locked"]).output();
    let output = output.expect("cargo starts");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo speaks UTF-8")
}

fn sample(package: &str, uses: &[&str]) -> Dependencies {
    BTreeMap::from([(package.to_owned(), uses.iter().map(|used| (*used).to_owned()).collect())])
}

#[test]
fn an_arrow_that_points_the_wrong_way_is_found() {
    assert_eq!(against_the_arrows(&sample("hallpass-sdk", &["hallpass-core", "serde"])).len(), 1);
    assert_eq!(against_the_arrows(&sample("hallpass-newcomer", &[])).len(), 1);
    assert_eq!(against_the_arrows(&sample("hallpass-core", &["hallpass-core", "ring"])), []);
}

#[test]
fn a_database_crate_in_the_wrong_package_is_found() {
    assert_eq!(databases_outside_the_store(&sample("hallpass-broker", &["rusqlite"])).len(), 1);
    assert_eq!(databases_outside_the_store(&sample("hallpass-sqlite", &["rusqlite"])), []);
}

#[test]
fn a_transport_under_core_is_found() {
    let tree = "hallpass-core v0.1.0 (/x)|\ntokio v1.54.1|net,sync\nhyper v1.12.0|client\nring v0.17.14|std\ntokio v1.54.1|sync,time";
    let found = foreign_to_core(tree);
    assert_eq!(found.len(), 2, "{found:?}");
}
