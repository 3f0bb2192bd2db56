//! `[limits]`: what one request, one source, and all of them together may take.

use hallpass_core::rate::Rate;
use hallpass_core::service::RateRules;
use hallpass_core::time::Ttl;
use serde::Deserialize;

use crate::config::Finding;
use crate::config::document::{Bounded, Document, Duration};

/// `[limits]`, validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body.
    pub body_bytes: usize,
    /// Most requests at work at once; more are refused at once. An eighth more, and eight at least, is kept for those
    /// that end or oversee what is there.
    pub concurrency: usize,
    /// Most requests at work at once of one source: an IPv4 address or an IPv6 network of 64 bits, behind
    /// `trusted_proxies` as they say. Of the places for ending it has the same share.
    pub concurrency_per_source: usize,
    /// Most open connections.
    pub connections: usize,
    /// Most open connections of one source: an IPv4 address or an IPv6 network of 64 bits. Neither `trusted_proxies` nor the
    /// machine's own addresses of loopback are a source.
    pub connections_per_source: usize,
    /// How long a request may take, its body included.
    pub request_timeout: Ttl,
    /// How long the body of a request may take, and a second more for each 16 KiB of it.
    pub body_timeout: Ttl,
    /// Refusals before a signature verified that are audited one by one, per source address and minute; the rest are
    /// counted. Without the bound strangers could fill the disk.
    pub unverified_refusals_per_source_per_minute: u32,
    /// How fast sources, identities, issuers and owners may ask. Not limited unless written: what is many for one broker is a quiet
    /// morning for another, and behind an unconfigured proxy everybody is one source.
    pub rates: RateRules,
    /// Most live grants of one owner's roles; not limited unless written.
    pub max_live_grants_per_owner: Option<u32>,
    /// Most who may act for one another behind one grant (RFC 8693 §4.1); with 0 nobody acts for anybody.
    pub max_actors: usize,
    /// Most live grants below one that was handed on, at any depth, that one actor holds or is acted through.
    pub max_derived_per_actor: u32,
    /// Refusals after that which are audited one by one, per identity (issuer and subject) and minute; the rest are
    /// counted. Without the bound one workload in a loop could fill the disk.
    pub refusals_per_identity_per_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: BODY_BYTES.standard,
            concurrency: CONCURRENCY.standard,
            concurrency_per_source: share_of(CONCURRENCY.standard),
            connections: CONNECTIONS.standard,
            connections_per_source: CONNECTIONS_PER_SOURCE.standard,
            request_timeout: REQUEST_TIMEOUT.standard,
            body_timeout: BODY_TIMEOUT.standard,
            unverified_refusals_per_source_per_minute: 10,
            rates: RateRules::default(),
            max_live_grants_per_owner: None,
            max_actors: MAX_ACTORS.standard,
            max_derived_per_actor: DERIVED_PER_ACTOR,
            refusals_per_identity_per_minute: 120,
        }
    }
}

impl Limits {
    /// Most requests at work besides [`Limits::concurrency`] that end or oversee what is there.
    #[must_use]
    pub fn control_concurrency(&self) -> usize {
        const LEAST: usize = 8;
        (self.concurrency / 8).max(LEAST)
    }

    /// Most of those of one source: as large a share as of the others, and one at least.
    #[must_use]
    pub fn control_concurrency_per_source(&self) -> usize {
        let all = self.control_concurrency();
        all.saturating_mul(self.concurrency_per_source).checked_div(self.concurrency).unwrap_or(all).clamp(1, all)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    body_bytes: Option<usize>,
    concurrency: Option<usize>,
    concurrency_per_source: Option<usize>,
    connections: Option<usize>,
    connections_per_source: Option<usize>,
    request_timeout: Option<Duration>,
    body_timeout: Option<Duration>,
    unverified_refusals_per_source_per_minute: Option<u32>,
    #[serde(default)]
    rate: RawRates,
    max_live_grants_per_owner: Option<u32>,
    max_actors: Option<usize>,
    max_derived_per_actor: Option<u32>,
    refusals_per_identity_per_minute: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRates {
    per_source: Option<String>,
    per_identity: Option<String>,
    per_issuer: Option<String>,
    per_owner: Option<String>,
}

struct Count {
    standard: usize,
    min: usize,
    max: usize,
}

/// A proof with a certificate request fits many times over; every request at work may hold this much.
const BODY_BYTES: Count = Count { standard: 64 * 1024, min: 16 * 1024, max: 1024 * 1024 };

const CONCURRENCY: Count = Count { standard: 1_024, min: 1, max: 65_536 };

/// One source's share of the places, unless it is written: half, so that one alone is not everybody. With few places
/// there is nothing to share.
const fn share_of(concurrency: usize) -> usize {
    const FEW: usize = 16;
    if concurrency <= FEW { concurrency } else { concurrency / 2 }
}

const CONNECTIONS: Count = Count { standard: 8_192, min: 1, max: 1_000_000 };

/// Enough for a fleet of runners behind one address, and an eighth of all.
const CONNECTIONS_PER_SOURCE: Count = Count { standard: 1_024, min: 1, max: 1_000_000 };

/// A person, an agent of theirs, and what that one hands a part of its task to.
const MAX_ACTORS: Count = Count { standard: 3, min: 0, max: 8 };

/// A quarter of all that can hang below one grant: an agent in a loop, or led astray, leaves room for three others.
const DERIVED_PER_ACTOR: u32 = 64;

const REQUEST_TIMEOUT: Bounded =
    Bounded { standard: Ttl::from_secs(30), min: Ttl::from_secs(1), max: Ttl::from_mins(5) };

/// A proof is in the first packets; whoever needs longer for them than this holds a place for nothing.
const BODY_TIMEOUT: Bounded = Bounded { standard: Ttl::from_secs(5), min: Ttl::from_secs(1), max: Ttl::from_mins(5) };

pub(super) fn read(section: &Document<'_>, findings: &mut Vec<Finding>) -> Option<Limits> {
    let raw: RawLimits = section.read(findings)?;
    let mut count = |key: &str, written: Option<usize>, bounds: &Count| {
        let value = written.unwrap_or(bounds.standard);
        if value < bounds.min || value > bounds.max {
            let reason = format!("{value} is not between {} and {}", bounds.min, bounds.max);
            findings.push(section.finding(key, reason));
        }
        value
    };
    let body_bytes = count("body_bytes", raw.body_bytes, &BODY_BYTES);
    let concurrency = count("concurrency", raw.concurrency, &CONCURRENCY);
    let whole = concurrency.max(1);
    let of_source = Count { standard: share_of(whole), min: 1, max: whole };
    let concurrency_per_source = count("concurrency_per_source", raw.concurrency_per_source, &of_source);
    let connections = count("connections", raw.connections, &CONNECTIONS);
    let connections_per_source = count("connections_per_source", raw.connections_per_source, &CONNECTIONS_PER_SOURCE);
    let max_actors = count("max_actors", raw.max_actors, &MAX_ACTORS);
    let mut rate = |key: &str, written: Option<&String>| match parse_rate(written?) {
        Ok(rate) => Some(rate),
        Err(reason) => {
            findings.push(section.finding(&format!("rate.{key}"), reason));
            None
        }
    };
    let rates = RateRules {
        per_source: rate("per_source", raw.rate.per_source.as_ref()),
        per_identity: rate("per_identity", raw.rate.per_identity.as_ref()),
        per_issuer: rate("per_issuer", raw.rate.per_issuer.as_ref()),
        per_owner: rate("per_owner", raw.rate.per_owner.as_ref()),
    };
    if raw.max_live_grants_per_owner == Some(0) {
        findings.push(section.finding("max_live_grants_per_owner", "0 would let nobody have anything"));
    }
    if raw.max_derived_per_actor == Some(0) {
        let reason = "0 would let nobody hand anything on: `max_actors = 0` says so where nobody is to act for another";
        findings.push(section.finding("max_derived_per_actor", reason));
    }
    Some(Limits {
        rates,
        max_live_grants_per_owner: raw.max_live_grants_per_owner,
        max_actors,
        max_derived_per_actor: raw.max_derived_per_actor.unwrap_or(DERIVED_PER_ACTOR),
        body_bytes,
        concurrency,
        concurrency_per_source,
        connections,
        connections_per_source,
        request_timeout: REQUEST_TIMEOUT.check(section, "request_timeout", raw.request_timeout, findings),
        body_timeout: BODY_TIMEOUT.check(section, "body_timeout", raw.body_timeout, findings),
        unverified_refusals_per_source_per_minute: raw
            .unverified_refusals_per_source_per_minute
            .unwrap_or_else(|| Limits::default().unverified_refusals_per_source_per_minute),
        refusals_per_identity_per_minute: raw
            .refusals_per_identity_per_minute
            .unwrap_or_else(|| Limits::default().refusals_per_identity_per_minute),
    })
}

/// `300/1m`: so many in such a time.
fn parse_rate(text: &str) -> Result<Rate, String> {
    let (count, per) = text.split_once('/').ok_or_else(|| format!("{text:?} is no rate such as \"300/1m\""))?;
    let count = count.parse().map_err(|_| format!("{count:?} is no whole number"))?;
    let per = Ttl::parse(per).map_err(|error| format!("{per:?} is {error}"))?;
    Rate::new(count, per)
}
