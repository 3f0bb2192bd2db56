//! Every source, at a server on this machine that keeps to what AWS documents of each.

use std::sync::Mutex as StdMutex;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use hallpass_core::testing::{MockClock, sample};
use tempfile::TempDir;

use super::*;

/// What was asked: method and path, the headers that matter, the form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Asked {
    what: String,
    authorization: Option<String>,
    metadata_token: Option<String>,
    lifetime: Option<String>,
    body: String,
}

type Answers = dyn Fn(&Asked) -> (u16, String) + Send + Sync;

/// The neighbours that give credentials, and an STS, in one.
struct Neighbours {
    origin: String,
    asked: Arc<StdMutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Neighbours {
    async fn start(answers: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<StdMutex<Vec<Asked>>>::default();
        let (heard, answers) = (Arc::clone(&asked), Arc::new(answers) as Arc<Answers>);
        let answer = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            let asked = Asked {
                what: format!("{method} {uri}"),
                authorization: text("authorization"),
                metadata_token: text("x-aws-ec2-metadata-token"),
                lifetime: text("x-aws-ec2-metadata-token-ttl-seconds"),
                body: String::from_utf8(body.to_vec()).unwrap(),
            };
            let (status, text) = answers(&asked);
            heard.lock().unwrap().push(asked);
            std::future::ready((StatusCode::from_u16(status).unwrap(), text))
        };
        let app = axum::Router::new().fallback(answer);
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { origin, asked, task }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.what).collect()
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A chain in this environment, whose STS is at `sts`.
fn chain(sts: &str, environment: &[(&str, &str)]) -> (Chain, Arc<MockClock>) {
    let clock = Arc::new(MockClock::starting_at(sample::NOW));
    let service = Service {
        http: Arc::new(Outbound::new(None).unwrap()),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        endpoint: Url::parse(sts).unwrap(),
        region: "eu-central-1".to_owned(),
        name: "sts",
        version: "2011-06-15",
        deadline: Duration::from_secs(5),
    };
    let environment: Vec<(String, String)> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let environment: Environment =
        Arc::new(move |name| environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()));
    (Chain::new(service, environment), clock)
}

const NOWHERE: &str = "http://127.0.0.1:9/";

/// As ECS, EKS and EC2 answer.
fn credentials(id: &str) -> String {
    let ends_at = sample::NOW.plus(Ttl::from_hours(1)).to_rfc3339();
    format!(
        r#"{{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"{id}","SecretAccessKey":"secret","Token":"session","Expiration":"{ends_at}"}}"#
    )
}

async fn id(chain: &Chain) -> String {
    chain.keys().await.unwrap().access_key_id.clone()
}

async fn refusal(chain: &Chain) -> String {
    chain.keys().await.unwrap_err().to_string()
}

/// Each value of a form.
fn form(body: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(body.as_bytes()).into_owned().collect()
}

#[tokio::test]
async fn the_environment_comes_first_and_half_of_it_is_an_error() {
    let neighbours = Neighbours::start(|_| (200, credentials("NEIGHBOUR"))).await;
    let full = format!("{}/keys", neighbours.origin);
    let own = [("AWS_ACCESS_KEY_ID", "AKIAOWN"), ("AWS_CONTAINER_CREDENTIALS_FULL_URI", full.as_str())];
    let whole = [own[0], own[1], ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_SESSION_TOKEN", "session")];
    let keys = chain(NOWHERE, &whole).0.keys().await.unwrap();
    assert_eq!((keys.access_key_id.as_str(), keys.secret_access_key.expose()), ("AKIAOWN", "secret"));
    assert_eq!(keys.session_token.as_ref().map(Secret::expose), Some("session"));
    let refused = refusal(&chain(NOWHERE, &own).0).await;
    assert!(refused.contains("without AWS_SECRET_ACCESS_KEY"), "{refused}");
    assert_eq!(neighbours.asked(), [], "the first that is there counts, also where it does not work");
    assert_eq!(id(&chain(NOWHERE, &own[1..]).0).await, "NEIGHBOUR", "the control: without it, the next one counts");
}

#[tokio::test]
async fn of_the_shared_file_the_profile_counts_and_it_is_read_again() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join(".aws")).unwrap();
    let file = folder.path().join(".aws/credentials");
    let with = |id: &str| {
        format!(
            "[default]\naws_access_key_id={id}\naws_secret_access_key=s\n[ci]\naws_access_key_id = CI\naws_secret_access_key = s\naws_session_token = t\n"
        )
    };
    std::fs::write(&file, with("FIRST")).unwrap();
    let home = folder.path().to_str().unwrap();
    let (default, clock) = chain(NOWHERE, &[("HOME", home)]);
    assert_eq!(id(&default).await, "FIRST");
    assert_eq!(id(&chain(NOWHERE, &[("HOME", home), ("AWS_PROFILE", "ci")]).0).await, "CI");
    std::fs::write(&file, with("SECOND")).unwrap();
    assert_eq!(id(&default).await, "FIRST", "not for each call");
    clock.advance(KEPT);
    assert_eq!(id(&default).await, "SECOND");
}

#[tokio::test]
async fn a_web_identity_is_shown_to_sts_and_its_keys_are_asked_for_again_ahead_of_their_end() {
    let answer = |_: &Asked| {
        let ends_at = sample::NOW.plus(Ttl::from_hours(1)).to_rfc3339();
        let text = format!(
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAWEB\
             </AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>session</SessionToken><Expiration>\
             {ends_at}</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        );
        (200, text)
    };
    let sts = Neighbours::start(answer).await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "first.token\n").unwrap();
    let named = ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap());
    let role = ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/broker");
    let (web, clock) = chain(&sts.origin, &[named, role, ("AWS_ROLE_SESSION_NAME", "broker-1")]);
    assert_eq!(id(&web).await, "ASIAWEB");
    assert_eq!(id(&web).await, "ASIAWEB");
    assert_eq!(sts.asked().len(), 1, "they are kept");
    let sent = form(&sts.asked()[0].body);
    for (name, value) in [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("RoleArn", role.1),
        ("RoleSessionName", "broker-1"),
        ("WebIdentityToken", "first.token"),
    ] {
        assert!(sent.contains(&(name.to_owned(), value.to_owned())), "{name}: {sent:?}");
    }
    assert_eq!(sts.asked()[0].authorization, None, "nothing signs it");
    std::fs::write(&file, "second.token").unwrap();
    clock.advance(Ttl::from_mins(55));
    id(&web).await;
    assert_eq!(sts.asked().len(), 2, "five minutes before their end");
    assert!(sts.asked()[1].body.contains("second.token"), "the file has a new one by then");

    let refused = refusal(&chain(&sts.origin, &[named]).0).await;
    assert!(refused.contains("without AWS_ROLE_ARN"), "{refused}");
    std::fs::write(&file, "\n").unwrap();
    assert!(refusal(&chain(&sts.origin, &[named, role]).0).await.contains("holds no token"));
}

#[tokio::test]
async fn a_container_is_given_keys_by_the_token_that_it_was_given() {
    let answer = |asked: &Asked| match asked.authorization.as_deref() {
        None | Some("Bearer pod" | "Bearer pod, renewed" | "task") => (200, credentials("ASIACONTAINER")),
        Some(_) => (401, "what it says of the token other.token".to_owned()),
    };
    let neighbours = Neighbours::start(answer).await;
    let url = format!("{}/v1/credentials", neighbours.origin);
    let at = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str());
    assert_eq!(id(&chain(NOWHERE, &[at]).0).await, "ASIACONTAINER", "ECS asks for no token");
    id(&chain(NOWHERE, &[at, ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "task")]).0).await;

    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    // Kubernetes writes no line break there; whoever else does must not break the header.
    std::fs::write(&file, "Bearer pod\n").unwrap();
    let by_file = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.to_str().unwrap());
    let (pod, clock) = chain(NOWHERE, &[at, by_file, ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "task")]);
    id(&pod).await;
    std::fs::write(&file, "Bearer pod, renewed").unwrap();
    clock.advance(Ttl::from_mins(55));
    id(&pod).await;
    let shown: Vec<_> = neighbours.asked().into_iter().map(|asked| (asked.what, asked.authorization)).collect();
    let get = "GET /v1/credentials".to_owned();
    let expected = [None, Some("task"), Some("Bearer pod"), Some("Bearer pod, renewed")];
    assert_eq!(shown, expected.map(|token| (get.clone(), token.map(str::to_owned))), "a file counts before a variable");

    let refused = refusal(&chain(NOWHERE, &[at, ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "other.token")]).0).await;
    assert!(refused.contains("answers 401") && !refused.contains("other.token"), "{refused}");
    std::fs::remove_file(&file).unwrap();
    assert!(refusal(&chain(NOWHERE, &[at, by_file]).0).await.contains("cannot be read"));
}

#[tokio::test]
async fn a_containers_endpoint_is_next_door_or_over_https() {
    let found = |name: &str, value: &str| chain(NOWHERE, &[(name, value)]).0.container();
    let (relative, full) = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let url = found(relative, "/v2/credentials/4f2c").unwrap().unwrap();
    assert_eq!(url.as_str(), "http://169.254.170.2/v2/credentials/4f2c");
    for good in ["http://169.254.170.23/v1/credentials", "http://127.0.0.1:4000/", "https://elsewhere.example/keys"] {
        assert_eq!(found(full, good).unwrap().unwrap().as_str(), good);
    }
    for (name, wrong) in [
        (relative, "@elsewhere.example/keys"),
        (relative, ".elsewhere.example/keys"),
        (full, "http://elsewhere.example/keys"),
        (full, "http://10.0.0.1/keys"),
        (full, "file:///etc/passwd"),
        (full, "keys"),
    ] {
        assert!(found(name, wrong).unwrap_err().to_string().contains("no URL that may be called"), "{wrong}");
    }
}

const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// IMDSv2 as EC2 documents it.
fn metadata(asked: &Asked, role: &str) -> (u16, String) {
    let by_token = asked.metadata_token.as_deref() == Some("metadata-token");
    match asked.what.as_str() {
        "PUT /latest/api/token" if asked.lifetime.is_some() => (200, "metadata-token".to_owned()),
        "PUT /latest/api/token" => (400, String::new()),
        what if what == format!("GET {ROLES}") && by_token => (200, role.to_owned()),
        what if what == format!("GET {ROLES}{role}") && by_token => (200, credentials("ASIAINSTANCE")),
        what if what.starts_with("GET ") && !by_token => (401, String::new()),
        _ => (404, String::new()),
    }
}

#[tokio::test]
async fn an_instance_is_given_keys_by_a_token_that_it_asked_for_first() {
    let neighbours = Neighbours::start(|asked| metadata(asked, "broker-role")).await;
    let at = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", neighbours.origin.as_str());
    let (instance, clock) = chain(NOWHERE, &[at]);
    assert_eq!(id(&instance).await, "ASIAINSTANCE");
    let role = format!("GET {ROLES}broker-role");
    assert_eq!(neighbours.paths(), ["PUT /latest/api/token".to_owned(), format!("GET {ROLES}"), role]);
    assert_eq!(neighbours.asked()[0].lifetime.as_deref(), Some("300"));
    id(&instance).await;
    assert_eq!(neighbours.asked().len(), 3, "they are kept");
    clock.advance(Ttl::from_mins(55));
    id(&instance).await;
    assert_eq!(neighbours.asked().len(), 6, "and asked for again ahead of their end");
}

#[tokio::test]
async fn an_instance_that_gives_no_token_is_not_asked_without_one() {
    let neighbours = Neighbours::start(|asked| match asked.what.as_str() {
        "PUT /latest/api/token" => (403, String::new()),
        _ => (200, "broker-role".to_owned()),
    })
    .await;
    let at = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", neighbours.origin.as_str());
    let refused = refusal(&chain(NOWHERE, &[at]).0).await;
    assert!(refused.contains("answers 403"), "{refused}");
    assert_eq!(neighbours.paths(), ["PUT /latest/api/token"], "IMDSv1 could be asked by whoever can send a GET");
    let off = refusal(&chain(NOWHERE, &[at, ("AWS_EC2_METADATA_DISABLED", "true")]).0).await;
    assert!(off.contains("disabled") && neighbours.asked().len() == 1, "{off}");
    let elsewhere = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://elsewhere.example");
    assert!(refusal(&chain(NOWHERE, &[elsewhere]).0).await.contains("none that may be called"));
}

#[tokio::test]
async fn an_instance_names_its_role_and_nothing_else() {
    for role in ["", "../../user-data", "a role", "x?y"] {
        let neighbours = Neighbours::start(move |asked| metadata(asked, role)).await;
        let at = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", neighbours.origin.as_str());
        let refused = refusal(&chain(NOWHERE, &[at]).0).await;
        assert!(refused.contains("has no role"), "{role:?}: {refused}");
        assert_eq!(neighbours.asked().len(), 2, "{role:?} is not made into a path");
    }
}

#[tokio::test]
async fn what_is_no_credential_is_refused_without_quoting_it() {
    for answer in [
        r#"{"SecretAccessKey":"canary"}"#,
        "canary",
        r#"{"AccessKeyId":"A","SecretAccessKey":"canary","Token":"canary","Expiration":"soon"}"#,
    ] {
        let neighbours = Neighbours::start(move |_| (200, answer.to_owned())).await;
        let url = format!("{}/keys", neighbours.origin);
        let refused = refusal(&chain(NOWHERE, &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)]).0).await;
        assert!(!refused.contains("canary"), "{refused}");
    }
}
