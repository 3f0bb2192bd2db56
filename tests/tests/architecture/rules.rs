//! Which file may name what, held against the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::LazyLock;

use regex::Regex;

use crate::source::{Source, end_of_item, sources_below};
use crate::{Breach, assert_kept, root};

/// The folders of the broker whose modules implement ports of core.
const ADAPTER_FOLDERS: &[&str] = &["audit", "backend", "identity", "keys", "policy"];
const COMPOSITION_ROOT: &[&str] = &["broker/src/compose.rs", "broker/src/compose/"];
const ROUTER: &str = "broker/src/http/router.rs";
const PROBLEM: &str = "broker/src/http/problem.rs";
/// The issuer and the protected resource that `dev` brings along stand for other people's programs. They answer for
/// themselves: the broker's problems, and the mapping of its errors, are not theirs to use.
const NOT_THE_BROKER: &str = "broker/src/cli/dev/";
const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "broker",
    "deploy",
    "examples",
    "sdk",
    "tests",
];

#[test]
fn only_the_composition_root_names_concrete_adapters() {
    let sources = sources_below("broker/src");
    assert_kept("a concrete adapter is named outside broker/src/compose.rs", &named_adapters(&sources));
}

#[test]
fn adapters_of_different_ports_never_import_each_other() {
    let sources = sources_below("broker/src");
    assert_kept("an adapter imports one of another port", &crossed_adapters(&sources));
}

#[test]
fn wire_types_never_enter_core_or_the_store() {
    let mut sources = sources_below("broker/core/src");
    sources.extend(sources_below("broker/sqlite/src"));
    sources.extend(sources_below("broker/postgres/src"));
    assert_kept(
        "a wire type is named below the edge",
        &named(&sources, "hallpass_sdk", "convert at the edge, by TryFrom"),
    );
}

#[test]
fn database_types_never_leave_the_store() {
    let outside: Vec<Source> = ["broker/src", "broker/core/src", "sdk/src", "sdk/cli/src", "examples/src"]
        .iter()
        .flat_map(|f| sources_below(f))
        .collect();
    for database in ["rusqlite", "sqlx"] {
        assert_kept(
            "a database type is named outside the store",
            &named(&outside, database, "belongs to the store package"),
        );
    }
    let mut store = sources_below("broker/sqlite/src");
    store.extend(sources_below("broker/postgres/src"));
    assert_kept("a database type is in the store's public face", &databases_in_public(&store));
}

#[test]
fn only_problem_rs_knows_the_status_codes_of_errors() {
    assert_kept(
        "an error's status is chosen outside broker/src/http/problem.rs",
        &statuses(&sources_below("broker/src")),
    );
}

#[test]
fn every_endpoint_comes_from_the_one_table() {
    assert_kept(
        "an endpoint is routed past the table in broker/src/http/endpoints.rs",
        &routed(&sources_below("broker/src/http")),
    );
}

#[test]
fn only_the_runtime_keeps_something_going() {
    let mut sources = sources_below("broker/src");
    sources.extend(sources_below("broker/core/src"));
    assert_kept("a loop that waits or never ends is outside broker/src/runtime", &loops(&sources));
}

#[test]
fn main_is_thin() {
    let text = fs::read_to_string(root().join("broker/src/main.rs")).expect("the broker has a main");
    assert!(
        text.lines().count() <= 30,
        "broker/src/main.rs: more than 30 lines; what it does belongs into the library"
    );
}

#[test]
fn top_level_names_are_fixed() {
    let entries = fs::read_dir(root()).expect("the workspace can be read");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    assert_kept("a new name at the top", &unknown_names(names.collect()));
}

/// The modules `(folder, name)` that implement a port, found by what they implement.
fn adapters(sources: &[Source]) -> BTreeSet<(String, String)> {
    static IMPLEMENTS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"impl(?:<[^>]*>)?\s+(?:\w+::)*(?:Anchor|AuditSink|CredentialBackend|IdentityVerifier|PolicyEngine|Signer|Sealer|Store)\s+for\s")
            .expect("the pattern is valid")
    });
    sources
        .iter()
        .filter(|source| IMPLEMENTS.is_match(&source.code))
        .filter_map(|source| module(&source.path))
        .collect()
}

/// `broker/src/backend/jwt/status.rs` → `(backend, jwt)`.
fn module(path: &str) -> Option<(String, String)> {
    let mut parts = path.strip_prefix("broker/src/")?.split('/');
    let (folder, name) = (parts.next()?, parts.next()?.trim_end_matches(".rs"));
    (ADAPTER_FOLDERS.contains(&folder) && name != "mod").then(|| (folder.to_owned(), name.to_owned()))
}

fn named_adapters(sources: &[Source]) -> Vec<Breach> {
    let concrete = adapters(sources);
    let mut breaches = Vec::new();
    let outside = |source: &&Source| !COMPOSITION_ROOT.iter().any(|root| source.path.starts_with(root));
    for source in sources.iter().filter(outside) {
        for store in ["hallpass_sqlite", "hallpass_postgres"] {
            breaches.extend(source.find_word(store).into_iter().map(|at| source.breach(at, format!("names {store}"))));
        }
        for (folder, name) in &concrete {
            if source.path.starts_with(&format!("broker/src/{folder}")) {
                continue;
            }
            let path = format!(r"\b(?:crate|super|hallpass_broker)::{folder}::(?:{name}\b|\{{[^}}]*\b{name}\b)");
            let path = Regex::new(&path).expect("module names are plain words");
            let found = path.find_iter(&source.code);
            breaches
                .extend(found.map(|at| source.breach(at.start(), format!("names {folder}::{name}; take the port"))));
        }
    }
    breaches
}

fn crossed_adapters(sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for source in sources {
        let own =
            source.path.strip_prefix("broker/src/").and_then(|path| path.split(['/', '.']).next()).unwrap_or_default();
        if !ADAPTER_FOLDERS.contains(&own) {
            continue;
        }
        for other in ADAPTER_FOLDERS.iter().filter(|other| **other != own) {
            let found = source.find_word(&format!("crate::{other}"));
            breaches.extend(found.into_iter().map(|at| {
                source.breach(at, format!("an adapter under {own}/ imports {other}/; ask for the port instead"))
            }));
        }
    }
    breaches
}

fn named(sources: &[Source], word: &str, why: &str) -> Vec<Breach> {
    let found =
        |source: &Source| source.find_word(word).into_iter().map(|at| source.breach(at, why)).collect::<Vec<_>>();
    sources.iter().flat_map(found).collect()
}

/// Public items of a store whose declaration names the database's crate. `pub(crate)` stays inside.
fn databases_in_public(sources: &[Source]) -> Vec<Breach> {
    static PUBLIC: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?m)^\s*pub (?:use|type|const|static|async fn|fn|struct|enum|trait)\b[^;{]*")
            .expect("the pattern is valid")
    });
    let mut breaches = Vec::new();
    for source in sources {
        for declaration in PUBLIC.find_iter(&source.code) {
            if declaration.as_str().contains("rusqlite") || declaration.as_str().contains("sqlx") {
                breaches.push(source.breach(declaration.start(), "a public item names a database type"));
            }
        }
    }
    breaches
}

fn statuses(sources: &[Source]) -> Vec<Breach> {
    static STATUS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\bStatusCode::(\w+)").expect("the pattern is valid"));
    const FINE: &[&str] = &["OK", "CREATED", "ACCEPTED", "NO_CONTENT", "NOT_MODIFIED"];
    let mut breaches = Vec::new();
    let others = |source: &&Source| source.path != PROBLEM && !source.path.starts_with(NOT_THE_BROKER);
    for source in sources.iter().filter(others) {
        for status in STATUS.captures_iter(&source.code) {
            let (Some(whole), Some(code)) = (status.get(0), status.get(1)) else { continue };
            if !FINE.contains(&code.as_str()) {
                breaches.push(source.breach(
                    whole.start(),
                    format!("chooses {}; return the error and let it be mapped", code.as_str()),
                ));
            }
        }
    }
    breaches
}

/// Routes made anywhere but from the table of endpoints, which tests hold every endpoint against.
fn routed(sources: &[Source]) -> Vec<Breach> {
    static ROUTES: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\.(?:route|route_service|nest|nest_service|merge)\(").expect("the pattern is valid")
    });
    let mut breaches = Vec::new();
    for source in sources {
        // The router has one line that adds a row of the table.
        let fine = usize::from(source.path == ROUTER);
        let found = ROUTES.find_iter(&source.code).skip(fine);
        breaches.extend(found.map(|at| source.breach(at.start(), "make it a row of broker/src/http/endpoints.rs")));
    }
    breaches
}

/// Loops that keep something going: they wait, or never end. One that tries again until a write fits and then returns
/// is part of a use-case.
fn loops(sources: &[Source]) -> Vec<Breach> {
    static LOOP: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\bloop\s*\{|\bwhile\s[^{;]*\{|\binterval(?:_at)?\(").expect("the pattern is valid")
    });
    static WAITS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\b(?:tick|recv|notified|changed|sleep|sleep_until|select!|interval)\s*[({]")
            .expect("the pattern is valid")
    });
    static ENDS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b(?:return|break)\b").expect("the pattern is valid"));
    let mut breaches = Vec::new();
    for source in sources.iter().filter(|source| !source.path.starts_with("broker/src/runtime")) {
        if source.path.starts_with("broker/core/src/testing") {
            continue;
        }
        for found in LOOP.find_iter(&source.code) {
            let body = &source.code[found.start()..found.start() + end_of_item(&source.code[found.start()..])];
            let endless = !body.starts_with("while") && !ENDS.is_match(body);
            if endless || WAITS.is_match(body) || body.starts_with("while true") {
                breaches.push(source.breach(found.start(), "make it one `tick()` that the runtime drives"));
            }
        }
    }
    breaches
}

fn unknown_names(names: Vec<String>) -> Vec<Breach> {
    let known: BTreeMap<&str, ()> = TOP_LEVEL.iter().map(|name| (*name, ())).collect();
    names
        .into_iter()
        .filter(|name| !name.starts_with('.') && name != "target" && !known.contains_key(name.as_str()))
        .map(|place| Breach { place, what: "the names at the top are fixed; put it into one of the rooms".to_owned() })
        .collect()
}

/// Where breaches are, as `file:line`.
#[cfg(test)]
fn places(breaches: &[Breach]) -> Vec<&str> {
    breaches.iter().map(|breach| breach.place.as_str()).collect()
}

#[test]
fn a_named_adapter_is_found_wherever_it_is_imported() {
    let sources = [
        Source::new("broker/src/backend/jwt.rs", "impl port::CredentialBackend for Jwt {}"),
        Source::new("broker/src/backend/jwt/claims.rs", "use crate::backend::jwt::Jwt;"),
        Source::new("broker/src/compose.rs", "use crate::backend::jwt::Jwt; use hallpass_sqlite::Sqlite;"),
        Source::new("broker/src/compose/press.rs", "use crate::backend::jwt::Jwt;"),
        Source::new("broker/src/http/router.rs", "\nuse crate::backend::jwt::Jwt;"),
        Source::new("broker/src/config/role.rs", "use crate::backend::{shared, jwt};"),
        Source::new("broker/src/cli.rs", "fn f() -> hallpass_sqlite::Sqlite {}"),
        Source::new("broker/src/cli/check.rs", "use crate::backend::shared; // crate::backend::jwt"),
    ];
    assert_eq!(
        places(&named_adapters(&sources)),
        ["broker/src/http/router.rs:2", "broker/src/config/role.rs:1", "broker/src/cli.rs:1"]
    );
}

#[test]
fn an_adapter_that_imports_another_ports_adapter_is_found() {
    let sources = [
        Source::new("broker/src/backend/jwt.rs", "use crate::identity::oidc::Keys;\nuse crate::backend::shared;"),
        Source::new("broker/src/identity/gitlab.rs", "use crate::identity::oidc::Oidc;"),
        Source::new("broker/src/compose.rs", "use crate::identity::oidc::Oidc;"),
    ];
    assert_eq!(places(&crossed_adapters(&sources)), ["broker/src/backend/jwt.rs:1"]);
}

#[test]
fn a_wire_type_in_core_is_found() {
    let sources = [Source::new("broker/core/src/grant.rs", "\n\nuse hallpass_sdk::Grant;")];
    assert_eq!(places(&named(&sources, "hallpass_sdk", "")), ["broker/core/src/grant.rs:3"]);
}

#[test]
fn a_database_type_in_a_public_signature_is_found() {
    let text = "use rusqlite::Connection;\npub(crate) fn a(c: &rusqlite::Connection) {}\npub fn b(\n    c: &rusqlite::Connection,\n) {}\n";
    assert_eq!(
        places(&databases_in_public(&[Source::new("broker/sqlite/src/lib.rs", text)])),
        ["broker/sqlite/src/lib.rs:3"]
    );
}

#[test]
fn a_status_outside_problem_rs_is_found() {
    let sources = [
        Source::new("broker/src/http/problem.rs", "StatusCode::FORBIDDEN"),
        Source::new("broker/src/cli/dev/issuer.rs", "StatusCode::NOT_FOUND"),
        Source::new("broker/src/cli/dev.rs", "StatusCode::NOT_FOUND"),
        Source::new(
            "broker/src/http/handlers/grants.rs",
            "StatusCode::CREATED\nStatusCode::FORBIDDEN\nStatusCode::from_u16(403)",
        ),
    ];
    let expected =
        ["broker/src/cli/dev.rs:1", "broker/src/http/handlers/grants.rs:2", "broker/src/http/handlers/grants.rs:3"];
    assert_eq!(places(&statuses(&sources)), expected);
}

#[test]
fn a_route_past_the_table_is_found() {
    let sources = [
        Source::new("broker/src/http/router.rs", "rows.fold(Router::new(), |router, row| router.route(row.path, row))"),
        Source::new("broker/src/http/handlers/more.rs", "\nRouter::new().route(\"/v1/more\", get(more))"),
    ];
    assert_eq!(places(&routed(&sources)), ["broker/src/http/handlers/more.rs:2"]);
    let twice = [Source::new("broker/src/http/router.rs", "router.route(row.path, row)\n.merge(other)")];
    assert_eq!(places(&routed(&twice)), ["broker/src/http/router.rs:2"]);
}

#[test]
fn a_loop_outside_the_runtime_is_found() {
    let sources = [
        Source::new("broker/src/runtime/driver.rs", "loop { tick().await }"),
        Source::new("broker/core/src/work/sweep.rs", "for x in xs {}\nloop { tick().await }"),
        Source::new("broker/core/src/work/step.rs", "loop { work()?; }\nwhile let Some(x) = rx.recv().await {}"),
        Source::new(
            "broker/core/src/service/revoke.rs",
            "loop { if apply().await? { return Ok(()); } }\nwhile i < n { i += 1; }",
        ),
        Source::new("broker/src/http/limits.rs", "\nloop { select! { _ = stop => break, _ = next => {} } }"),
        Source::new("broker/src/identity/jwks.rs", "let mut t = tokio::time::interval(d);"),
    ];
    let expected = [
        "broker/core/src/work/sweep.rs:2",
        "broker/core/src/work/step.rs:1",
        "broker/core/src/work/step.rs:2",
        "broker/src/http/limits.rs:2",
        "broker/src/identity/jwks.rs:1",
    ];
    assert_eq!(places(&loops(&sources)), expected);
}

#[test]
fn a_new_name_at_the_top_is_found() {
    let names = ["broker", ".ci", "target", "docs"].map(str::to_owned).to_vec();
    assert_eq!(places(&unknown_names(names)), ["docs"]);
}
