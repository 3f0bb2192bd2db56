//! Who is known to be somebody else, by what owners say of their members (promise 10: nobody approves themselves).

use std::collections::BTreeSet;

use super::{AccountsOf, Person};
use crate::catalog::Catalog;
use crate::identity::VerifiedIdentity;
use crate::owner::Member;

/// What is known of two people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Same,
    Another,
    /// One of them is no owner's member, or they have no kind of name in common: nobody knows.
    Unknown,
}

/// Whether `asker` is `person`: by the identity, by the account that its proof names, and by what owners say are one
/// person's.
///
/// Names that differ tell nothing by themselves: everybody can have a second account, and code hosts have accounts that
/// are nobody's. So two are known to be different only where owners know both.
pub(super) fn relation(
    asker: &VerifiedIdentity,
    person: &Person,
    accounts_of: &AccountsOf,
    catalog: &Catalog,
) -> Relation {
    let identity = Person::Identity(format!("{}:{}", asker.issuer(), asker.subject()));
    let hosts = accounts_of.iter().filter(|(_, issuers)| issuers.contains(asker.issuer()));
    let actor = asker.proof().provenance.actor_id.as_deref();
    let actors = hosts.filter_map(|(host, _)| Some(Person::Account(format!("{host}:{}", actor?))));
    let accounts: Vec<Person> = actors.collect();
    // Behind the identity of a job is whoever began it, where the proof says who that is.
    let shown = if accounts.is_empty() { std::slice::from_ref(&identity) } else { accounts.as_slice() };
    let are_known = shown.iter().chain([person]).all(|name| is_known(name, catalog));
    compared(&names_of(accounts.iter().chain([&identity]), catalog), &names_of([person], catalog), are_known)
}

/// Whether one person whom a statement names is another one.
pub(super) fn between(one: &Person, other: &Person, catalog: &Catalog) -> Relation {
    let are_known = is_known(one, catalog) && is_known(other, catalog);
    compared(&names_of([one], catalog), &names_of([other], catalog), are_known)
}

fn compared(ours: &BTreeSet<Person>, theirs: &BTreeSet<Person>, are_known: bool) -> Relation {
    if !ours.is_disjoint(theirs) {
        return Relation::Same;
    }
    let kinds: BTreeSet<_> = ours.iter().map(kind_of).collect();
    let are_comparable = theirs.iter().any(|name| kinds.contains(&kind_of(name)));
    if are_known && are_comparable { Relation::Another } else { Relation::Unknown }
}

fn members(catalog: &Catalog) -> impl Iterator<Item = &Member> {
    catalog.owners.values().flat_map(|owner| &owner.members)
}

fn identity_of(member: &Member) -> Person {
    Person::Identity(format!("{}:{}", member.issuer, member.subject))
}

fn has(member: &Member, name: &Person) -> bool {
    match name {
        Person::Account(account) => member.accounts.contains(account),
        Person::Identity(_) => identity_of(member) == *name,
    }
}

fn is_known(name: &Person, catalog: &Catalog) -> bool {
    members(catalog).any(|member| has(member, name))
}

/// Every name of whoever has one of these: an account that two members have makes them one person.
fn names_of<'a>(known: impl IntoIterator<Item = &'a Person>, catalog: &Catalog) -> BTreeSet<Person> {
    let mut names: BTreeSet<Person> = known.into_iter().cloned().collect();
    loop {
        let before = names.len();
        for member in members(catalog) {
            let identity = identity_of(member);
            let accounts: Vec<_> = member.accounts.iter().cloned().map(Person::Account).collect();
            if names.contains(&identity) || accounts.iter().any(|account| names.contains(account)) {
                names.insert(identity);
                names.extend(accounts);
            }
        }
        if names.len() == before {
            return names;
        }
    }
}

/// The host, or the issuer: two names that differ there can be one person's.
fn kind_of(name: &Person) -> (bool, &str) {
    let kind = name.as_str().split_once(':').map_or("", |(kind, _)| kind);
    (matches!(name, Person::Account(_)), kind)
}
