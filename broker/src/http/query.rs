//! What lists are asked for: filters and pages. A filter that is not known is refused, because ignoring it would answer
//! more than was asked for.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use hallpass_core::grant::StateName;
use hallpass_core::id::RevisionId;
use hallpass_core::port::{AuditFilter, GrantFilter, PageRequest};
use hallpass_core::time::Timestamp;
use http::request::Parts;
use std::sync::Arc;

use super::failure::{Failure, Unreadable};
use super::form::Parameters;
use super::router::ApiState;

/// Entries on a page that is not asked to have more or fewer.
const DEFAULT_LIMIT: usize = 100;

/// The query of a list, or why it is none: the handler says so only to somebody who has proved who it is.
pub(super) struct Query<T>(pub(super) Result<T, Unreadable>);

/// Something that a query says.
pub(super) trait FromQuery: Sized {
    /// Takes what it knows.
    fn take(query: &mut Parameters) -> Result<Self, Unreadable>;
}

impl<T: FromQuery> FromRequestParts<Arc<ApiState>> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ApiState>) -> Result<Self, Failure> {
        Ok(Self(read(parts.uri.query().unwrap_or_default(), state.limits.max_parameters)))
    }
}

fn read<T: FromQuery>(text: &str, max: usize) -> Result<T, Unreadable> {
    let mut query = Parameters::parse(text.as_bytes(), max)?;
    query.refuse_repeats(&[])?;
    let short = |name: &str| name.chars().take(100).collect::<String>();
    // Whoever fills in a variable that is empty asks for one owner's, and must not get everybody's.
    if let Some((name, _)) = query.rest().iter().find(|(_, value)| value.is_empty()) {
        let name = short(name);
        return Err(Unreadable::content(&name, format!("`{name}` has no value: leave it out")));
    }
    let taken = T::take(&mut query)?;
    match query.rest().first() {
        Some((name, _)) => {
            let name = short(name);
            Err(Unreadable::unknown_field(&name, format!("`{name}` is not a parameter of this list")))
        }
        None => Ok(taken),
    }
}

impl FromQuery for PageRequest {
    fn take(query: &mut Parameters) -> Result<Self, Unreadable> {
        let limit = match query.take("limit") {
            None => DEFAULT_LIMIT,
            Some(text) => {
                let limit = text.parse().ok().filter(|limit| (1..=Self::MAX_LIMIT).contains(limit));
                let detail = format!("`limit` is a number from 1 to {}", Self::MAX_LIMIT);
                limit.ok_or_else(|| Unreadable::content("limit", detail))?
            }
        };
        Ok(Self { cursor: query.take("cursor"), limit })
    }
}

/// `dry_run=true`: only say what would be.
pub(super) struct DryRun(pub(super) bool);

impl FromQuery for DryRun {
    fn take(query: &mut Parameters) -> Result<Self, Unreadable> {
        match query.take("dry_run").as_deref() {
            None | Some("false") => Ok(Self(false)),
            Some("true") => Ok(Self(true)),
            Some(_) => Err(Unreadable::content("dry_run", "`dry_run` is `true` or `false`")),
        }
    }
}

/// `diff=<revision>`: what leads from that one to this one.
pub(super) struct UpTo(pub(super) Option<RevisionId>);

impl FromQuery for UpTo {
    fn take(query: &mut Parameters) -> Result<Self, Unreadable> {
        let named = query.take("diff").map(RevisionId::new).transpose();
        named.map(Self).map_err(|_| Unreadable::content("diff", "`diff` is a revision: 64 hexadecimal digits"))
    }
}

impl FromQuery for (GrantFilter, PageRequest) {
    fn take(query: &mut Parameters) -> Result<Self, Unreadable> {
        let state = query.take("state").map(|word| {
            let words: Vec<_> = StateName::ALL.iter().map(|state| state.as_str()).collect();
            StateName::parse(&word)
                .ok_or_else(|| Unreadable::content("state", format!("`state` is one of {}", words.join(", "))))
        });
        let filter = GrantFilter {
            states: state.transpose()?.into_iter().collect(),
            owner: query.take("owner"),
            role: query.take("role"),
            issuer: query.take("issuer"),
            subject: query.take("subject"),
            repository: query.take("repository"),
            repository_id: query.take("repository_id"),
            commit: query.take("commit"),
            run: query.take("run"),
            environment: query.take("environment"),
            backend: query.take("backend"),
            policy: query.take("policy"),
            purpose: query.take("purpose"),
            ticket: query.take("ticket"),
            since: instant(query, "since")?,
            until: instant(query, "until")?,
        };
        Ok((filter, PageRequest::take(query)?))
    }
}

impl FromQuery for (AuditFilter, PageRequest) {
    fn take(query: &mut Parameters) -> Result<Self, Unreadable> {
        let filter = AuditFilter { request_id: id(query, "request_id")?, grant: id(query, "grant")? };
        Ok((filter, PageRequest::take(query)?))
    }
}

/// Which proof of the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProofWanted {
    /// That an entry is in it.
    Inclusion { entry: u64, size: Option<u64> },
    /// That it begins with what it was.
    Consistency { from: u64, size: Option<u64> },
}

impl FromQuery for ProofWanted {
    fn take(query: &mut Parameters) -> Result<Self, Unreadable> {
        let (entry, from) = (number(query, "entry")?, number(query, "from")?);
        let size = number(query, "size")?;
        match (entry, from) {
            (Some(entry), None) => Ok(Self::Inclusion { entry, size }),
            (None, Some(from)) => Ok(Self::Consistency { from, size }),
            (None, None) => {
                Err(Unreadable::content("entry", "give the place of an `entry`, or a number of entries `from`"))
            }
            (Some(_), Some(_)) => Err(Unreadable::content("from", "give `entry` or `from`, and not both")),
        }
    }
}

fn number(query: &mut Parameters, name: &str) -> Result<Option<u64>, Unreadable> {
    let parsed = query.take(name).map(|text| text.parse());
    parsed.transpose().map_err(|_| Unreadable::content(name, format!("`{name}` is a whole number")))
}

fn id<T: FromStr>(query: &mut Parameters, name: &str) -> Result<Option<T>, Unreadable> {
    let parsed = query.take(name).map(|text| text.parse());
    parsed.transpose().map_err(|_| Unreadable::content(name, format!("`{name}` is not an id")))
}

fn instant(query: &mut Parameters, name: &str) -> Result<Option<Timestamp>, Unreadable> {
    let parsed = query.take(name).map(|text| Timestamp::parse_rfc3339(&text));
    parsed.transpose().map_err(|error| Unreadable::content(name, format!("`{name}`: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(text: &str) -> Result<(GrantFilter, PageRequest), Unreadable> {
        read(text, 64)
    }

    #[test]
    fn filters_of_the_contract_are_read() {
        let (filter, page) = grants(
            "state=active&owner=o&role=a%2Fb&issuer=i&subject=s&repository=r&commit=c&run=1&repository_id=2\
             &environment=e&backend=b&policy=p&purpose=why+not&ticket=t&since=2026-01-01T00:00:00Z&limit=500&cursor=x",
        )
        .unwrap();
        assert_eq!(filter.states, [StateName::Active]);
        assert_eq!((filter.role.as_deref(), filter.purpose.as_deref()), (Some("a/b"), Some("why not")));
        assert_eq!(filter.since, Some(Timestamp::from_secs(1_767_225_600)));
        assert_eq!((page.limit, page.cursor.as_deref()), (500, Some("x")));
        assert_eq!(grants("").unwrap().1, PageRequest { cursor: None, limit: DEFAULT_LIMIT });
    }

    #[test]
    fn what_is_not_a_filter_is_refused_by_name() {
        for (text, parameter) in [
            ("limit=-1", "limit"),
            ("limit=0", "limit"),
            ("limit=501", "limit"),
            ("limit=x", "limit"),
            ("state=nonsense", "state"),
            ("since=yesterday", "since"),
            ("onwer=payments", "onwer"),
            ("owner=a&owner=b", "owner"),
            ("owner=", "owner"),
            ("limit=", "limit"),
            ("onwer", "onwer"),
        ] {
            assert_eq!(grants(text).unwrap_err().refusal.parameter.as_deref(), Some(parameter), "{text}");
        }
        assert!(read::<(AuditFilter, PageRequest)>("grant=x", 64).is_err());
    }

    #[test]
    fn a_proof_is_of_an_entry_or_of_what_was() {
        let wanted = |text: &str| read::<ProofWanted>(text, 64).map_err(|wrong| wrong.refusal.parameter.unwrap());
        assert_eq!(wanted("entry=7"), Ok(ProofWanted::Inclusion { entry: 7, size: None }));
        assert_eq!(wanted("from=0&size=9"), Ok(ProofWanted::Consistency { from: 0, size: Some(9) }));
        for (text, parameter) in [
            ("", "entry"),
            ("size=9", "entry"),
            ("entry=7&from=7", "from"),
            ("entry=-1", "entry"),
            ("entry=18446744073709551616", "entry"),
            ("from=x", "from"),
            ("from=1&size=1.5", "size"),
            ("from=1&sise=1", "sise"),
        ] {
            assert_eq!(wanted(text), Err(parameter.to_owned()), "{text}");
        }
    }
}
