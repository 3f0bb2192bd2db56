//! Who tries the endpoints, and on what.

use std::net::{SocketAddr, TcpListener};

use hallpass_broker::http::{Listener, endpoints};
use hallpass_tests::config::{OPERATOR, RELEASE_ROLE, ROLE};
use hallpass_tests::{Answer, Exchange, Row as Stored, SigningKey};
use serde_json::{Value, json};

use super::rows::{self, Body, Row};
use crate::House;

/// Stands in the purpose of every grant of the scene: whoever may not see one must not see this.
pub(super) const MARK: &str = "deploy build 7c19 of the endpoints' scene";

const STRANGER: &str = "repo:evil@666/x@667:ref:refs/heads/main";

/// Operators may do everything that there is: what they are refused is not theirs for another reason.
const OPERATORS: &str = r#"
@id("platform-operates")
permit (principal in Group::"platform", action, resource);
"#;

/// Who tries.
#[derive(Clone, Copy, Debug)]
pub(super) enum Persona {
    /// Without a proof.
    Nobody,
    /// With the proof of the right one, signed by a key that is not the issuer's.
    Impostor(Right),
    /// With a good proof, and without a right.
    Stranger,
    /// As it should be.
    Right(Right),
}

/// Who may.
#[derive(Clone, Copy, Debug)]
pub(super) enum Right {
    /// Whoever opened the scene's grants.
    Holder,
    /// A job of the repository that may release.
    Releaser,
    /// A member of the platform team.
    Operator,
}

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    Nothing,
    /// A fresh, active grant of the holder's.
    Grant,
    /// One whose end has begun.
    EndingGrant,
    /// The credential of a fresh grant of the holder's.
    Token,
    Role,
    Owner,
    /// The list that the first tokens name.
    StatusList,
    /// The revision in force.
    Revision,
    /// The list that certificates point to.
    RevocationList,
    /// A revocation of the operator's.
    Revocation,
    /// A quarantine of the operator's.
    Quarantine,
}

/// A broker with somebody in every part.
pub(super) struct Scene {
    pub(super) house: House,
    forger: SigningKey,
    /// Where operators are served, where that is not the API's listener.
    pub(super) admin: Option<SocketAddr>,
}

impl Scene {
    pub(super) async fn open() -> Self {
        Self::open_with(None).await
    }

    /// With a listener for operators.
    pub(super) async fn with_operators_apart() -> Self {
        let free = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = free.local_addr().expect("an address");
        drop(free);
        Self::open_with(Some(address)).await
    }

    async fn open_with(admin: Option<SocketAddr>) -> Self {
        let apart = admin.map_or(json!({}), |listen| json!({"server": {"admin": {"listen": listen.to_string()}}}));
        let house = House::open_with(|setup| setup.server(apart).policy("operators.cedar", OPERATORS)).await;
        let scene = Self { house, forger: SigningKey::es256("key-1"), admin };
        // So that lists have something to keep from strangers.
        scene.grant().await;
        scene
    }

    /// What fills `{…}` in the path, or stands in the form.
    pub(super) async fn target(&self, about: Target) -> String {
        match about {
            Target::Nothing => String::new(),
            Target::Grant => self.grant().await.grant_id().to_owned(),
            Target::EndingGrant => {
                let id = self.grant().await.grant_id().to_owned();
                let path = format!("/v1/grants/{id}");
                self.house.broker.call("DELETE", &path, Some(&self.house.proof()), None).await.assert_status(202);
                id
            }
            Target::Token => {
                let opened = self.grant().await;
                opened.body["credential"]["token"].as_str().expect("a token").to_owned()
            }
            Target::Role => ROLE.to_owned(),
            Target::Owner => "platform".to_owned(),
            Target::StatusList => "0".to_owned(),
            Target::Revision => {
                let newest = "SELECT id FROM bundle_revisions ORDER BY seq DESC LIMIT 1";
                let rows = self.house.broker.store().rows(newest, &[]);
                rows[0]["id"].as_str().expect("a revision").to_owned()
            }
            Target::RevocationList => {
                let keys = self.house.broker.store().rows("SELECT key_id FROM signing_keys WHERE purpose = 'ca'", &[]);
                format!("{}.der", keys[0]["key_id"].as_str().expect("a key id"))
            }
            Target::Revocation => self.command("/v1/revocations", &rows::revocation()).await,
            Target::Quarantine => self.command("/v1/quarantines", &rows::quarantine()).await,
        }
    }

    async fn command(&self, path: &str, body: &Value) -> String {
        let proof = self.proof(Persona::Right(Right::Operator));
        let broker = &self.house.broker;
        let at = self.admin.unwrap_or_else(|| broker.address());
        let answer = broker.call_at(at, "POST", path, proof.as_deref(), Some(body)).await;
        assert!(matches!(answer.status, 201 | 202), "{}", answer.text);
        answer.text_of("id").to_owned()
    }

    async fn grant(&self) -> Answer {
        let wanted = json!({"role": ROLE, "purpose": MARK, "ends_when": {"heartbeat": "10m"}});
        let opened = self.house.broker.call("POST", "/v1/grants", Some(&self.house.proof()), Some(&wanted)).await;
        opened.assert_status(201);
        opened
    }

    /// Sends the row's request as `persona`, to the listener that the endpoint is on.
    pub(super) async fn send(&self, row: &Row, persona: Persona, target: &str) -> Answer {
        let broker = &self.house.broker;
        let path = row.path.replace("{id}", target).replace("{*name}", target).replace("{name}", target) + row.query;
        let at = match listener_of(row) {
            Listener::Operations => return broker.operations(&path).await,
            Listener::Admin => self.admin.unwrap_or_else(|| broker.address()),
            Listener::Api => broker.address(),
        };
        let proof = self.proof(persona);
        let proof = proof.as_deref();
        let form_type = Some("application/x-www-form-urlencoded");
        match row.body {
            Body::None => broker.call_at(at, row.method, &path, proof, None).await,
            Body::Json(body) => broker.call_at(at, row.method, &path, proof, Some(&body())).await,
            Body::OwnToken if matches!(persona, Persona::Nobody | Persona::Stranger) => {
                broker.post_raw(&path, proof, form_type, "token=not-one-of-the-brokers").await
            }
            Body::Token | Body::OwnToken => broker.post_raw(&path, proof, form_type, format!("token={target}")).await,
            Body::Exchange => {
                let exchange = Exchange::of(proof.unwrap_or_default()).role(RELEASE_ROLE);
                let exchange = if proof.is_none() { exchange.without("subject_token") } else { exchange };
                broker.exchange(&exchange).await
            }
        }
    }

    pub(super) fn proof(&self, persona: Persona) -> Option<String> {
        match persona {
            Persona::Nobody => None,
            Persona::Impostor(right) => Some(self.forger.sign(&self.claims(right))),
            Persona::Stranger => Some(self.house.proof_of(STRANGER)),
            Persona::Right(right) => Some(self.house.key.sign(&self.claims(right))),
        }
    }

    fn claims(&self, right: Right) -> Value {
        let mut claims = self.house.claims();
        match right {
            Right::Holder => {}
            Right::Operator => claims["sub"] = json!(OPERATOR),
            Right::Releaser => {
                for (name, value) in [
                    ("repository_id", "222"),
                    ("repository_owner_id", "111"),
                    ("event_name", "push"),
                    ("ref", "refs/heads/main"),
                    ("runner_environment", "github-hosted"),
                ] {
                    claims[name] = json!(value);
                }
            }
        }
        claims
    }

    /// Everything that a request could have changed, but for the record of who tried.
    pub(super) fn state(&self) -> Vec<Stored> {
        let store = self.house.broker.store();
        let mut all = store.rows("SELECT id, state, version, end_at, expires_at FROM grants ORDER BY id", &[]);
        all.extend(store.rows("SELECT id FROM revocations ORDER BY id", &[]));
        all.extend(store.rows("SELECT id, lifted_at FROM quarantines ORDER BY id", &[]));
        all
    }
}

fn listener_of(row: &Row) -> Listener {
    let known = endpoints().into_iter().find(|known| known.method == row.method && known.path == row.path);
    known.map_or(Listener::Api, |endpoint| endpoint.listener)
}
