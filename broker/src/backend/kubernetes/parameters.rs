//! What a role says of its service account.
//!
//! ```toml
//! [kubernetes]
//! namespace = "payments"
//! service_account = "deployer"
//! audiences = ["https://kubernetes.default.svc"]    # without it, whatever the API server takes for itself
//! ```

use hallpass_core::port::InvalidParameters;
use hallpass_core::role::Role;

use crate::backend::parameters::{Table, invalid};

/// Most audiences of one token: each could show it to the others.
const MAX_AUDIENCES: usize = 8;
/// Longest audience.
const MAX_AUDIENCE: usize = 255;
/// Longest name of a service account (RFC 1123's subdomains).
const MAX_NAME: usize = 253;

#[derive(Debug)]
pub(super) struct Parameters<'a> {
    pub(super) namespace: &'a str,
    pub(super) service_account: &'a str,
    pub(super) audiences: Vec<&'a str>,
}

impl<'a> Parameters<'a> {
    /// The parameters of `role`, whose namespace is one of `namespaces`.
    pub(super) fn read(role: &'a Role, namespaces: &[String]) -> Result<Self, InvalidParameters> {
        let table = Table::of(role, "kubernetes", &["namespace", "service_account", "audiences"])?;
        let namespace = table.text("namespace")?;
        let namespace = namespace.ok_or_else(|| invalid("namespace", "is missing: that of the service account"))?;
        if !namespaces.iter().any(|known| known == namespace) {
            let known = namespaces.join(", ");
            return Err(invalid("namespace", format!("{namespace:?} is none of the backend's: {known}")));
        }
        let service_account = table.text("service_account")?;
        let service_account = service_account.ok_or_else(|| invalid("service_account", "is missing"))?;
        if !is_subdomain(service_account) {
            return Err(invalid("service_account", format!("{service_account:?} is no name of a service account")));
        }
        let audiences = match table.texts("audiences")? {
            None => Vec::new(),
            Some(audiences) if (1..=MAX_AUDIENCES).contains(&audiences.len()) => audiences,
            Some(_) => return Err(invalid("audiences", format!("must be 1 to {MAX_AUDIENCES}, or left out"))),
        };
        let is_audience =
            |text: &str| (1..=MAX_AUDIENCE).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if let Some(wrong) = audiences.iter().find(|audience| !is_audience(audience)) {
            return Err(invalid("audiences", format!("{wrong:?} must have 1 to {MAX_AUDIENCE} characters, no blanks")));
        }
        Ok(Self { namespace, service_account, audiences })
    }
}

fn is_subdomain(text: &str) -> bool {
    let is_label = |label: &str| {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty() && label.bytes().all(allowed) && !label.starts_with('-') && !label.ends_with('-')
    };
    (1..=MAX_NAME).contains(&text.len()) && text.split('.').all(is_label)
}
