//! Programs that the suites need and `tests/run` installs.
//!
//! A test whose component is missing calls one of these, gets nothing and returns: it is then listed as skipped, with
//! the reason. Under `CI=true` a missing component is a failure.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The Python interpreter that has the packages of `tests/cases/requirements.txt`.
#[must_use]
pub fn python() -> Option<PathBuf> {
    present(components().join("venv/bin/python"), "the Python packages of tests/cases/requirements.txt")
}

/// The Python interpreter that has the packages of `tests/spiffe/requirements.txt`.
#[must_use]
pub fn spiffe_python() -> Option<PathBuf> {
    let folder = components().join("spiffe");
    let installed = folder.join(".installed-for");
    present(installed, "the Python packages of tests/spiffe/requirements.txt").map(|_| folder.join("bin/python"))
}

/// The folder of the programs of the packages of `tests/api/requirements.txt`, such as `st`.
#[must_use]
pub fn api_programs() -> Option<PathBuf> {
    let folder = components().join("api-venv");
    let installed = folder.join(".installed-for");
    present(installed, "the Python packages of tests/api/requirements.txt").map(|_| folder.join("bin"))
}

/// The Python interpreter that has them.
#[must_use]
pub fn api_python() -> Option<PathBuf> {
    api_programs().map(|programs| programs.join("python"))
}

/// `promtool`, which comes with Prometheus.
#[must_use]
pub fn promtool() -> Option<PathBuf> {
    present(components().join("promtool"), "promtool")
}

/// The folder whose `node_modules` has the packages of `tests/oidc/package.json`.
#[must_use]
pub fn node() -> Option<PathBuf> {
    let folder = components().join("node");
    present(folder.join(".installed-for"), "node and the npm packages of tests/oidc/package.json").map(|_| folder)
}

/// The `openssl` program.
#[must_use]
pub fn openssl() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("openssl")).find(|program| program.exists());
    present(found.unwrap_or_default(), "openssl")
}

/// The library that gives a program another time (libfaketime).
#[must_use]
pub fn faketime() -> Option<PathBuf> {
    present(components().join("libfaketime.so"), "libfaketime")
}

/// The library that has writes of a program fail (`chaos/iofault.c`).
#[must_use]
pub fn iofault() -> Option<PathBuf> {
    present(components().join("libiofault.so"), "a C compiler for tests/chaos/iofault.c")
}

/// The OpenBao server (`tests/openbao/requirements.txt`).
#[must_use]
pub fn openbao() -> Option<PathBuf> {
    present(components().join("openbao/server"), "the OpenBao server of tests/openbao/requirements.txt")
}

/// The folder of PostgreSQL's programs, such as `initdb`.
#[must_use]
pub fn postgres() -> Option<PathBuf> {
    let folder = components().join("postgres");
    present(folder.join("initdb"), "PostgreSQL").map(|_| folder)
}

/// The `ministack` program, which answers as AWS STS, IAM and S3 do (`tests/ministack/requirements.txt`).
#[must_use]
pub fn ministack() -> Option<PathBuf> {
    let folder = components().join("ministack");
    let installed = folder.join(".installed-for");
    present(installed, "the Python packages of tests/ministack/requirements.txt").map(|_| folder.join("bin/ministack"))
}

/// The workspace's root.
#[must_use]
pub fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

fn components() -> PathBuf {
    root().join("target/components")
}

fn present(file: PathBuf, what: &str) -> Option<PathBuf> {
    if file.exists() {
        return Some(file);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "missing: {what}; run tests/run");
    skip(&format!("missing: {what}; run tests/run"));
    None
}

/// Says that the running test does not run, and why.
#[expect(clippy::print_stderr, reason = "whoever runs the test alone reads it here")]
pub fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("skipped: {reason}");
    if let Some(list) = std::env::var_os("HALLPASS_TESTS_SKIPPED")
        && let Ok(mut list) = OpenOptions::new().create(true).append(true).open(list)
    {
        let _ = writeln!(list, "{test}: {reason}");
    }
}
