//! A role's table `[x509]`.
//!
//! ```toml
//! [x509]
//! spiffe_id = "spiffe://{trust_domain}/ci/{provenance.repository_id}"   # or only its path
//! dns_names = ["{attributes.service}.internal.example"]
//! usages = ["client", "server"]                                         # the default
//! key_algorithm = "P-256"                                               # for keys that the broker generates
//! ```
//!
//! At least one name is required. Placeholders are `issuer`, `subject`, `role`, `owner`, `attributes.<name>` and
//! `provenance.<field>`; see [`super::template`] for what a value may be.

use hallpass_core::credential::IssueOrder;
use hallpass_core::port::InvalidParameters;
use hallpass_core::role::Role;

use super::template::{DnsTemplate, SpiffeTemplate};
use crate::backend::parameters::{Table, invalid};

const KNOWN: [&str; 4] = ["spiffe_id", "dns_names", "usages", "key_algorithm"];

const MAX_DNS_NAMES: usize = 16;

/// The table, checked.
#[derive(Debug)]
pub(super) struct Parameters<'a> {
    spiffe_id: Option<SpiffeTemplate<'a>>,
    dns_names: Vec<DnsTemplate<'a>>,
    pub(super) usages: Vec<Usage>,
    pub(super) key_algorithm: &'static rcgen::SignatureAlgorithm,
}

/// The names of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) spiffe_id: Option<String>,
    pub(super) dns_names: Vec<String>,
}

/// What a certificate may be used for (RFC 5280 §4.2.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    Client,
    Server,
}

impl<'a> Parameters<'a> {
    pub(super) fn read(role: &'a Role, trust_domain: &'a str) -> Result<Self, InvalidParameters> {
        let table = Table::of(role, "x509", &KNOWN)?;
        let spiffe_id = table
            .text("spiffe_id")?
            .map(|template| SpiffeTemplate::parse(template, trust_domain, role))
            .transpose()
            .map_err(|problem| invalid("spiffe_id", problem))?;
        let dns_names = table
            .texts("dns_names")?
            .unwrap_or_default()
            .into_iter()
            .map(|template| DnsTemplate::parse(template, role).map_err(|problem| invalid("dns_names", problem)))
            .collect::<Result<Vec<_>, _>>()?;
        if spiffe_id.is_none() && dns_names.is_empty() {
            return Err(invalid("spiffe_id", "is missing, and `dns_names` too: a certificate needs a name"));
        }
        if dns_names.len() > MAX_DNS_NAMES {
            return Err(invalid("dns_names", format!("must be at most {MAX_DNS_NAMES} names")));
        }
        // Both, as SPIFFE wants it of an X.509-SVID that says anything of its use (X509-SVID §4.4).
        let usages = table.texts("usages")?.unwrap_or_else(|| vec!["client", "server"]);
        if usages.is_empty() {
            return Err(invalid("usages", "must name \"client\", \"server\", or both"));
        }
        let usages = usages.into_iter().map(usage).collect::<Result<Vec<_>, _>>()?;
        let key_algorithm = key_algorithm(table.text("key_algorithm")?.unwrap_or("P-256"))?;
        Ok(Self { spiffe_id, dns_names, usages, key_algorithm })
    }

    /// The names of `order`'s certificate.
    ///
    /// # Errors
    /// The claim that is absent or does not fit, for its bearer.
    pub(super) fn names(&self, order: &IssueOrder) -> Result<Names, String> {
        let spiffe_id = self.spiffe_id.as_ref().map(|template| template.render(order)).transpose()?;
        let dns_names = self.dns_names.iter().map(|template| template.render(order)).collect::<Result<_, _>>()?;
        Ok(Names { spiffe_id, dns_names })
    }
}

fn usage(name: &str) -> Result<Usage, InvalidParameters> {
    match name {
        "client" => Ok(Usage::Client),
        "server" => Ok(Usage::Server),
        _ => Err(invalid("usages", format!("{name:?} must be \"client\" or \"server\""))),
    }
}

fn key_algorithm(name: &str) -> Result<&'static rcgen::SignatureAlgorithm, InvalidParameters> {
    match name {
        "P-256" => Ok(&rcgen::PKCS_ECDSA_P256_SHA256),
        "P-384" => Ok(&rcgen::PKCS_ECDSA_P384_SHA384),
        "Ed25519" => Ok(&rcgen::PKCS_ED25519),
        _ => Err(invalid("key_algorithm", format!("{name:?} must be P-256, P-384 or Ed25519"))),
    }
}
