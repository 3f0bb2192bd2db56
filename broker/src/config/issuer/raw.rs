//! `[[issuer]]` as written, and what makes it valid.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hallpass_core::id::IssuerName;
use hallpass_core::identity::{AcceptanceRules, PrincipalKind};
use hallpass_core::time::Ttl;
use serde::Deserialize;

use super::{Issuer, IssuerKind, JwsAlgorithm, KeyRefresh, KeySource, Standard, spiffe};
use crate::config::Finding;
use crate::config::document::{Bounded, Document, Duration};
use crate::config::url;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawIssuer {
    name: IssuerName,
    #[serde(rename = "kind")]
    _kind: String,
    url: Option<String>,
    audiences: Vec<String>,
    algorithms: Option<Vec<String>>,
    jwks_file: Option<PathBuf>,
    jwks: Option<String>,
    jwks_uri: Option<String>,
    jwks_origins: Option<Vec<String>>,
    #[serde(default)]
    dangerous_allow_http: bool,
    single_use: Option<bool>,
    leeway: Option<Duration>,
    max_age: Option<Duration>,
    max_lifetime: Option<Duration>,
    #[serde(default)]
    bounds_ttl: bool,
    #[serde(default)]
    principal: PrincipalKind,
    token_types: Option<Vec<String>>,
    #[serde(default)]
    provenance: BTreeMap<String, String>,
    keys_max_age: Option<Duration>,
    keys_min_interval: Option<Duration>,
    keys_grace: Option<Duration>,
}

/// What proofs may be signed with unless an issuer's entry says otherwise: what CI systems, clouds and clusters sign
/// with. SHA-384 and SHA-512 variants are there to be asked for; each more is one more thing to forge with.
const ALGORITHMS: &[JwsAlgorithm] =
    &[JwsAlgorithm::RS256, JwsAlgorithm::PS256, JwsAlgorithm::ES256, JwsAlgorithm::EdDSA];

/// Clock difference that is tolerated. More, and a stolen proof lives noticeably longer than its issuer meant it to.
const LEEWAY: Bounded = Bounded { standard: Ttl::from_secs(30), min: Ttl::ZERO, max: Ttl::from_secs(120) };

/// Longest life of a proof. A token that is valid for years is a password: whoever finds it could mint with it.
const fn max_lifetime(standard: Ttl) -> Bounded {
    Bounded { standard, min: Ttl::from_secs(1), max: Ttl::from_hours(24) }
}

/// How long keys are believed. A key that the issuer withdrew because it leaked forges proofs for that long.
const KEYS_MAX_AGE: Bounded =
    Bounded { standard: Ttl::from_mins(10), min: Ttl::from_secs(1), max: Ttl::from_hours(24) };

/// How often keys are fetched at most. Less, and strangers' key ids could make the broker flood an issuer.
const KEYS_MIN_INTERVAL: Bounded =
    Bounded { standard: Ttl::from_secs(10), min: Ttl::from_secs(1), max: Ttl::from_hours(1) };

/// How long old keys serve while the issuer is away. Whoever can keep it away keeps a withdrawn key alive.
const KEYS_GRACE: Bounded = Bounded { standard: Ttl::from_hours(1), min: Ttl::ZERO, max: Ttl::from_hours(24) };

/// Provenance fields that a claim can fill, by wire name.
const PROVENANCE_FIELDS: &[&str] = &[
    "repository",
    "repository_id",
    "repository_owner_id",
    "ref",
    "ref_protected",
    "commit",
    "workflow",
    "workflow_ref",
    "run",
    "run_attempt",
    "job",
    "actor",
    "actor_id",
    "event",
    "pull_request",
    "environment",
    "runner",
];

/// The issuers of `issuers.toml`. Files of keys are sought beside it, below `base`.
pub(crate) fn read(document: &Document<'_>, base: Option<&Path>, findings: &mut Vec<Finding>) -> Vec<Issuer> {
    let mut issuers: Vec<Issuer> = Vec::new();
    for entry in document.entries("issuer", findings) {
        // A trust domain has no `iss`: it is read beside these.
        if spiffe::is_one(&entry) {
            continue;
        }
        let Some(issuer) = read_one(&entry, base, findings) else { continue };
        if issuers.iter().any(|other| other.name == issuer.name) {
            findings.push(entry.finding("name", format!("the issuer {:?} is there already", issuer.name.as_str())));
        }
        if let Some(other) = issuers.iter().find(|other| other.url == issuer.url && !are_told_apart(other, &issuer)) {
            let reason = format!(
                "the issuer {:?} has this URL: a proof must belong to one. Issuers that call themselves the same are told \
                 apart by keys of their own: give each another jwks_file, jwks or jwks_uri",
                other.name.as_str()
            );
            findings.push(entry.finding("url", reason));
        }
        issuers.push(issuer);
    }
    issuers
}

/// Whether keys tell issuers with one URL apart. What is discovered at the URL is the same for both.
fn are_told_apart(one: &Issuer, other: &Issuer) -> bool {
    let own = |issuer: &Issuer| !matches!(issuer.keys, KeySource::Discovery { .. });
    own(one) && own(other) && one.keys != other.keys
}

fn read_one(entry: &Document<'_>, base: Option<&Path>, findings: &mut Vec<Finding>) -> Option<Issuer> {
    let written = entry.text_at("kind").unwrap_or(IssuerKind::Oidc.as_str());
    let Some(kind) = IssuerKind::parse(written) else {
        let known: Vec<_> = IssuerKind::ALL.iter().map(|kind| kind.as_str()).chain([spiffe::KIND]).collect();
        let reason = format!("there is no kind of issuer {written:?}; there are {}", known.join(", "));
        findings.push(entry.finding("kind", reason));
        return None;
    };
    let standard = kind.standard();
    let raw: RawIssuer = entry.read(findings)?;
    let before = findings.len();
    if raw.name.as_str() == IssuerName::RESERVED {
        findings.push(entry.finding("name", "\"hallpass\" is the broker itself; choose another name"));
    }
    let url = issuer_url(entry, &raw, standard, findings)?;
    if raw.audiences.is_empty() {
        findings.push(entry.finding("audiences", "name at least one audience that means this broker"));
    }
    if raw.audiences.iter().any(|audience| audience.trim().is_empty() || audience.contains('*')) {
        findings.push(entry.finding("audiences", "an audience is compared byte for byte: no pattern, and not empty"));
    }
    if let (false, Some(field)) = (kind.maps_claims(), raw.provenance.keys().next()) {
        let reason = format!("its kind {:?} says which claims fill the provenance: leave this out", kind.as_str());
        findings.push(entry.finding(&format!("provenance.{field}"), reason));
    }
    for (field, claim) in &raw.provenance {
        if !PROVENANCE_FIELDS.contains(&field.as_str()) {
            let reason = format!("no field of the provenance; there are {}", PROVENANCE_FIELDS.join(", "));
            findings.push(entry.finding(&format!("provenance.{field}"), reason));
        }
        if claim.is_empty() {
            findings.push(entry.finding(&format!("provenance.{field}"), "name the claim that fills it"));
        }
    }
    let refresh = KeyRefresh {
        max_age: KEYS_MAX_AGE.check(entry, "keys_max_age", raw.keys_max_age, findings),
        min_interval: KEYS_MIN_INTERVAL.check(entry, "keys_min_interval", raw.keys_min_interval, findings),
        grace: KEYS_GRACE.check(entry, "keys_grace", raw.keys_grace, findings),
    };
    if refresh.min_interval > refresh.max_age {
        findings.push(entry.finding("keys_min_interval", "is longer than keys_max_age: keys would always be too old"));
    }
    let max_age = raw.max_age.map(|Duration(ttl)| ttl).or(standard.max_age);
    if max_age == Some(Ttl::ZERO) {
        findings.push(entry.finding("max_age", "leaves no time to present a proof"));
    }
    let issuer = Issuer {
        keys: keys(entry, &raw, standard, base, findings)?,
        algorithms: algorithms(entry, raw.algorithms, findings),
        token_types: token_types(entry, raw.token_types, findings),
        rules: AcceptanceRules {
            audiences: raw.audiences,
            leeway: LEEWAY.check(entry, "leeway", raw.leeway, findings),
            max_age,
            max_lifetime: max_lifetime(standard.max_lifetime).check(entry, "max_lifetime", raw.max_lifetime, findings),
            single_use: raw.single_use.unwrap_or(standard.single_use),
            bounds_ttl: raw.bounds_ttl,
        },
        name: raw.name,
        kind,
        url,
        principal: raw.principal,
        provenance: raw.provenance,
        refresh,
    };
    (findings.len() == before).then_some(issuer)
}

fn issuer_url(
    entry: &Document<'_>,
    raw: &RawIssuer,
    standard: &Standard,
    findings: &mut Vec<Finding>,
) -> Option<String> {
    let Some(text) = raw.url.as_deref().or(standard.url) else {
        findings.push(entry.finding("url", format!("is missing: {}", standard.url_hint)));
        return None;
    };
    if let Err(reason) = url::check(text, raw.dangerous_allow_http) {
        findings.push(entry.finding("url", reason));
    }
    Some(text.to_owned())
}

fn keys(
    entry: &Document<'_>,
    raw: &RawIssuer,
    standard: &Standard,
    base: Option<&Path>,
    findings: &mut Vec<Finding>,
) -> Option<KeySource> {
    let given =
        [("jwks_file", raw.jwks_file.is_some()), ("jwks", raw.jwks.is_some()), ("jwks_uri", raw.jwks_uri.is_some())];
    let given: Vec<_> = given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect();
    if let [_, second, ..] = given.as_slice() {
        findings.push(entry.finding(second, format!("keys come from one place, and there are {}", given.join(", "))));
        return None;
    }
    if let (Some(key), Some(_)) = (given.first(), &raw.jwks_origins) {
        findings.push(entry.finding("jwks_origins", format!("is about discovery, and keys come from {key}")));
    }
    let dangerous_allow_http = raw.dangerous_allow_http;
    if let Some(file) = &raw.jwks_file {
        return entry.existing_file("jwks_file", file, base, findings).map(KeySource::File);
    }
    if let Some(text) = &raw.jwks {
        if let Err(reason) = check_jwks(text) {
            findings.push(entry.finding("jwks", reason));
        }
        return Some(KeySource::Inline(text.clone()));
    }
    if let Some(uri) = &raw.jwks_uri {
        if let Err(reason) = url::check(uri, dangerous_allow_http) {
            findings.push(entry.finding("jwks_uri", reason));
        }
        return Some(KeySource::JwksUri { url: uri.clone(), dangerous_allow_http });
    }
    let usual = || standard.jwks_origins.iter().map(|origin| (*origin).to_owned()).collect();
    let jwks_origins = raw.jwks_origins.clone().unwrap_or_else(usual);
    for origin in &jwks_origins {
        if let Err(reason) = url::check_origin(origin, dangerous_allow_http) {
            findings.push(entry.finding("jwks_origins", reason));
        }
    }
    Some(KeySource::Discovery { jwks_origins, dangerous_allow_http })
}

/// A JWK set with public keys only (RFC 7517 §5): a private key in a bundle is a secret in version control.
fn check_jwks(text: &str) -> Result<(), String> {
    let set: serde_json::Value = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
    let keys = set.get("keys").and_then(serde_json::Value::as_array);
    let keys = keys.filter(|keys| !keys.is_empty()).ok_or("is not a JWK set with at least one key")?;
    if keys.iter().any(|key| key.get("d").is_some() || key.get("k").is_some()) {
        return Err("has a private or symmetric key: take it out of the bundle, and out of use".to_owned());
    }
    Ok(())
}

fn algorithms(entry: &Document<'_>, written: Option<Vec<String>>, findings: &mut Vec<Finding>) -> Vec<JwsAlgorithm> {
    let Some(written) = written else { return ALGORITHMS.to_vec() };
    if written.is_empty() {
        findings.push(entry.finding("algorithms", "name at least one"));
    }
    let known: Vec<_> = JwsAlgorithm::ALL.iter().map(|algorithm| algorithm.as_str()).collect();
    let mut algorithms = Vec::with_capacity(written.len());
    for name in &written {
        match JwsAlgorithm::parse(name) {
            Some(algorithm) => algorithms.push(algorithm),
            None => {
                let reason = format!("{name:?} is none that the broker accepts: {}", known.join(", "));
                findings.push(entry.finding("algorithms", reason));
            }
        }
    }
    algorithms
}

fn token_types(entry: &Document<'_>, written: Option<Vec<String>>, findings: &mut Vec<Finding>) -> Vec<String> {
    let Some(written) = written else { return vec!["jwt".to_owned()] };
    let plain = |kind: &String| {
        !kind.is_empty() && !kind.starts_with("application/") && !kind.chars().any(|c| c.is_ascii_uppercase())
    };
    if !written.iter().all(plain) {
        let reason = "write `typ` in lower case and without \"application/\", such as \"jwt\" or \"at+jwt\"";
        findings.push(entry.finding("token_types", reason));
    }
    written
}

#[cfg(test)]
mod tests {
    use hallpass_core::provenance::Provenance;

    use super::*;

    #[test]
    fn every_mapped_field_is_one_of_the_provenance() {
        for field in PROVENANCE_FIELDS {
            let value = if *field == "ref_protected" { serde_json::json!(true) } else { serde_json::json!("x") };
            serde_json::from_value::<Provenance>(serde_json::json!({ *field: value })).unwrap();
        }
    }
}
