//! The binary as its users run it, against a server that answers as told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets what it did not expect has failed"
)]

mod bundles;
mod exec;
mod grants;
mod outcomes;
mod sets;
#[path = "../../../tests/stub/mod.rs"]
mod stub;

use std::process::{Command, Output};

use stub::{Stub, grant, json, opened};

const X509: &str = r#"{"type":"x509","expires_at":"2099-01-31T09:10:00Z","certificate_chain":"CHAIN",
    "private_key":"KEY","trust_bundle":"ROOTS"}"#;

fn hallpass(stub: &Stub, arguments: &[&str]) -> Command {
    let mut command = bare(arguments);
    command.env("HALLPASS_URL", &stub.url).env("HALLPASS_PROOF", "a-proof");
    command
}

fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hallpass"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).args(arguments);
    command
}

fn broker(credential: &'static str) -> Stub {
    Stub::start(move |request, _| match request.target.as_str() {
        "/v1/grants" => opened("gr_1", credential),
        _ => json(200, grant("gr_1", "active")),
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

fn asked(stub: &Stub) -> Vec<String> {
    stub.rest().iter().map(stub::Request::line).collect()
}
