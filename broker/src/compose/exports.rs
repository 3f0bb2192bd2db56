//! Where the audit log is taken to.

use std::sync::Arc;

use hallpass_core::port::{AuditLog as _, AuditSink};
use hallpass_core::service::Export;
use hallpass_sqlite::SqliteStore;

use super::Foundation;
use crate::audit::{FileSink, HttpsSink, StdoutSink};
use crate::config::server::Destination;
use crate::outbound::{AllowHttp, Outbound};

/// The destinations that the audit log is taken to, each from where it was left.
pub(super) async fn exports(foundation: &Foundation, store: &SqliteStore) -> anyhow::Result<Vec<Arc<Export>>> {
    let mut exports = Vec::new();
    for export in &foundation.audit.exports {
        let sink = sink(&export.destination)?;
        let next = store.exported(sink.name()).await?;
        exports.push(Arc::new(Export::new(sink, export.max_lag, next)));
    }
    Ok(exports)
}

fn sink(destination: &Destination) -> anyhow::Result<Arc<dyn AuditSink>> {
    let name = destination.name();
    let sink: Arc<dyn AuditSink> = match destination {
        Destination::File { path } => Arc::new(FileSink::new(name, path.clone())),
        Destination::Stdout => Arc::new(StdoutSink::new(name)?),
        Destination::Https { url, token_file, ca_file, plain_http } => Arc::new(HttpsSink {
            name,
            outbound: Outbound::new(ca_file.as_deref())?,
            url: url.clone(),
            token_file: token_file.clone(),
            allow_http: if *plain_http { AllowHttp::DangerousAnywhere } else { AllowHttp::Never },
        }),
    };
    Ok(sink)
}
