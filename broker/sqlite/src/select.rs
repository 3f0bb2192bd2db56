//! Filters and selectors as SQL.
//!
//! A query over grants is driven by the index of the narrowest part of what is asked; the rest is checked on the rows
//! that it gives. Which is narrowest is decided here and not left to the planner, whose statistics are of another day.

use hallpass_core::delegation::Acting;
use hallpass_core::grant::StateName;
use hallpass_core::port::GrantFilter;
use hallpass_core::selector::{Criteria, Selector};
use rusqlite::types::Value;

use crate::rows::id_bytes;

/// Which of the parties of a grant is as it is asked for: one query for each, since each has an index of its own. No grant
/// is found by both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Party {
    /// Whoever it is for.
    #[default]
    Holder,
    /// Not that one, and somebody who acts for it.
    Acting,
}

impl Party {
    /// Those that a filter asks about.
    pub(crate) fn asked_by(filter: &GrantFilter) -> &'static [Self] {
        let asks = parts_of_party(filter).into_iter().any(|part| part.wanted.is_some());
        if asks { &[Self::Holder, Self::Acting] } else { &[Self::Holder] }
    }

    /// Those that a selector asks about.
    pub(crate) fn selected_by(selector: &Selector) -> &'static [Self] {
        selector.criteria().map_or(&[Self::Holder], |criteria| Self::asked_by(&criteria.grants))
    }
}

/// What is asked of a party.
struct PartOfParty<'a> {
    /// The column that has it of whoever a grant is for.
    column: &'static str,
    /// Where a chain of those who act has it of each.
    path: &'static str,
    /// The dependency by which grants are found that somebody acts with who is so.
    kind: &'static str,
    wanted: Option<&'a str>,
}

/// From the narrowest to the widest.
fn parts_of_party(filter: &GrantFilter) -> [PartOfParty<'_>; 6] {
    let wanted =
        [&filter.run, &filter.commit, &filter.repository_id, &filter.repository, &filter.subject, &filter.issuer];
    let mut wanted = wanted.into_iter();
    PARTS.map(|[column, path, kind]| {
        let wanted = wanted.next().and_then(|wanted| wanted.as_deref());
        PartOfParty { column, path, kind, wanted }
    })
}

const PARTS: [[&str; 3]; 6] = [
    ["run", "provenance.run", "acting_run"],
    ["\"commit\"", "provenance.commit", "acting_commit"],
    ["repository_id", "provenance.repository_id", "acting_repository_id"],
    ["repository", "provenance.repository", "acting_repository"],
    ["subject", "subject", "acting_subject"],
    ["issuer", "issuer", "acting_issuer"],
];

/// The dependencies of a grant on one who acts with it: what [`Party::Acting`] is found by.
pub(crate) fn party_of(acting: &Acting) -> impl Iterator<Item = (&'static str, &str)> {
    let change = &acting.provenance;
    let is = [
        change.run.as_deref(),
        change.commit.as_deref(),
        change.repository_id.as_deref(),
        change.repository.as_deref(),
        Some(acting.subject.as_str()),
        Some(acting.issuer.as_str()),
    ];
    PARTS.into_iter().zip(is).filter_map(|([_, _, kind], is)| Some((kind, is?)))
}

/// The `FROM` and the `WHERE` of a query over grants, known there as `g`.
#[derive(Default)]
pub(crate) struct Select {
    party: Party,
    conditions: Vec<String>,
    pub(crate) values: Vec<Value>,
    /// The condition whose index was chosen, once one was; what comes later is checked on the rows (the `+` keeps the
    /// planner from it).
    drive: Option<(String, Vec<Value>)>,
    by_dependency: bool,
}

impl Select {
    /// A query that asks this party.
    pub(crate) fn of(party: Party) -> Self {
        Self { party, ..Self::default() }
    }

    /// Whether `selector` leads to its grants by something narrower than their state.
    pub(crate) fn is_narrow(selector: &Selector, party: Party) -> bool {
        let Some(criteria) = selector.criteria() else { return false };
        let mut select = Self::of(party);
        select.narrowly(criteria, &criteria.grants);
        select.is_driven()
    }

    /// What its index gives, without what is checked on the rows that it gives: within these times where there are any.
    pub(crate) fn driving(&self, selector: &Selector) -> Self {
        let mut select = Self { by_dependency: self.by_dependency, ..Self::of(self.party) };
        if let Some((condition, values)) = self.drive.clone() {
            select.driven_by(&condition, values);
        }
        if let Some(criteria) = selector.criteria() {
            select.times(&criteria.grants);
        }
        select
    }

    /// What a list is filtered by, but for its times.
    pub(crate) fn filter(&mut self, filter: &GrantFilter) {
        self.narrow_texts(filter);
        self.widely(filter, &filter.states);
    }

    /// What a selector asks for, with these states instead of its own.
    pub(crate) fn selector(&mut self, selector: &Selector, states: &[StateName]) {
        let Some(criteria) = selector.criteria() else {
            self.states(states);
            return;
        };
        self.narrowly(criteria, &criteria.grants);
        self.widely(&criteria.grants, states);
        if let Some(key) = &criteria.key_id {
            let keys = [(); 3].map(|()| Value::Text(key.clone()));
            let acting = acting_has("proof_key_id");
            self.with(&format!("(g.proof_key_id = ? OR g.signed_by = ? OR {acting})"), keys);
        }
        if let Some(proof) = &criteria.proof_id {
            let proofs = [(); 2].map(|()| Value::Text(proof.clone()));
            self.with(&format!("(g.proof_id = ? OR {})", acting_has("proof_id")), proofs);
        }
        self.times(&criteria.grants);
    }

    /// Created at or after, and before.
    pub(crate) fn times(&mut self, filter: &GrantFilter) {
        let created_at = self.created_at();
        if let Some(since) = filter.since {
            self.with(&format!("{created_at} >= ?"), [Value::Integer(since.as_millis())]);
        }
        if let Some(until) = filter.until {
            self.with(&format!("{created_at} < ?"), [Value::Integer(until.as_millis())]);
        }
    }

    /// Older than `place`, in the order of [`Select::newest_first`].
    pub(crate) fn after(&mut self, place: Option<[i64; 2]>) {
        if let Some([at, seq]) = place {
            let condition = format!("({}, {}) < (?, ?)", self.created_at(), self.seq());
            self.with(&condition, [Value::Integer(at), Value::Integer(seq)]);
        }
    }

    /// `place` or newer, in the same order.
    pub(crate) fn down_to(&mut self, [at, seq]: [i64; 2]) {
        let condition = format!("({}, {}) >= (?, ?)", self.created_at(), self.seq());
        self.with(&condition, [Value::Integer(at), Value::Integer(seq)]);
    }

    pub(crate) fn with(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        self.conditions.push(condition.to_owned());
        self.values.extend(values);
    }

    /// `FROM … WHERE …`.
    pub(crate) fn source(&self) -> String {
        let from = if self.by_dependency {
            "dependencies AS d CROSS JOIN grants AS g ON g.seq = d.grant_seq"
        } else {
            "grants AS g"
        };
        let conditions = if self.conditions.is_empty() { "true".to_owned() } else { self.conditions.join(" AND ") };
        format!("FROM {from} WHERE {conditions}")
    }

    /// The order that every driving index gives by itself.
    pub(crate) fn newest_first(&self) -> String {
        format!("ORDER BY {} DESC, {} DESC", self.created_at(), self.seq())
    }

    pub(crate) fn created_at(&self) -> &'static str {
        if self.by_dependency { "d.created_at" } else { "g.created_at" }
    }

    pub(crate) fn seq(&self) -> &'static str {
        if self.by_dependency { "d.grant_seq" } else { "g.seq" }
    }

    fn narrowly(&mut self, criteria: &Criteria, filter: &GrantFilter) {
        if let Some(parent) = criteria.parent {
            let parent = Value::Blob(id_bytes(parent.as_uuid()).to_vec());
            self.checked_or_driven("g.parent_id = ?", vec![parent]);
        }
        if let Some(actor) = &criteria.actor {
            self.dependency("actor", actor);
        }
        if let Some(digest) = &criteria.attestation_digest {
            self.dependency("attestation", digest);
        }
        self.narrow_texts(filter);
    }

    fn narrow_texts(&mut self, filter: &GrantFilter) {
        // From the narrowest to the widest, as records of deployments are: a run opens a few, a backend opens all.
        let texts = [
            ("run", &filter.run),
            ("\"commit\"", &filter.commit),
            ("ticket", &filter.ticket),
            ("repository_id", &filter.repository_id),
            ("repository", &filter.repository),
            ("subject", &filter.subject),
            ("purpose", &filter.purpose),
            ("role", &filter.role),
            ("environment", &filter.environment),
            ("owner", &filter.owner),
        ];
        let is_of_holder = |column: &str| PARTS.into_iter().any(|[of_holder, ..]| of_holder == column);
        if self.party == Party::Acting {
            self.acting(filter);
        }
        for (column, value) in texts.into_iter().filter_map(|(column, value)| Some((column, value.as_ref()?))) {
            if self.party == Party::Holder || !is_of_holder(column) {
                self.equal(column, value);
            }
        }
        if let Some(policy) = &filter.policy {
            self.dependency("policy", policy);
        }
    }

    fn widely(&mut self, filter: &GrantFilter, states: &[StateName]) {
        if !states.is_empty() {
            self.states(states);
        }
        let issuer = filter.issuer.as_ref().filter(|_| self.party == Party::Holder);
        let wide = [("backend", filter.backend.as_ref()), ("issuer", issuer)];
        for (column, value) in wide.into_iter().filter_map(|(column, value)| Some((column, value?))) {
            self.equal(column, value);
        }
    }

    /// Somebody who acts is all of what is asked of a party, and whoever it is for is not: that is found by itself.
    fn acting(&mut self, filter: &GrantFilter) {
        let asked = || parts_of_party(filter).into_iter().filter_map(|part| Some((part.wanted?, part)));
        let Some((narrowest, part)) = asked().next() else { return };
        self.dependency(part.kind, narrowest);
        let texts = || asked().map(|(wanted, _)| Value::Text(wanted.to_owned()));
        let of_one: Vec<_> = asked().map(|(_, part)| format!("a.value ->> '$.{}' = ?", part.path)).collect();
        let of_holder: Vec<_> = asked().map(|(_, part)| format!("g.{} IS ?", part.column)).collect();
        let (of_one, of_holder) = (of_one.join(" AND "), of_holder.join(" AND "));
        self.with(&format!("EXISTS (SELECT 1 FROM json_each(g.actor_chain) AS a WHERE {of_one})"), texts());
        self.with(&format!("NOT ({of_holder})"), texts());
    }

    fn is_driven(&self) -> bool {
        self.drive.is_some()
    }

    fn driven_by(&mut self, condition: &str, values: Vec<Value>) {
        self.with(condition, values.clone());
        self.drive = Some((condition.to_owned(), values));
    }

    fn checked_or_driven(&mut self, condition: &str, values: Vec<Value>) {
        if self.is_driven() {
            self.with(&format!("+{condition}"), values);
        } else {
            self.driven_by(condition, values);
        }
    }

    fn equal(&mut self, column: &str, value: &str) {
        self.checked_or_driven(&format!("g.{column} = ?"), vec![Value::Text(value.to_owned())]);
    }

    fn dependency(&mut self, kind: &str, name: &str) {
        let name = vec![Value::Text(name.to_owned())];
        if self.is_driven() {
            let condition = format!(
                "EXISTS (SELECT 1 FROM dependencies AS e WHERE e.kind = '{kind}' AND e.name = ? \
                 AND e.created_at = g.created_at AND e.grant_seq = g.seq)"
            );
            self.with(&condition, name);
        } else {
            self.by_dependency = true;
            self.driven_by(&format!("d.kind = '{kind}' AND d.name = ?"), name);
        }
    }

    /// Nearly every grant of a long record has expired: with that state among the wanted, walking the whole record
    /// finds the newest soonest; without it, the index gives the few.
    fn states(&mut self, states: &[StateName]) {
        let drives = !self.is_driven() && (states.len() == 1 || !states.contains(&StateName::Expired));
        let places = vec!["?"; states.len()].join(", ");
        let words = states.iter().map(|state| Value::Text(state.as_str().to_owned())).collect();
        let condition = format!("g.state IN ({places})");
        if drives {
            self.driven_by(&condition, words);
        } else {
            self.with(&format!("+{condition}"), words);
        }
    }
}

/// Whether somebody who acts behind a grant has this.
fn acting_has(what: &str) -> String {
    format!("EXISTS (SELECT 1 FROM json_each(g.actor_chain) AS a WHERE a.value ->> '$.{what}' = ?)")
}
