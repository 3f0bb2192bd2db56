//! Rights over the grants that are there.

use hallpass_core::credential::RevocationClass;
use hallpass_core::id::{OwnerName, RoleName};
use hallpass_core::revocation::Likeness;
use hallpass_core::time::Clock as _;

use super::*;
use crate::runtime::clock::SystemClock;

/// What is left of a role: a kind of grant on record.
fn held(role: &str, owner: &str, tier: &str) -> Likeness {
    Likeness {
        role: RoleName::new(role).unwrap(),
        owner: OwnerName::new(owner).unwrap(),
        environment: None,
        backend_kind: "jwt".to_owned(),
        class: RevocationClass::Fenced,
        target: None,
        environment_class: None,
        stage: None,
        tier: Some(tier.to_owned()),
    }
}

#[test]
fn rights_over_grants_of_roles_that_are_gone_count() {
    let barred = "@id(\"former-members-give-up-on-nothing-of-theirs\") forbid (principal in Group::\"former\", action == Action::\"abandon\", resource is Grant)\n\
        when { resource.owner == \"former\" };\n";
    let mut member = files();
    added("policies/all.cedar", barred)(&mut member);
    replaced("owners.toml", "active = false", "active = true")(&mut member);
    let mut left = member.clone();
    replaced("owners.toml", "subject = \"carol\" }]\nactive", "subject = \"dan\" }]\nactive")(&mut left);
    let widened = |held: &[Likeness]| -> Vec<String> {
        let found = of_own_rights(&revision(member.clone()), &revision(left.clone()), &[carol()], held);
        found.iter().map(ToString::to_string).collect()
    };
    assert_eq!(widened(&[]), Vec::<String>::new(), "nothing in the bundle tells");
    let (low, high) = (held("legacy/tool", "former", "low"), held("legacy/tool", "former", "high"));
    let other = held("legacy/tool", "payments", "low");
    assert_eq!(widened(&[high, other]), Vec::<String>::new(), "as before: never, and always");
    assert_eq!(
        widened(&[low]),
        ["policies: you could abandon grants of legacy/tool where you could not, or for longer"]
    );
}

/// A clock, and what it says.
fn timed() -> (SystemClock, std::time::Duration) {
    let clock = SystemClock::start();
    let started = clock.monotonic();
    (clock, started)
}

#[test]
fn a_large_bundle_is_compared_in_seconds() {
    let mut large = files();
    for n in 0..1_000 {
        large.insert(format!("roles/payments/r{n}.toml"), DEPLOY.to_owned());
    }
    let before = revision(large.clone());
    replaced("policies/all.cedar", "refs/heads/main", "refs/heads/release")(&mut large);
    let after = revision(large);
    let (clock, started) = timed();
    let kinds: Vec<_> = (0..1_000).map(|n| held(&format!("payments/gone{n}"), "payments", "high")).collect();
    assert_eq!(of_own_rights(&before, &after, &[carol()], &kinds), []);
    assert!(clock.monotonic().saturating_sub(started) < std::time::Duration::from_secs(20));
}
