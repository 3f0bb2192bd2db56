//! ministack, which answers as AWS STS, IAM and S3 do and enforces their policies: on loopback, in memory, thrown away.
//!
//! It verifies signatures, trust policies, session policies, the end of sessions, and a Deny by `aws:userid` or
//! `aws:TokenIssueTime`. It verifies neither the signature of a web identity's token nor the bounds of durations and
//! sizes, and of `AssumeRoleWithWebIdentity` it ignores session policy and tags.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ring::{digest, hmac};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::port::lasting_address;
use crate::{component, eventually, unix_now};

/// The account that everything is in.
pub const ACCOUNT: &str = "123456789012";
/// The region that everything is in.
pub const REGION: &str = "eu-central-1";
/// How long it may take to answer first.
const DEADLINE: Duration = Duration::from_secs(30);
/// Keys that may do everything.
const ROOT: &str = "test";

/// A server. It ends, and forgets everything, when this is dropped.
#[derive(Debug)]
pub struct Ministack {
    process: Child,
    address: SocketAddr,
    client: reqwest::Client,
    home: TempDir,
}

/// Keys of a session, or of a user.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Access key id.
    pub id: String,
    /// Secret access key.
    pub secret: String,
    /// Session token.
    pub token: Option<String>,
}

impl Keys {
    /// Those of a credential as the broker gives it.
    ///
    /// # Panics
    /// When it is none of AWS.
    #[must_use]
    pub fn of(credential: &Value) -> Self {
        assert_eq!(credential["type"], "aws", "{credential}");
        let text = |name: &str| credential[name].as_str().unwrap_or_else(|| panic!("no {name}")).to_owned();
        Self { id: text("access_key_id"), secret: text("secret_access_key"), token: Some(text("session_token")) }
    }

    fn root() -> Self {
        Self { id: ROOT.to_owned(), secret: ROOT.to_owned(), token: None }
    }
}

impl Ministack {
    /// Starts one and awaits that it answers. None where it is not installed.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start() -> Option<Self> {
        let program = component::ministack()?;
        let home = TempDir::with_prefix("hallpass-ministack-").expect("a temporary folder");
        let address = lasting_address();
        let process = spawn(&program, home.path(), address);
        let server = Self { process, address, client: crate::broker::client(), home };
        server.answers().await;
        Some(server)
    }

    async fn answers(&self) {
        eventually("ministack answers", DEADLINE, async || {
            let asked = self.client.get(format!("{}/_ministack/health", self.url())).send().await;
            asked.is_ok_and(|answer| answer.status() == 200).then_some(())
        })
        .await;
    }

    /// Its origin.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it.
    pub fn stop(&mut self) {
        // Also where it hangs; its remains stay until the harness is done with it.
        let _ = self.process.kill();
    }

    /// Stops answering without closing a connection, until [`Ministack::go_on`].
    pub fn hang(&self) {
        crate::process::halt(self.id());
    }

    /// Answers again.
    pub fn go_on(&self) {
        let cont = rustix::process::Signal::CONT;
        rustix::process::kill_process(self.id(), cont).expect("the process is there, or its remains");
    }

    fn id(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.process)
    }

    /// Has IAM do something as root; gives what it answers.
    ///
    /// # Panics
    /// When it refuses.
    pub async fn iam(&self, action: &str, parameters: &[(&str, &str)]) -> String {
        let (status, text) = self.query("iam", "2010-05-08", action, parameters, &Keys::root()).await;
        assert_eq!(status, 200, "{action}: {text}");
        text
    }

    /// The same, with these keys and whatever the answer.
    pub async fn iam_as(&self, keys: &Keys, action: &str, parameters: &[(&str, &str)]) -> (u16, String) {
        self.query("iam", "2010-05-08", action, parameters, keys).await
    }

    /// Asks STS with these keys.
    pub async fn sts_as(&self, keys: &Keys, action: &str, parameters: &[(&str, &str)]) -> (u16, String) {
        self.query("sts", "2011-06-15", action, parameters, keys).await
    }

    async fn query(
        &self,
        service: &str,
        version: &str,
        action: &str,
        parameters: &[(&str, &str)],
        keys: &Keys,
    ) -> (u16, String) {
        let mut form = vec![("Action", action), ("Version", version)];
        form.extend(parameters);
        let body = form_of(&form);
        self.send(keys, service, "POST", "/", body.as_bytes()).await
    }

    /// A role that `trust` lets in, and that may do everything with S3; gives its ARN.
    pub async fn role(&self, name: &str, trust: &Value) -> String {
        self.role_with(name, trust, &allow("s3:*")).await
    }

    /// A role that `trust` lets in and that `policy` permits something.
    pub async fn role_with(&self, name: &str, trust: &Value, policy: &Value) -> String {
        let (trust, policy) = (trust.to_string(), policy.to_string());
        self.iam("CreateRole", &[("RoleName", name), ("AssumeRolePolicyDocument", &trust)]).await;
        self.put_inline(name, "base", &policy).await;
        format!("arn:aws:iam::{ACCOUNT}:role/{name}")
    }

    /// Puts an inline policy of a role.
    pub async fn put_inline(&self, role: &str, name: &str, document: &str) {
        let parameters = [("RoleName", role), ("PolicyName", name), ("PolicyDocument", document)];
        self.iam("PutRolePolicy", &parameters).await;
    }

    /// The names of a role's inline policies, and what they say, but for the one that permits what the role is for.
    pub async fn inline_policies(&self, role: &str) -> Vec<(String, Value)> {
        let listed = self.iam("ListRolePolicies", &[("RoleName", role)]).await;
        let mut found = Vec::new();
        for name in elements(&listed, "member").into_iter().filter(|name| name != "base") {
            let got = self.iam("GetRolePolicy", &[("RoleName", role), ("PolicyName", &name)]).await;
            let document = elements(&got, "PolicyDocument").remove(0);
            found.push((name, serde_json::from_str(&decoded(&document)).expect("a policy")));
        }
        found
    }

    /// Makes a bucket with one object in it, `hello`.
    pub async fn bucket(&self, name: &str) {
        let place = format!(
            "<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
        );
        for (path, body) in [(format!("/{name}"), place.as_str()), (format!("/{name}/hello"), "hello, world")] {
            let (status, text) = self.send(&Keys::root(), "s3", "PUT", &path, body.as_bytes()).await;
            assert_eq!(status, 200, "{path}: {text}");
        }
    }

    /// The status of reading an object with these keys.
    pub async fn read(&self, keys: &Keys, bucket: &str) -> u16 {
        self.send(keys, "s3", "GET", &format!("/{bucket}/hello"), b"").await.0
    }

    /// The status of writing an object with these keys.
    pub async fn write(&self, keys: &Keys, bucket: &str) -> u16 {
        self.send(keys, "s3", "PUT", &format!("/{bucket}/written"), b"x").await.0
    }

    /// Where it keeps what it says.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.home.path()
    }

    /// What asks it even where it is away.
    #[must_use]
    pub fn asker(&self) -> Asker {
        Asker { client: self.client.clone(), address: self.address }
    }

    async fn send(&self, keys: &Keys, service: &str, method: &str, path: &str, body: &[u8]) -> (u16, String) {
        self.asker().send(keys, service, method, path, body).await.expect("an answer")
    }
}

/// Asks a server that may be away.
#[derive(Clone, Debug)]
pub struct Asker {
    client: reqwest::Client,
    address: SocketAddr,
}

impl Asker {
    /// The status of reading an object with these keys; none where nobody answers.
    pub async fn read(&self, keys: &Keys, bucket: &str) -> Option<u16> {
        self.send(keys, "s3", "GET", &format!("/{bucket}/hello"), b"").await.map(|(status, _)| status)
    }

    /// Signature Version 4, apart from the broker's.
    async fn send(&self, keys: &Keys, service: &str, method: &str, path: &str, body: &[u8]) -> Option<(u16, String)> {
        let at = time::OffsetDateTime::from_unix_timestamp(unix_now()).expect("a time");
        let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
        let stamp = at.format(format).expect("a time");
        let day = &stamp[..8];
        let hash = hex(digest::digest(&digest::SHA256, body).as_ref());
        let mut headers = vec![("host", self.address.to_string())];
        if method == "POST" {
            headers.insert(0, ("content-type", "application/x-www-form-urlencoded".to_owned()));
        }
        headers.push(("x-amz-content-sha256", hash.clone()));
        headers.push(("x-amz-date", stamp.clone()));
        headers.extend(keys.token.clone().map(|token| ("x-amz-security-token", token)));
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical = format!("{method}\n{path}\n\n{lines}\n{names}\n{hash}");
        let scope = format!("{day}/{REGION}/{service}/aws4_request");
        let canonical = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{canonical}");
        let sign = |key: &[u8], text: &str| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
        };
        let first = format!("AWS4{}", keys.secret).into_bytes();
        let key = [day, REGION, service, "aws4_request"].iter().fold(first, |key, part| sign(&key, part));
        let signature = hex(&sign(&key, &to_sign));
        let id = &keys.id;
        let authorization =
            format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.client.request(method, format!("http://{}{path}", self.address)).body(body.to_vec());
        for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
            request = request.header(*name, value);
        }
        let answer = request.header("authorization", authorization).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }
}

impl Drop for Ministack {
    fn drop(&mut self) {
        self.stop();
        let _ = self.process.wait();
    }
}

/// A policy that permits an action on everything.
#[must_use]
pub fn allow(action: &str) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]})
}

/// The trust policy by which an OIDC provider's tokens with this subject let their bearers in.
#[must_use]
pub fn trusting(origin: &str, subject: &str) -> Value {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": {"Federated": format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{host}")},
        "Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"],
        "Condition": {"StringEquals": {
            format!("{host}:sub"): subject,
            format!("{host}:aud"): "sts.amazonaws.com",
        }},
    }]})
}

/// The texts of all elements of a name, in the order in which they stand.
#[must_use]
pub fn elements(xml: &str, name: &str) -> Vec<String> {
    let pattern = regex::Regex::new(&format!("<{name}>([^<]*)</{name}>")).expect("a name");
    pattern.captures_iter(xml).map(|found| found[1].to_owned()).collect()
}

fn spawn(program: &Path, home: &Path, address: SocketAddr) -> Child {
    let log = std::fs::File::create(home.join("log")).expect("a file");
    let mut command = Command::new(program);
    command.env_clear().current_dir(home);
    command.envs([
        ("AUTH", "true"),
        ("BIND_HOST", "127.0.0.1"),
        ("GATEWAY_PORT", &address.port().to_string()),
        ("SERVICES", "s3,sts,iam"),
        ("MINISTACK_ACCOUNT_ID", ACCOUNT),
        ("AWS_ACCESS_KEY_ID", ROOT),
        ("AWS_SECRET_ACCESS_KEY", ROOT),
        ("HOME", &home.display().to_string()),
        ("PATH", "/usr/bin:/bin"),
    ]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("ministack starts")
}

fn form_of(parameters: &[(&str, &str)]) -> String {
    let encoded = |text: &str| -> String {
        let unreserved = |b: &u8| b.is_ascii_alphanumeric() || b"-._~".contains(b);
        text.bytes().map(|b| if unreserved(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
    };
    parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect::<Vec<_>>().join("&")
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits: String = rest.by_ref().take(2).map(char::from).collect();
            bytes.push(u8::from_str_radix(&digits, 16).expect("an encoded byte"));
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).expect("text").replace("&quot;", "\"").replace("&amp;", "&")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
