//! Owners: `[[owner]]` of `owners.toml`.

use std::collections::BTreeMap;
use std::sync::Arc;

use hallpass_core::id::{IssuerName, OwnerName};
use hallpass_core::owner::{Member, Owner};
use serde::Deserialize;

use super::Finding;
use super::document::{Declared, Document, Instant, check_words};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOwner {
    name: OwnerName,
    #[serde(default)]
    contacts: Vec<String>,
    #[serde(default)]
    members: Vec<RawMember>,
    #[serde(default = "yes")]
    active: bool,
    successor: Option<OwnerName>,
    verified_at: Option<Instant>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMember {
    issuer: IssuerName,
    subject: String,
    #[serde(default)]
    accounts: Vec<String>,
}

fn yes() -> bool {
    true
}

/// The owners of `owners.toml`. Every member's issuer must be one of `issuers`, every successor one of the owners.
pub(crate) fn read(
    document: &Document<'_>,
    issuers: &Declared,
    findings: &mut Vec<Finding>,
) -> BTreeMap<OwnerName, Arc<Owner>> {
    let declared = Declared::of(Some(document), "owner", false);
    let mut owners = BTreeMap::new();
    let mut successors = Vec::new();
    for entry in document.entries("owner", findings) {
        let Some(owner) = read_one(&entry, issuers, findings) else { continue };
        if let Some(successor) = &owner.successor {
            successors.push((entry.clone(), owner.name.clone(), successor.clone()));
        }
        if let Some(other) = owners.insert(owner.name.clone(), Arc::new(owner)) {
            findings.push(entry.finding("name", format!("the owner {:?} is there already", other.name.as_str())));
        }
    }
    for (entry, name, successor) in successors {
        if successor == name || !declared.has(successor.as_str()) {
            let reason = format!("{:?} is no other owner of this file", successor.as_str());
            findings.push(entry.finding("successor", reason));
        }
    }
    owners
}

fn read_one(entry: &Document<'_>, issuers: &Declared, findings: &mut Vec<Finding>) -> Option<Owner> {
    let raw: RawOwner = entry.read(findings)?;
    if raw.name.as_str() == OwnerName::RESERVED {
        findings.push(entry.finding("name", "\"hallpass\" owns the built-in roles; choose another name"));
    }
    for contact in &raw.contacts {
        check_words(entry, "contacts", contact, findings);
    }
    for member in &raw.members {
        check_words(entry, "members", &member.subject, findings);
        if !issuers.has(member.issuer.as_str()) {
            let reason =
                format!("{:?} is no issuer of issuers.toml: nobody could prove to be it", member.issuer.as_str());
            findings.push(entry.finding("members", reason));
        }
    }
    if raw.active && raw.contacts.is_empty() {
        findings.push(entry.finding("contacts", "an active owner has at least one"));
    }
    if raw.active && raw.members.is_empty() {
        findings.push(entry.finding("members", "an active owner has at least one"));
    }
    Some(Owner {
        name: raw.name,
        contacts: raw.contacts,
        members: raw
            .members
            .into_iter()
            .map(|RawMember { issuer, subject, accounts }| Member { issuer, subject, accounts })
            .collect(),
        active: raw.active,
        successor: raw.successor,
        verified_at: raw.verified_at.map(|Instant(at)| at),
    })
}
