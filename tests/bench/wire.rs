//! HTTP/1.1 by hand: a request is bytes written at once, an answer is read as far as its length says.

use std::borrow::Cow;
use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest answer: a token with what surrounds it is far shorter.
const MAX_ANSWER: usize = 64 * 1024;

/// One connection, with room for an answer.
pub(crate) struct Connection<S> {
    stream: S,
    received: Vec<u8>,
    request: Vec<u8>,
}

/// What a request shows of who asks.
#[derive(Clone, Debug)]
pub(crate) enum Shown {
    /// A token.
    Token(String),
    /// A token, and by a proof for this one request a key of the caller's own (RFC 9449).
    TokenAndKey { token: String, key: String },
    /// The certificate of the connection, and nothing else.
    Certificate,
}

/// Whether the connection outlives the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Keep,
    Close,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, received: Vec::with_capacity(8 * 1024), request: Vec::with_capacity(8 * 1024) }
    }

    /// Asks for a token of `role`; anything but an answer with one is an error.
    pub(crate) async fn ask(&mut self, shown: &Shown, role: &str, after: After) -> anyhow::Result<()> {
        match shown {
            Shown::Token(token) => self.exchange(token, role, after).await,
            Shown::TokenAndKey { token, key } => {
                self.write_exchange(token, Some(key), role, after);
                self.token(200, "\"access_token\":\"").await.map(|_| ())
            }
            Shown::Certificate => {
                // A token exchange (RFC 8693) has a token in its body: this is the call that needs none.
                let wanted = format!("{{\"role\":\"{role}\",\"purpose\":\"deploy build 4f2c\"}}");
                self.write("/v1/grants", "application/json", "", after, &wanted);
                self.token(201, "\"token\":\"").await.map(|_| ())
            }
        }
    }

    /// The nonce that the broker wants in proofs of possession, which it tells to whoever shows one without.
    pub(crate) async fn nonce(&mut self, token: &str, key: &str, role: &str) -> anyhow::Result<String> {
        self.write_exchange(token, Some(key), role, After::Keep);
        self.stream.write_all(&self.request).await?;
        let (status, body) = self.read_answer().await?;
        ensure!(status == 400, "no nonce but {status} {}", String::from_utf8_lossy(body));
        let answer = String::from_utf8_lossy(&self.received);
        let mut fields = answer.lines().filter_map(|line| line.split_once(':'));
        let nonce =
            fields.find(|(name, _)| name.eq_ignore_ascii_case("dpop-nonce")).context("an answer without a nonce")?;
        Ok(nonce.1.trim().to_owned())
    }

    /// Exchanges a proof; anything but `200` with a token is an error.
    pub(crate) async fn exchange(&mut self, proof: &str, role: &str, after: After) -> anyhow::Result<()> {
        self.exchange_for_token(proof, role, after).await.map(|_| ())
    }

    /// Exchanges a proof and gives the answer, which has a token in it.
    pub(crate) async fn exchange_for_token(
        &mut self,
        proof: &str,
        role: &str,
        after: After,
    ) -> anyhow::Result<Cow<'_, str>> {
        self.write_exchange(proof, None, role, after);
        self.token(200, "\"access_token\":\"").await
    }

    /// Sends what was written and gives the answer, which has this status and a token after `mark`.
    async fn token(&mut self, expected: u16, mark: &str) -> anyhow::Result<Cow<'_, str>> {
        self.stream.write_all(&self.request).await?;
        self.stream.flush().await?;
        let (status, body) = self.read_answer().await?;
        let body = String::from_utf8_lossy(body);
        ensure!(status == expected && body.contains(mark), "no token but {status} {body}");
        Ok(body)
    }

    /// Any other call, with an answer in JSON.
    pub(crate) async fn call(
        &mut self,
        method: &str,
        path: &str,
        proof: &str,
        body: Option<(&str, &str)>,
    ) -> anyhow::Result<(u16, Value)> {
        let (kind, body) = body.unwrap_or(("application/json", ""));
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {proof}\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        let (status, body) = self.read_answer().await?;
        Ok((status, serde_json::from_slice(body).with_context(|| format!("{method} {path}: {status}"))?))
    }

    fn write_exchange(&mut self, proof: &str, key: Option<&str>, role: &str, after: After) {
        // Proofs and role names consist of characters that a form need not escape, but for the slash.
        let form = format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token={proof}\
             &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt&audience={}&purpose=deploy+build+4f2c",
            role.replace('/', "%2F")
        );
        let key = key.map(|key| format!("DPoP: {key}\r\n")).unwrap_or_default();
        self.write("/oauth2/token", "application/x-www-form-urlencoded", &key, after, &form);
    }

    fn write(&mut self, path: &str, kind: &str, fields: &str, after: After, body: &str) {
        let connection = if after == After::Close { "Connection: close\r\n" } else { "" };
        self.request.clear();
        self.request.extend_from_slice(
            format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{fields}{connection}\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        );
    }

    /// The status and the body.
    async fn read_answer(&mut self) -> anyhow::Result<(u16, &[u8])> {
        self.received.clear();
        loop {
            if let Some((status, body)) = complete(&self.received)? {
                return Ok((status, self.received.get(body).unwrap_or_default()));
            }
            ensure!(self.received.len() < MAX_ANSWER, "the answer has no end");
            if self.stream.read_buf(&mut self.received).await? == 0 {
                bail!("the connection ended within an answer");
            }
        }
    }
}

/// Status and place of the body, once all of it is there.
fn complete(received: &[u8]) -> anyhow::Result<Option<(u16, std::ops::Range<usize>)>> {
    let Some(head) = received.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(received.get(..head).unwrap_or_default())?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    let start = head + 4;
    let end = start + length.context("an answer without its length")?;
    Ok((received.len() >= end).then_some((status, start..end)))
}

/// Whether the operations listener says that the broker is ready.
pub(crate) async fn is_ready(operations: SocketAddr) -> bool {
    let asked = async {
        let mut connection = Connection::new(TcpStream::connect(operations).await?);
        connection.stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        anyhow::Ok(connection.read_answer().await?.0)
    };
    matches!(asked.await, Ok(200))
}
