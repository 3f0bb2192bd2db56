//! Names in certificates: a claim fills one segment and never ends it.
//!
//! Input: a template and a subject, parted by a line feed.
#![no_main]

use std::sync::Arc;

use hallpass_broker::backend::x509::fuzzing::spiffe_id;
use hallpass_core::credential::IssueOrder;
use hallpass_core::owner::OwnerSnapshot;
use hallpass_core::testing::sample;
use libfuzzer_sys::fuzz_target;

const DOMAIN: &str = "example.org";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (template, subject) = text.split_once('\n').unwrap_or(("/ci/{subject}", text));
    let Ok(id) = spiffe_id(template, DOMAIN, &order(subject)) else { return };
    let path = id.strip_prefix("spiffe://example.org/").expect("an ID of another trust domain");
    for segment in path.split('/') {
        assert!(!segment.is_empty() && segment != "." && segment != "..", "a segment that resolves to another path");
        assert!(segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)));
    }
    // The subject cannot make the path longer than another subject would.
    let plain = spiffe_id(template, DOMAIN, &order("a")).expect("the template serves one subject and not another");
    assert_eq!(plain.split('/').count(), id.split('/').count(), "a claim made segments of its own");
});

fn order(subject: &str) -> IssueOrder {
    IssueOrder {
        grant: sample::id(7),
        role: Arc::new(sample::role("payments/prod/deploy")),
        owner: OwnerSnapshot::from(&sample::owner()),
        issuer: "ci".to_owned(),
        subject: subject.to_owned(),
        actors: Default::default(),
        attributes: [].into(),
        provenance: sample::provenance(),
        plan_digest: None,
        purpose: "a good reason".to_owned(),
        scope: Vec::new(),
        csr: None,
        status_index: 1,
        issued_at: sample::NOW,
        expires_at: sample::NOW,
        binding_key: None,
    }
}
