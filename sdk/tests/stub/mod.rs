//! A server that answers as told and remembers what it was asked. It knows nothing of Hallpass.

#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part of it")]

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longer than any of these tests needs; a test that waits this long has failed.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A request as received.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// What to do with a request.
pub enum Answer {
    Reply {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// Closes the connection without a word.
    HangUp,
    /// Keeps the connection open without a word.
    Silence,
}

pub fn json(status: u16, body: impl Into<String>) -> Answer {
    Answer::Reply { status, headers: vec![("content-type", "application/json".to_owned())], body: body.into() }
}

pub fn problem(status: u16, code: &str) -> Answer {
    let body = format!(
        r#"{{"type":"https://hallpass.example/problems/{code}","title":"No","status":{status},"code":"{code}",
            "detail":"because","request_id":"req-1","step":"decide","parameter":"role","later":"unknown"}}"#
    );
    Answer::Reply { status, headers: vec![("content-type", "application/problem+json".to_owned())], body }
}

/// The running server. It serves until the test program ends.
pub struct Stub {
    pub url: String,
    requests: Receiver<Request>,
}

impl Stub {
    /// Answers by `respond`, which gets each request and its number, from zero.
    pub fn start(respond: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::serve("http", respond, |stream| Box::new(stream))
    }

    /// The same through TLS.
    pub fn start_tls(
        config: Arc<rustls::ServerConfig>,
        respond: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::serve("https", respond, move |stream| {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            Box::new(rustls::StreamOwned::new(connection, stream))
        })
    }

    fn serve(
        scheme: &str,
        respond: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static,
        wrap: impl Fn(TcpStream) -> Box<dyn Stream> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{scheme}://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let (tell, requests) = channel();
        let shared = Arc::new((respond, wrap, Mutex::new((0, tell))));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let (respond, wrap, state) = &*shared;
                    answer(wrap(stream), respond, state);
                });
            }
        });
        Self { url, requests }
    }

    /// The next request, awaited.
    pub fn next(&self) -> Request {
        self.requests.recv_timeout(DEADLINE).expect("a request was expected")
    }

    /// What was asked and not yet looked at.
    pub fn rest(&self) -> Vec<Request> {
        self.requests.try_iter().collect()
    }
}

pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

fn answer(
    stream: Box<dyn Stream>,
    respond: &impl Fn(&Request, usize) -> Answer,
    state: &Mutex<(usize, Sender<Request>)>,
) {
    let mut stream = BufReader::new(stream);
    let Some(request) = read(&mut stream) else { return };
    let number = {
        let mut state = state.lock().unwrap();
        state.0 += 1;
        // The test may be over and no longer listen.
        let _ = state.1.send(request.clone());
        state.0 - 1
    };
    match respond(&request, number) {
        Answer::HangUp => {}
        Answer::Silence => std::thread::park(),
        Answer::Reply { status, headers, body } => {
            let mut head =
                format!("HTTP/1.1 {status} Status\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            let stream = stream.get_mut();
            let _ = stream.write_all(format!("{head}\r\n{body}").as_bytes()).and_then(|()| stream.flush());
        }
    }
}

fn read(stream: &mut BufReader<Box<dyn Stream>>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Request { method, target, headers, body: String::from_utf8(body).unwrap() })
}

/// A grant as a broker answers it, in this state.
pub fn grant(id: &str, state: &str) -> String {
    format!(
        r#"{{"id":"{id}","state":"{state}","role":"payments/prod/deploy","backend":"tokens","environment":"prod",
            "owner":"payments","owner_contacts":["payments@corp.example"],"purpose":"deploy 4f2c","ticket":"CHG-1",
            "identity":{{"issuer":"github","kind":"workload","subject":"repo:acme/shop:ref:refs/heads/main",
            "attributes":{{"tier":"one"}}}},"provenance":{{"commit":"4f2c","ref":"refs/heads/main"}},
            "decision":{{"policy_revision":"sha256:00","determining_policies":["deploy"],
            "obligations":{{"max_ttl":"15m"}}}},"approvals":[],"terms":{{"ttl":"10m","bound":"request"}},
            "created_at":"2026-01-31T09:00:00Z","activated_at":"2026-01-31T09:00:00Z","end_at":"2099-01-31T09:10:00Z",
            "expires_at":"2099-01-31T09:10:00Z","max_expires_at":null,"ended_at":null,"cause":"operator",
            "revocation":{{"class":"hard","attempts":0}},"parent":null,"links":{{}},"a_later_field":1}}"#
    )
}

/// `201` of `POST /v1/grants`.
pub fn opened(id: &str, credential: &str) -> Answer {
    json(201, format!(r#"{{"grant":{},"credential":{credential}}}"#, grant(id, "active")))
}

pub const JWT: &str = r#"{"type":"jwt","expires_at":"2099-01-31T09:10:00Z","token":"the-token"}"#;
