//! Keeps the listeners' certificates current: looks at their files again and again, and says when they end.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hallpass_core::time::{Clock, Timestamp};
use tokio::sync::watch;

use super::listener::{Certificates, Looked};
use crate::http::desk::{Condition, Part, Readiness};

/// How long a new certificate may lie there unnoticed. The files are small, and are read whole: links that are turned
/// elsewhere, as orchestrators do, are noticed like any other change.
const PERIOD: Duration = Duration::from_secs(2);

/// The certificate of one listener, by the listener's name.
#[derive(Clone, Debug)]
pub struct Named {
    /// `tls_api`, `tls_admin` or `tls_operations`.
    pub name: &'static str,
    /// The certificate.
    pub certificates: Arc<Certificates>,
}

/// Looks periodically until `stopping` turns true.
pub async fn watch(all: Vec<Named>, clock: Arc<dyn Clock>, mut stopping: watch::Receiver<bool>) {
    while !*stopping.borrow() && !all.is_empty() {
        look(&all, clock.now()).await;
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            _ = stopping.changed() => {}
        }
    }
}

/// Looks now.
pub async fn look(all: &[Named], now: Timestamp) {
    for Named { name, certificates } in all {
        let looking = Arc::clone(certificates);
        let Ok(looked) = tokio::task::spawn_blocking(move || looking.look(now)).await else { continue };
        let looked = match looked {
            Ok(Looked::Same) => certificates.ask(now).await,
            other => other,
        };
        let expires_at = certificates.expires_at();
        match looked {
            Ok(Looked::Same) => {}
            Ok(Looked::Replaced) => tracing::info!(listener = name, %expires_at, "another certificate is served with"),
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::error!(listener = name, error, "new certificate files are refused; the old ones serve on");
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit the 52 bits of a float's precision")]
        let seconds = expires_at.as_secs() as f64;
        metrics::gauge!("hallpass_tls_certificate_expires_seconds", "listener" => *name).set(seconds);
    }
}

/// Readiness with the certificates among its parts: nobody talks to a listener whose certificate is over.
pub struct WithCertificates {
    /// Of everything else.
    pub others: Arc<dyn Readiness>,
    /// The certificates.
    pub all: Vec<Named>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

#[async_trait]
impl Readiness for WithCertificates {
    async fn report(&self) -> Vec<Part> {
        let mut parts = self.others.report().await;
        let now = self.clock.now();
        parts.extend(self.all.iter().map(|Named { name, certificates }| {
            let expires_at = certificates.expires_at();
            let (status, word) = match *name {
                _ if now < expires_at => (Condition::Ok, "expires"),
                // Where callers are; the others' certificates are no part of issuing.
                "tls_api" => (Condition::Unready, "expired"),
                _ => (Condition::Degraded, "expired"),
            };
            Part::ok(name).in_condition(status, format!("the certificate {word} at {expires_at}"))
        }));
        parts
    }
}
