//! A verifier of tokens that shares nothing with the broker: `tests/cases/verify_token.py`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::{Broker, component, unix_now};

/// Judges tokens by the broker's published keys and its status lists.
#[derive(Debug)]
pub struct Verifier {
    python: PathBuf,
}

impl Verifier {
    /// A verifier, where Python and its packages are there.
    #[must_use]
    pub fn new() -> Option<Self> {
        component::python().map(|python| Self { python })
    }

    /// What it says of a token, after it has fetched the key set and the list that the token names: `valid`, `invalid`,
    /// or why it can say neither.
    pub async fn judge(&self, broker: &Broker, token: &str) -> String {
        let list = broker.call("GET", &place(broker, token).0, None, None).await;
        let list = if list.status == 200 { list.text } else { return format!("no list: {}", list.text) };
        self.judge_by(broker, token, Some(&list)).await
    }

    /// The same by a list that is given, or by the token alone.
    ///
    /// # Panics
    /// When Python does not start.
    pub async fn judge_by(&self, broker: &Broker, token: &str, list: Option<&str>) -> String {
        let keys = broker.call("GET", "/.well-known/jwks.json", None, None).await;
        keys.assert_status(200);
        let given = json!({"token": token, "list": list, "jwks": keys.body, "now": unix_now()});
        let mut command = Command::new(&self.python);
        command.arg(component::root().join("tests/cases/verify_token.py"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("Python starts");
        process.stdin.take().expect("its input").write_all(given.to_string().as_bytes()).expect("it reads");
        let output = process.wait_with_output().expect("it ends");
        let said = if output.status.success() { output.stdout } else { output.stderr };
        String::from_utf8_lossy(&said).trim().to_owned()
    }
}

/// The path of the list that a token names, and its place in it.
///
/// # Panics
/// When it names none of this broker's.
#[must_use]
pub fn place(broker: &Broker, token: &str) -> (String, u64) {
    use base64::Engine as _;
    let claims = token.split('.').nth(1).expect("claims");
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).expect("base64url");
    let claims: Value = serde_json::from_slice(&claims).expect("JSON");
    let listed = &claims["status"]["status_list"];
    let uri = listed["uri"].as_str().expect("the URL of a list");
    let path = uri.strip_prefix(&broker.url()).unwrap_or_else(|| panic!("a list elsewhere: {uri}"));
    (path.to_owned(), listed["idx"].as_u64().expect("a place"))
}
