//! The table: one row an endpoint.
//!
//! To add one: `get("/v1/things/{id}").about(Target::…).by(Right::…)` says what `{id}` is filled with and who may; then
//! what a stranger gets, who proves to be somebody without that right. What is not said: nobody and an impostor get
//! `401`, the right one `200`.

use hallpass_sdk::wire::Timestamp;
use hallpass_tests::config::{RELEASE_ROLE, ROLE};
use hallpass_tests::unix_now;
use serde_json::{Value, json};

use super::scene::{MARK, Right, Target};

/// One endpoint with what each persona gets.
pub(super) struct Row {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// What `{id}` in the path, and the body, are about.
    pub(super) about: Target,
    /// What is asked behind the path.
    pub(super) query: &'static str,
    pub(super) body: Body,
    pub(super) right: Right,
    /// Without a proof.
    pub(super) nobody: Expected,
    /// With the right one's proof, forged.
    pub(super) impostor: Expected,
    /// With a good proof of somebody who may not.
    pub(super) stranger: Expected,
    /// As the right one.
    pub(super) served: Expected,
    /// Whether the right one's request changes what is stored of grants.
    pub(super) changes: bool,
}

/// What is sent, besides the proof.
#[derive(Clone, Copy)]
pub(super) enum Body {
    None,
    Json(fn() -> Value),
    /// A form with the target as its `token`.
    Token,
    /// The same, but nobody and the stranger do not have the token.
    OwnToken,
    /// A form in which the proof itself stands, as `subject_token`.
    Exchange,
}

/// A status, and what the body says among other things.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    pub(super) status: u16,
    pub(super) says: &'static str,
}

const fn status(status: u16) -> Expected {
    Expected { status, says: "" }
}

impl Row {
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn about(self, about: Target) -> Self {
        Self { about, ..self }
    }

    fn asking(self, query: &'static str) -> Self {
        Self { query, ..self }
    }

    fn by(self, right: Right) -> Self {
        Self { right, ..self }
    }

    fn json(self, body: fn() -> Value) -> Self {
        Self { body: Body::Json(body), ..self }
    }

    fn body(self, body: Body) -> Self {
        Self { body, ..self }
    }

    fn nobody(self, code: u16) -> Self {
        Self { nobody: status(code), ..self }
    }

    fn impostor(self, code: u16) -> Self {
        Self { impostor: status(code), ..self }
    }

    fn stranger(self, code: u16, says: &'static str) -> Self {
        Self { stranger: Expected { status: code, says }, ..self }
    }

    fn served(self, code: u16, says: &'static str) -> Self {
        Self { served: Expected { status: code, says }, ..self }
    }

    /// The right one's request changes what is stored of grants.
    fn changing(self) -> Self {
        Self { changes: true, ..self }
    }

    /// For everybody: there is no wrong somebody.
    fn public(self) -> Self {
        Self { nobody: status(200), impostor: status(200), stranger: status(200), ..self }
    }
}

fn row(method: &'static str, path: &'static str) -> Row {
    Row {
        method,
        path,
        about: Target::Nothing,
        query: "",
        body: Body::None,
        right: Right::Holder,
        nobody: status(401),
        impostor: status(401),
        stranger: status(403),
        served: status(200),
        changes: false,
    }
}

fn get(path: &'static str) -> Row {
    row("GET", path)
}

fn post(path: &'static str) -> Row {
    row("POST", path)
}

fn put(path: &'static str) -> Row {
    row("PUT", path)
}

fn delete(path: &'static str) -> Row {
    row("DELETE", path)
}

const NOT_FOUND: &str = r#""code":"not_found""#;
const EMPTY: &str = r#""items":[]"#;

fn release() -> Value {
    json!({"role": RELEASE_ROLE, "purpose": "deploy build 4f2c to staging"})
}

fn reason() -> Value {
    json!({"reason": "found by a test"})
}

fn bundle() -> Value {
    json!({"files": {"owners.toml": ""}})
}

fn preview() -> Value {
    json!({"role": RELEASE_ROLE, "action": "mint", "purpose": "deploy build 4f2c to staging"})
}

/// Of nothing that the scene has.
pub(super) fn revocation() -> Value {
    json!({"selector": {"run": "none of the scene's"}, "reason": "found by a test"})
}

/// The same.
pub(super) fn quarantine() -> Value {
    let until = unix_now() + 3_600;
    let until = Timestamp::from_unix_millis(until * 1_000).expect("an instant").to_string();
    json!({"selector": {"run": "none of the scene's"}, "reason": "found by a test", "until": until})
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        // Exchange. What is wrong with a proof is `invalid_request` here (RFC 8693 §2.2.2).
        post("/oauth2/token")
            .body(Body::Exchange)
            .by(Right::Releaser)
            .nobody(400)
            .impostor(400)
            .stranger(400, r#""error":"invalid_target""#)
            .served(200, r#""grant_id""#)
            .changing(),
        post("/oauth2/introspect")
            .about(Target::Token)
            .body(Body::Token)
            .stranger(200, r#"{"active":false}"#)
            .served(200, r#""active":true"#),
        // Whoever has the token may end it: the wrong somebody is who has none.
        post("/oauth2/revoke").about(Target::Token).body(Body::OwnToken).nobody(200).stranger(200, "").changing(),
        // Public documents.
        get("/.well-known/oauth-authorization-server").public(),
        get("/.well-known/openid-configuration").public(),
        get("/.well-known/jwks.json").public().served(200, r#""keys":[{"#),
        get("/openapi.json").public().served(200, r#""openapi":"3.1"#),
        get("/pki/ca.pem").public().served(200, "BEGIN CERTIFICATE"),
        get("/pki/crl.der").public(),
        get("/pki/crl/{id}").about(Target::RevocationList).public(),
        get("/status-lists/{id}").about(Target::StatusList).public(),
        // Grants.
        post("/v1/grants").json(release).by(Right::Releaser).served(201, r#""credential""#).changing(),
        get("/v1/grants").stranger(200, EMPTY).served(200, MARK),
        get("/v1/grants/{id}").about(Target::Grant).stranger(404, NOT_FOUND).served(200, MARK),
        delete("/v1/grants/{id}").about(Target::Grant).stranger(404, NOT_FOUND).served(202, "revoking").changing(),
        // The test's backend cannot extend: the right one is told so, and nobody else.
        post("/v1/grants/{id}/renew").about(Target::Grant).stranger(404, NOT_FOUND).served(409, "cannot_extend"),
        post("/v1/grants/{id}/revoke")
            .about(Target::Grant)
            .json(reason)
            .stranger(404, NOT_FOUND)
            .served(202, "revoking")
            .changing(),
        post("/v1/grants/{id}/heartbeat").about(Target::Grant).stranger(404, NOT_FOUND).served(200, MARK),
        post("/v1/grants/{id}/abandon")
            .about(Target::EndingGrant)
            .json(reason)
            .by(Right::Operator)
            .stranger(404, NOT_FOUND)
            .served(200, "abandoned")
            .changing(),
        // What a caller is and may do: the wrong somebody sees only itself.
        get("/v1/whoami").stranger(200, "repo:evil").served(200, crate::WORKLOAD),
        post("/v1/decisions")
            .json(preview)
            .by(Right::Releaser)
            .stranger(200, r#""outcome":"deny""#)
            .served(200, r#""outcome":"allow""#),
        // The inventory, as far as one may read it.
        get("/v1/roles").by(Right::Operator).stranger(200, EMPTY).served(200, ROLE),
        get("/v1/roles/{*name}").about(Target::Role).by(Right::Operator).stranger(404, NOT_FOUND).served(200, ROLE),
        get("/v1/owners").by(Right::Operator).stranger(200, EMPTY).served(200, "platform"),
        get("/v1/owners/{name}")
            .about(Target::Owner)
            .by(Right::Operator)
            .stranger(404, NOT_FOUND)
            .served(200, "platform"),
        // What is everybody's.
        get("/v1/audit").by(Right::Operator).stranger(403, "policy_denied").served(200, "grant.open"),
        get("/v1/audit/checkpoint").by(Right::Operator).stranger(403, "policy_denied").served(200, "/audit/"),
        get("/v1/audit/proof")
            .asking("?entry=0")
            .by(Right::Operator)
            .stranger(403, "policy_denied")
            .served(200, r#""leaf_hash""#),
        // The bundle of this scene comes from files: who may publish is told so, and nobody else.
        get("/v1/configuration").by(Right::Operator).stranger(403, "policy_denied").served(200, "owners.toml"),
        put("/v1/configuration")
            .json(bundle)
            .by(Right::Operator)
            .stranger(403, "policy_denied")
            .served(409, "configuration_from_files"),
        get("/v1/configuration/revisions").by(Right::Operator).stranger(403, "policy_denied").served(200, "start"),
        get("/v1/configuration/revisions/{id}")
            .about(Target::Revision)
            .by(Right::Operator)
            .stranger(403, "policy_denied")
            .served(200, "owners.toml"),
        post("/v1/configuration/revisions/{id}/rollback")
            .about(Target::Revision)
            .by(Right::Operator)
            .stranger(403, "policy_denied")
            .served(409, "configuration_from_files"),
        // Commands over sets. A stranger's own grants are not enough to end a set.
        post("/v1/revocations")
            .json(revocation)
            .by(Right::Operator)
            .stranger(403, "policy_denied")
            .served(202, r#""state":"running""#)
            .changing(),
        get("/v1/revocations").by(Right::Operator).stranger(200, EMPTY).served(200, "found by a test"),
        get("/v1/revocations/{id}")
            .about(Target::Revocation)
            .by(Right::Operator)
            .stranger(404, NOT_FOUND)
            .served(200, "found by a test"),
        post("/v1/quarantines")
            .json(quarantine)
            .by(Right::Operator)
            .stranger(403, "policy_denied")
            .served(201, r#""in_force":true"#)
            .changing(),
        get("/v1/quarantines").by(Right::Operator).stranger(200, EMPTY).served(200, "found by a test"),
        get("/v1/quarantines/{id}")
            .about(Target::Quarantine)
            .by(Right::Operator)
            .stranger(404, NOT_FOUND)
            .served(200, "found by a test"),
        delete("/v1/quarantines/{id}")
            .about(Target::Quarantine)
            .by(Right::Operator)
            .stranger(404, NOT_FOUND)
            .served(200, r#""in_force":false"#)
            .changing(),
        // Operations: no proof is asked for; the network keeps strangers away.
        get("/healthz").public(),
        get("/readyz").public(),
        get("/metrics").public().served(200, "hallpass_"),
    ]
}
