//! The same texts are judged by another implementation of the specification, the crate `spiffe`.

use proptest::prelude::*;

use super::*;

/// What must be one: the edges of SPIFFE-ID §2.1 to §2.3, and go-spiffe's own accepted examples.
fn good() -> Vec<String> {
    let mut good: Vec<String> = [
        "spiffe://td1.test",
        "spiffe://td1.test/a",
        "spiffe://td1.test/A.b-C_d",
        "spiffe://td1.test/ns/prod/sa/deployer",
        "spiffe://1.2.3.4/a",
        "spiffe://under_score.test/9",
        "spiffe://-/a",
        "spiffe://trustdomain",
        "spiffe://trustdomain/path/element",
        "spiffe://trustdomain/.a",
        "spiffe://trustdomain/a.",
        "spiffe://trustdomain/...",
        "spiffe://trustdomain/..a/b..",
    ]
    .map(str::to_owned)
    .into();
    good.push(format!("spiffe://{}/a", "d".repeat(MAX_TRUST_DOMAIN_BYTES)));
    good.push(format!("spiffe://td1.test/{}", "a".repeat(MAX_SPIFFE_ID_BYTES - "spiffe://td1.test/".len())));
    good
}

/// What must be none, each with the rule that it breaks.
fn bad() -> Vec<(String, NotASpiffeId)> {
    use NotASpiffeId::{
        DotSegment, EmptySegment, NoTrustDomain, PathCharacter, Scheme, TooLong, TrustDomainCharacter,
        TrustDomainTooLong,
    };
    let mut bad: Vec<(String, NotASpiffeId)> = [
        ("", Scheme),
        ("spiffe:///a", NoTrustDomain),
        ("spiffe://", NoTrustDomain),
        ("spiffe://td1.test:8080/a", TrustDomainCharacter),
        ("spiffe://user@td1.test/a", TrustDomainCharacter),
        ("spiffe://user:secret@td1.test/a", TrustDomainCharacter),
        ("spiffe://td1.test?x=1", TrustDomainCharacter),
        ("spiffe://td1.test#f", TrustDomainCharacter),
        ("spiffe://td1.test/a?x=1", PathCharacter),
        ("spiffe://td1.test/a#f", PathCharacter),
        ("spiffe://td1.test/%61", PathCharacter),
        ("spiffe://td1.test/a//b", EmptySegment),
        ("spiffe://td1.test//a", EmptySegment),
        ("spiffe://td1.test/a/", EmptySegment),
        ("spiffe://td1.test/", EmptySegment),
        ("spiffe://td1.test/./a", DotSegment),
        ("spiffe://td1.test/a/..", DotSegment),
        ("spiffe://td1.test/ns/prod/sa/deployer/../admin", DotSegment),
        ("spiffe://td1.test/a!b", PathCharacter),
        ("spiffe://td1.test/a b", PathCharacter),
        ("spiffe://td1.test/a:b", PathCharacter),
        ("spiffe://td1.test/a\\b", PathCharacter),
        ("spiffe://td1.test/é", PathCharacter),
        ("spiffe://td1.test/a\0", PathCharacter),
        ("spiffe://TD1.test/a", TrustDomainCharacter),
        ("spiffe://tdé.test/a", TrustDomainCharacter),
        ("spiffe://[::1]/a", TrustDomainCharacter),
        ("spiffe://td1.test /a", TrustDomainCharacter),
        ("SPIFFE://td1.test/a", Scheme),
        ("sPiFfE://td1.test/a", Scheme),
        ("//td1.test/a", Scheme),
        ("td1.test/a", Scheme),
        ("spiffe:/td1.test/a", Scheme),
        ("https://td1.test/a", Scheme),
        (" spiffe://td1.test/a", Scheme),
        ("repo:acme/app", Scheme),
    ]
    .map(|(text, rule)| (text.to_owned(), rule))
    .into();
    bad.push((format!("spiffe://{}/a", "d".repeat(MAX_TRUST_DOMAIN_BYTES + 1)), TrustDomainTooLong));
    bad.push((format!("spiffe://td1.test/{}", "a".repeat(MAX_SPIFFE_ID_BYTES)), TooLong));
    bad
}

/// What the other implementation says of a text. It takes upper case in the scheme and the trust domain and writes it
/// anew; what it does not take as it is, is none by the specification's own rule that they are lower case.
fn takes_as_it_is(text: &str) -> bool {
    spiffe::SpiffeId::new(text).is_ok_and(|id| id.to_string() == text)
}

#[test]
fn an_id_is_read_as_it_is_written() {
    for text in good() {
        let id = SpiffeId::parse(&text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(id.as_str(), text);
        assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
        assert!(takes_as_it_is(&text), "{text:?} is none for the other implementation");
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_none() {
    for (text, rule) in bad() {
        assert_eq!(SpiffeId::parse(&text), Err(rule), "{text:?}");
        assert!(!rule.to_string().contains("td1"), "it repeats nothing");
        // The other one does not count the whole.
        let other = takes_as_it_is(&text) && rule != NotASpiffeId::TooLong;
        assert!(!other, "{text:?} is one for the other implementation");
    }
}

#[test]
fn a_trust_domain_is_a_bare_name() {
    assert_eq!(TrustDomain::new("prod.example.org").unwrap().as_str(), "prod.example.org");
    for text in ["", "spiffe://td", "td/", "TD", "td:1", "é", " td", "td\n"] {
        assert!(TrustDomain::new(text).is_err(), "{text:?}");
    }
}

proptest! {
    /// Whatever text arrives, both implementations say the same of it, and what is one has one spelling.
    #[test]
    fn both_implementations_agree(text in "(spiffe://|SPIFFE://|spiffe:/|)[a-cA-C0-9._:@%é/?# -]{0,24}") {
        // The specification counts bytes of the whole; neither is near that here.
        let ours = SpiffeId::parse(&text);
        prop_assert_eq!(ours.is_ok(), takes_as_it_is(&text), "{:?}", ours);
        if let Ok(id) = ours {
            prop_assert_eq!(id.as_str(), &text);
            prop_assert_eq!(SpiffeId::parse(&format!("spiffe://{}{}", id.trust_domain(), id.path())), Ok(id.clone()));
        }
    }

    #[test]
    fn made_of_what_the_specification_has_it_is_one(
        domain in "[a-z0-9._-]{1,40}",
        segments in proptest::collection::vec("[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,10}", 0..6),
    ) {
        let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        let id = SpiffeId::parse(&format!("spiffe://{domain}{path}")).unwrap();
        prop_assert_eq!(id.trust_domain().as_str(), domain);
        prop_assert_eq!(id.path(), path);
    }
}
