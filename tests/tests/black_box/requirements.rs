//! What the standards demand, clause by clause, and what keeps each: `cases/requirements.json`. A clause is kept by cases of
//! `cases/catalogue.json`, which run (see `catalogue`), or by tests of these names; one that does not apply says why.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hallpass_tests::{component, forge};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Clause {
    id: String,
    standard: String,
    clause: String,
    level: String,
    requirement: String,
    #[serde(default)]
    cases: Vec<String>,
    #[serde(default)]
    tests: Vec<String>,
    not_applicable: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Case {
    id: String,
}

/// The names of the functions of the project's own sources.
fn functions() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in ["broker", "sdk", "tests"] {
        collect(&component::root().join(folder), &mut names);
    }
    names
}

fn collect(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, names);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            let named = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            names.extend(named.map(str::to_owned));
        }
    }
}

#[test]
fn every_clause_is_kept_by_something_that_runs() {
    let file = component::root().join("tests/cases/requirements.json");
    let text = fs::read_to_string(file).expect("the clauses are there");
    let clauses: Vec<Clause> = serde_json::from_str(&text).expect("the clauses are valid");
    let text = fs::read_to_string(forge::catalogue()).expect("the catalogue is there");
    let cases: Vec<Case> = serde_json::from_str(&text).expect("the catalogue is valid");
    let cases: BTreeSet<String> = cases.into_iter().map(|case| case.id).collect();
    let functions = functions();

    let (mut wrong, mut kept, mut aside) = (Vec::new(), 0, 0);
    for Clause { id, standard, clause, level, requirement, cases: by, tests, not_applicable } in &clauses {
        let mut say = |what: String| wrong.push(format!("{id} ({standard} {clause}, {level}): {what}"));
        for case in by.iter().filter(|case| !cases.contains(*case)) {
            say(format!("there is no case {case}"));
        }
        for test in tests.iter().filter(|test| !functions.contains(*test)) {
            say(format!("there is no test {test}"));
        }
        match (by.is_empty() && tests.is_empty(), not_applicable) {
            (false, None) => kept += 1,
            (true, Some(reason)) if !reason.is_empty() => aside += 1,
            (true, _) => say(format!("nothing keeps it: {requirement}")),
            (false, Some(_)) => say("it is kept, and said not to apply".to_owned()),
        }
    }
    println!("{} clauses: {kept} kept, {aside} not applicable", clauses.len());
    assert!(clauses.len() > 100 && wrong.is_empty(), "{}", wrong.join("\n"));
}
