//! The audit log to a collector over HTTPS: newline-delimited JSON, a batch a request.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hallpass_core::port::{AuditSink, ExportLine, SinkFailed};
use hallpass_core::secret::Secret;
use url::Url;

use crate::outbound::{AllowHttp, Outbound, Post};

/// How long a collector may take for one batch.
const DEADLINE: Duration = Duration::from_secs(10);

/// Posts to a collector.
#[derive(Debug)]
pub struct HttpsSink {
    /// What it is remembered as.
    pub name: String,
    /// The client.
    pub outbound: Outbound,
    /// Where to post.
    pub url: Url,
    /// A file with a bearer token. Read for each batch, so that it may be changed.
    pub token_file: Option<PathBuf>,
    /// Where plain http may go.
    pub allow_http: AllowHttp,
}

#[async_trait]
impl AuditSink for HttpsSink {
    fn name(&self) -> &str {
        &self.name
    }

    async fn take(&self, lines: &[ExportLine]) -> Result<(), SinkFailed> {
        let body = lines.iter().fold(String::new(), |text, line| text + &line.text + "\n");
        let authorization = match &self.token_file {
            None => None,
            Some(file) => {
                let read = tokio::fs::read_to_string(file).await;
                let token = read.map_err(|error| SinkFailed(format!("{}: {error}", file.display())))?;
                Some(Secret::new(format!("Bearer {}", token.trim())))
            }
        };
        let post = Post {
            url: &self.url,
            content_type: "application/x-ndjson",
            authorization: authorization.as_ref(),
            body: Bytes::from(body),
            deadline: DEADLINE,
            allow_http: self.allow_http,
        };
        self.outbound.post(post).await.map_err(|error| SinkFailed(format!("the collector: {error}")))
    }
}
