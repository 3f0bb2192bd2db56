//! Session tags: who a session is for, in words that CloudTrail and policies read. Whatever a purpose says, its tag is
//! one that AWS takes: a tag never fails a deploy.
//!
//! The keys begin with `hallpass:`, so that no policy that trusts an `owner` tag of somebody's own convention takes a
//! session's for one.

use hallpass_core::credential::IssueOrder;
use ring::digest;

use super::signing::hex;

/// Most tags of one session.
pub(super) const MAX_TAGS: usize = 50;
/// Longest key, in characters.
pub(super) const MAX_KEY: usize = 128;
/// Longest value, in characters.
pub(super) const MAX_VALUE: usize = 256;
/// What begins the keys that the broker gives.
pub(super) const OWN: &str = "hallpass:";
/// How many the broker gives at most.
pub(super) const OWN_TAGS: usize = 6;
/// Hexadecimal digits of the digest behind what was changed.
const DIGEST: usize = 16;

/// A session tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) key: String,
    pub(super) value: String,
}

/// The tags of a session: the role's own, and what is known of the grant.
pub(super) fn of(order: &IssueOrder, own: &[Tag]) -> Vec<Tag> {
    let grant = order.grant.to_string();
    let known = [
        ("owner", Some(order.owner.name.as_str())),
        ("purpose", Some(order.purpose.as_str())),
        ("grant", Some(grant.as_str())),
        ("role", Some(order.role.name.as_str())),
        ("repository", order.provenance.repository.as_deref()),
        ("commit", order.provenance.commit.as_deref()),
    ];
    let known = known.into_iter().filter_map(|(key, value)| {
        let value = value.filter(|value| !value.is_empty())?;
        Some(Tag { key: format!("{OWN}{key}"), value: fitting(value) })
    });
    own.iter().cloned().chain(known).collect()
}

/// The value as AWS takes it: what is not allowed is replaced, what is too long is cut, and where either was done a
/// digest of the whole follows, so that two different values never look the same.
fn fitting(value: &str) -> String {
    let count = value.chars().count();
    if count <= MAX_VALUE && value.chars().all(is_allowed) {
        return value.to_owned();
    }
    let kept = MAX_VALUE - DIGEST - 1;
    let mut fitting: String = value.chars().map(|c| if is_allowed(c) { c } else { '_' }).take(kept).collect();
    let whole = hex(digest::digest(&digest::SHA256, value.as_bytes()).as_ref());
    fitting.push('-');
    fitting.extend(whole.chars().take(DIGEST));
    fitting
}

/// AWS takes `[\p{L}\p{Z}\p{N}_.:/=+\-@]`. Of letters, digits and spaces beyond ASCII only those are kept that no version
/// of Unicode is needed to agree on.
pub(super) fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '.' | ':' | '/' | '=' | '+' | '-' | '@')
}

#[cfg(test)]
mod tests {
    use hallpass_core::testing::sample;
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    proptest! {
        #[test]
        fn whatever_a_purpose_says_its_tag_is_one_that_aws_takes(purpose in "\\PC*", long in ".{0,600}") {
            let allowed = Regex::new(r"^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$").unwrap();
            for text in [purpose, long] {
                let mut order = sample::order(1, sample::role("payments/prod/deploy"));
                order.purpose.clone_from(&text);
                order.provenance.repository = Some(text.clone());
                let tags = of(&order, &[]);
                prop_assert!(tags.len() <= OWN_TAGS);
                for tag in &tags {
                    prop_assert!(tag.key.chars().count() <= MAX_KEY && allowed.is_match(&tag.key));
                    prop_assert!(tag.value.chars().count() <= MAX_VALUE, "{}", tag.value);
                    prop_assert!(allowed.is_match(&tag.value), "{}", tag.value);
                    prop_assert!(!tag.value.is_empty());
                }
            }
        }

        #[test]
        fn two_values_never_look_the_same(one in ".{0,300}", other in ".{0,300}") {
            prop_assert_eq!(one == other, fitting(&one) == fitting(&other));
        }
    }

    #[test]
    fn what_fits_is_left_as_it_is_and_what_does_not_is_cut_by_rule() {
        assert_eq!(fitting("deploy 4f2c to prod"), "deploy 4f2c to prod");
        assert_eq!(fitting(&"x".repeat(256)), "x".repeat(256));
        let cut = fitting(&"x".repeat(257));
        assert_eq!((cut.len(), cut.starts_with(&"x".repeat(239))), (256, true));
        assert!(fitting("fix: \"quotes\"").starts_with("fix: _quotes_-"));
    }

    #[test]
    fn tags_say_whose_the_session_is() {
        let order = sample::order(7, sample::role("payments/prod/deploy"));
        let own = [Tag { key: "team".to_owned(), value: "core".to_owned() }];
        let tags: Vec<_> = of(&order, &own).into_iter().map(|tag| (tag.key, tag.value)).collect();
        let expected = [
            ("team", "core".to_owned()),
            ("hallpass:owner", "payments".to_owned()),
            ("hallpass:purpose", "deploy 4f2c to prod".to_owned()),
            ("hallpass:grant", order.grant.to_string()),
            ("hallpass:role", "payments/prod/deploy".to_owned()),
            ("hallpass:repository", "acme/app".to_owned()),
            ("hallpass:commit", "6dcb09b5b57875f334f61aebed695e2e4193db5e".to_owned()),
        ];
        assert_eq!(tags, expected.map(|(key, value)| (key.to_owned(), value)));
    }
}
