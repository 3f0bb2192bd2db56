//! What the fuzz targets (`tests/fuzz`) may reach of this backend; built for them alone.

use hallpass_core::credential::IssueOrder;

use super::request;
use super::template::SpiffeTemplate;

/// Reads a certificate request.
///
/// # Errors
/// As the backend would answer its caller.
pub fn certificate_request(pem: &str) -> Result<(), String> {
    request::public_key(pem).map(|_| ())
}

/// The SPIFFE ID that `template` gives `order`.
///
/// # Errors
/// As the backend would answer whoever wrote the template, or its caller.
pub fn spiffe_id(template: &str, trust_domain: &str, order: &IssueOrder) -> Result<String, String> {
    SpiffeTemplate::parse(template, trust_domain, &order.role)?.render(order)
}
