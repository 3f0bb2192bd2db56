//! What a revocation selects and covers, as queries.

use std::ops::Range;

use hallpass_core::grant::{Grant, StateName};
use hallpass_core::id::GrantId;
use hallpass_core::port::{Count, StoreError};
use hallpass_core::revocation::{Likeness, Reach, Revocation};
use hallpass_core::selector::Selector;
use hallpass_core::time::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use serde::{Deserialize, Serialize};

use super::grants_at;
use crate::error::Outcome;
use crate::rows::{Columns, id_bytes, integer};
use crate::select::{Party, Select};

/// A selector, with what of it may be ended.
#[derive(Clone)]
pub(crate) struct Selection {
    pub(crate) selector: Selector,
    pub(crate) reach: Reach,
}

/// How far a walk through a selection has come: newest first, state after state where no narrower index leads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Walks that are done.
    done: usize,
    /// Behind this one of the next.
    after: Option<[i64; 2]>,
}

/// How far one part of a walk looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Examine {
    /// At so many rows of each index that it walks, selected or not.
    Rows(usize),
    /// At so many that are selected, however many rows that takes.
    Selected(usize),
}

/// What is walked through in the order of one index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    pub(crate) party: Party,
    pub(crate) states: Vec<StateName>,
}

/// A grant to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) seq: i64,
    pub(crate) id: GrantId,
    /// Where the walk goes on behind it.
    pub(crate) place: Place,
}

/// What one part of a walk has found.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub(crate) candidates: Vec<Candidate>,
    /// Where the walk goes on; none when it is done.
    pub(crate) goes_on: Option<Place>,
}

/// What a revocation can end.
const LIVE: [StateName; 2] = [StateName::Pending, StateName::Active];

/// The columns that tell what a grant is to policy, in the order in which [`read_likeness`] reads them.
const LIKENESS: &str = "g.role AS role, g.owner AS owner, g.environment AS environment, g.backend_kind AS backend_kind, \
    g.revocation_class AS revocation_class, g.target AS target, g.environment_class AS environment_class, \
    g.stage AS stage, g.tier AS tier";

/// Whether the author holds it; with the values of [`Selection::author`].
const OWN: &str = "(g.issuer = ? AND g.subject = ? AND g.run IS ? AND g.run_attempt IS ? AND g.cnf IS ?)";

impl Selection {
    pub(crate) fn of(revocation: &Revocation) -> Self {
        Self { selector: revocation.selector.clone(), reach: revocation.reach.clone() }
    }

    /// What is to be walked through.
    fn walks(&self) -> Vec<Walk> {
        let live: Vec<_> = LIVE.into_iter().filter(|state| self.selector.wants_state(*state)).collect();
        if live.is_empty() {
            return Vec::new();
        }
        let of = |party: &Party| {
            let walk = |states: &[StateName]| Walk { party: *party, states: states.to_vec() };
            if Select::is_narrow(&self.selector, *party) {
                return vec![walk(&live)];
            }
            live.chunks(1).map(walk).collect()
        };
        Party::selected_by(&self.selector).iter().flat_map(of).collect()
    }

    /// Walks on from `place`: until `limit` candidates are found, or so much was looked at as `examine` says.
    pub(crate) fn walk(
        &self,
        connection: &Connection,
        place: Place,
        limit: usize,
        examine: Examine,
    ) -> Outcome<Walked> {
        let mut found = Walked::default();
        let (mut place, mut selected) = (place, 0_usize);
        for walk in self.walks().iter().skip(place.done) {
            let end = match examine {
                Examine::Selected(_) => None,
                Examine::Rows(rows) => self.row_after(connection, walk, place.after, rows)?,
            };
            let (sql, values) = self.walk_sql(walk, place.after, end);
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query(params_from_iter(values))?;
            while let Some(row) = rows.next()? {
                let columns = &mut Columns::new(row, "grants");
                place.after = Some([columns.value("created_at")?, columns.value("seq")?]);
                let id: GrantId = columns.id("id")?;
                columns.keyed(id);
                let likeness = read_likeness(columns)?;
                if self.covers(id, &likeness, columns.value("own")?) {
                    let seq = place.after.map_or(0, |[_, seq]| seq);
                    found.candidates.push(Candidate { seq, id, place });
                }
                selected = selected.saturating_add(1);
                if found.candidates.len() >= limit || examine == Examine::Selected(selected) {
                    found.goes_on = Some(place);
                    return Ok(found);
                }
            }
            if end.is_some() {
                found.goes_on = Some(Place { after: end, ..place });
                return Ok(found);
            }
            place = Place { done: place.done.saturating_add(1), after: None };
        }
        Ok(found)
    }

    /// Where the next `rows` rows of a walk's index end; none where there are not so many.
    fn row_after(
        &self,
        connection: &Connection,
        walk: &Walk,
        after: Option<[i64; 2]>,
        rows: usize,
    ) -> Outcome<Option<[i64; 2]>> {
        let (sql, values) = self.row_after_sql(walk, after, rows);
        let mut statement = connection.prepare_cached(&sql)?;
        let found = statement.query_row(params_from_iter(values), |row| Ok([row.get(0)?, row.get(1)?]));
        Ok(found.optional()?)
    }

    /// Asks nothing of the grants' own rows: the index has it all.
    pub(crate) fn row_after_sql(&self, walk: &Walk, after: Option<[i64; 2]>, rows: usize) -> (String, Vec<Value>) {
        let mut select = Select::of(walk.party);
        select.selector(&self.selector, &walk.states);
        let mut driving = select.driving(&self.selector);
        driving.after(after);
        let last = Value::Integer(i64::try_from(rows.saturating_sub(1)).unwrap_or(i64::MAX));
        let (created_at, seq) = (driving.created_at(), driving.seq());
        let sql =
            format!("SELECT {created_at}, {seq} {} {} LIMIT 1 OFFSET ?", driving.source(), driving.newest_first());
        (sql, driving.values.into_iter().chain([last]).collect())
    }

    fn walk_sql(&self, walk: &Walk, after: Option<[i64; 2]>, end: Option<[i64; 2]>) -> (String, Vec<Value>) {
        let mut select = Select::of(walk.party);
        select.selector(&self.selector, &walk.states);
        select.after(after);
        if let Some(end) = end {
            select.down_to(end);
        }
        let (created_at, seq) = (select.created_at(), select.seq());
        let sql = format!(
            "SELECT {created_at} AS created_at, {seq} AS seq, g.id AS id, {LIKENESS}, {OWN} AS own {} {}",
            select.source(),
            select.newest_first()
        );
        (sql, self.author().into_iter().chain(select.values).collect())
    }

    /// How many of each kind and state, of what has not ended.
    pub(crate) fn count(&self, connection: &Connection) -> Outcome<Vec<Count>> {
        let mut counts: Vec<Count> = Vec::new();
        for party in Party::selected_by(&self.selector) {
            self.count_by(connection, *party, &mut counts)?;
        }
        Ok(counts)
    }

    fn count_by(&self, connection: &Connection, party: Party, counts: &mut Vec<Count>) -> Outcome<()> {
        let mut select = Select::of(party);
        select.selector(&self.selector, &[StateName::Pending, StateName::Active, StateName::Revoking]);
        let spared = self.reach.spared().map_or(Value::Null, |id| Value::Blob(id_bytes(id.as_uuid()).to_vec()));
        let sql = format!(
            "SELECT {LIKENESS}, {OWN} AS own, g.id IS ? AS spared, g.state AS state, count(*) AS grants {} \
             GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12",
            select.source()
        );
        let values = self.author().into_iter().chain([spared]).chain(select.values);
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            let Some(count) = self.read_count(row)? else { continue };
            let same = counts.iter_mut().find(|other| {
                (&other.likeness, other.state, other.would_end) == (&count.likeness, count.state, count.would_end)
            });
            match same {
                Some(other) => other.grants = other.grants.saturating_add(count.grants),
                None => counts.push(count),
            }
        }
        Ok(())
    }

    /// None of what the author may not end: it learns nothing of those.
    fn read_count(&self, row: &Row<'_>) -> Result<Option<Count>, StoreError> {
        let columns = &mut Columns::new(row, "grants");
        let likeness = read_likeness(columns)?;
        let own = columns.value("own")?;
        let spared: bool = columns.value("spared")?;
        let state = columns.parsed("state", StateName::parse)?;
        let grants = columns.natural("grants")?;
        let would_end = LIVE.contains(&state) && self.selector.wants_state(state);
        let told = self.reach.allows(&likeness, own) && !spared && (would_end || state == StateName::Revoking);
        Ok(told.then_some(Count { likeness, state, would_end, grants }))
    }

    /// The first grants to end.
    pub(crate) fn first(&self, connection: &Connection, limit: usize) -> Outcome<Vec<Grant>> {
        /// Of others' grants, no more are passed over: who may end few need not be shown them at any price.
        const EXAMINED: usize = 20_000;
        let walked = self.walk(connection, Place::default(), limit, Examine::Selected(EXAMINED))?;
        let places: Vec<i64> = walked.candidates.iter().map(|candidate| candidate.seq).collect();
        grants_at(connection, &places)
    }

    /// Those that are to be refused by verifiers of a kind of backend, and that may still be accepted.
    pub(crate) fn fenced(
        &self,
        connection: &Connection,
        backend_kind: &str,
        still_accepted: Timestamp,
    ) -> Outcome<Vec<GrantId>> {
        let mut ids = Vec::new();
        self.each(
            connection,
            |select| {
                select.with("+g.backend_kind = ?", [Value::Text(backend_kind.to_owned())]);
                let accepted = Value::Integer(still_accepted.as_millis());
                select.with("g.revocation_class = 'fenced' AND +g.expires_at > ?", [accepted]);
            },
            |id, _| ids.push(id),
        )?;
        Ok(ids)
    }

    /// Status indexes within `indexes`, added to `found`.
    pub(crate) fn status_indexes(
        &self,
        connection: &Connection,
        indexes: &Range<u64>,
        found: &mut Vec<u64>,
    ) -> Outcome<()> {
        self.each(
            connection,
            |select| {
                let within = [integer(indexes.start), integer(indexes.end)].map(Value::Integer);
                select.with("+g.status_index >= ? AND +g.status_index < ?", within);
            },
            |_, index| found.push(index),
        )
    }

    /// Everything that is live and covered, with a narrower condition; in no order.
    fn each(
        &self,
        connection: &Connection,
        narrower: impl Fn(&mut Select),
        mut take: impl FnMut(GrantId, u64),
    ) -> Outcome<()> {
        let live: Vec<_> = LIVE.into_iter().filter(|state| self.selector.wants_state(*state)).collect();
        if live.is_empty() {
            return Ok(());
        }
        for party in Party::selected_by(&self.selector) {
            let mut select = Select::of(*party);
            select.selector(&self.selector, &live);
            narrower(&mut select);
            let source = select.source();
            let sql = format!("SELECT g.id AS id, g.status_index AS status_index, {LIKENESS}, {OWN} AS own {source}");
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query(params_from_iter(self.author().into_iter().chain(select.values)))?;
            while let Some(row) = rows.next()? {
                let columns = &mut Columns::new(row, "grants");
                let id: GrantId = columns.id("id")?;
                columns.keyed(id);
                let index = columns.natural("status_index")?;
                let likeness = read_likeness(columns)?;
                if self.covers(id, &likeness, columns.value("own")?) {
                    take(id, index);
                }
            }
        }
        Ok(())
    }

    fn covers(&self, id: GrantId, likeness: &Likeness, own: bool) -> bool {
        self.reach.spared() != Some(id) && self.reach.allows(likeness, own)
    }

    /// The values of [`OWN`].
    fn author(&self) -> [Value; 5] {
        let author = self.reach.author();
        let optional = |text: &Option<String>| text.clone().map_or(Value::Null, Value::Text);
        [
            Value::Text(author.issuer.as_str().to_owned()),
            Value::Text(author.subject.clone()),
            optional(&author.run),
            optional(&author.run_attempt),
            optional(&author.binding_key.map(|key| key.to_string())),
        ]
    }
}

fn read_likeness(columns: &mut Columns<'_>) -> Result<Likeness, StoreError> {
    Ok(Likeness {
        role: columns.name("role")?,
        owner: columns.name("owner")?,
        environment: columns.optional_name("environment")?,
        backend_kind: columns.value("backend_kind")?,
        class: columns.json_word("revocation_class")?,
        target: columns.value("target")?,
        environment_class: columns.optional_json_word("environment_class")?,
        stage: columns.value("stage")?,
        tier: columns.value("tier")?,
    })
}
