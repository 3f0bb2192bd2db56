//! The audit log's tree as the database has it.
//!
//! The writer keeps the tree's frontier in memory and appends to it in the transaction of the entry (`transaction`); of the
//! tree itself only the roots of complete tiles are rows, one for 256 entries. Everything else is computed again from
//! those and from the entries, which are what is true.

mod exports;
mod kept;
mod nodes;
mod publications;
mod reader;

pub use reader::LogReader;

use async_trait::async_trait;
use hallpass_core::audit::proof::{ConsistencyProof, InclusionProof};
use hallpass_core::audit::tree::{Frontier, Node, TreeHash, TreeHead, root_of};
use hallpass_core::audit::{Leaf, SignedCheckpoint};
use hallpass_core::id::LogId;
use hallpass_core::port::{AuditLog, KeptCheckpoint, StoreError};
use hallpass_core::time::Timestamp;
use rusqlite::{Connection, params};

use crate::SqliteStore;
use crate::error::Outcome;
use crate::rows::{audit, integer};

use self::nodes::Nodes;

/// Leaves that one call reads at most.
const MAX_LEAVES: usize = 1_000;

#[async_trait]
impl AuditLog for SqliteStore {
    fn log_id(&self) -> LogId {
        self.log
    }

    fn tree_head(&self) -> TreeHead {
        self.writer.tree_head()
    }

    fn log_size(&self) -> u64 {
        self.writer.log_size()
    }

    async fn root_at(&self, wanted: u64) -> Result<Option<TreeHash>, StoreError> {
        let log = self.log;
        self.readers
            .read(move |connection| {
                if wanted > size(connection)? {
                    return Ok(None);
                }
                let mut nodes = Nodes::new(connection, log);
                root_of(0..wanted, &mut |node| nodes.hash(node)).map(Some)
            })
            .await
    }

    async fn leaves(&self, from: u64, limit: usize) -> Result<Vec<Leaf>, StoreError> {
        let log = self.log;
        self.readers.read(move |connection| leaves(connection, log, from, limit.min(MAX_LEAVES))).await
    }

    async fn inclusion(&self, sequence: u64, wanted: u64) -> Result<Option<(InclusionProof, TreeHash)>, StoreError> {
        let log = self.log;
        self.readers
            .read(move |connection| {
                if wanted > size(connection)? {
                    return Ok(None);
                }
                let mut nodes = Nodes::new(connection, log);
                let mut hash = |node: Node| nodes.hash(node);
                let Some(proof) = InclusionProof::make(sequence, wanted, &mut hash)? else { return Ok(None) };
                Ok(Some((proof, root_of(0..wanted, &mut hash)?)))
            })
            .await
    }

    async fn consistency(&self, from: u64, wanted: u64) -> Result<Option<ConsistencyProof>, StoreError> {
        let log = self.log;
        self.readers
            .read(move |connection| {
                if wanted > size(connection)? {
                    return Ok(None);
                }
                let mut nodes = Nodes::new(connection, log);
                ConsistencyProof::make(from, wanted, &mut |node| nodes.hash(node))
            })
            .await
    }

    async fn keep_checkpoint(
        &self,
        checkpoint: SignedCheckpoint,
        at: Timestamp,
        anchored: bool,
    ) -> Result<(), StoreError> {
        self.writer.run(move |transaction| kept::keep(transaction, &checkpoint, at, anchored)).await
    }

    async fn newest_checkpoint(&self) -> Result<Option<KeptCheckpoint>, StoreError> {
        self.readers.read(kept::newest).await
    }

    async fn exported(&self, destination: &str) -> Result<u64, StoreError> {
        let destination = destination.to_owned();
        self.readers.read(move |connection| exports::exported(connection, &destination)).await
    }

    async fn advance_export(&self, destination: &str, next: u64) -> Result<(), StoreError> {
        let destination = destination.to_owned();
        self.writer.run(move |transaction| exports::advance(transaction, &destination, next)).await
    }
}

/// How many entries there are.
pub(crate) fn size(connection: &Connection) -> Outcome<u64> {
    let sql = "SELECT coalesce(max(sequence) + 1, 0) FROM audit_entries";
    let size: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(u64::try_from(size).unwrap_or(0))
}

/// The frontier behind the last entry.
pub(crate) fn frontier(connection: &Connection, log: LogId) -> Outcome<Frontier> {
    let mut nodes = Nodes::new(connection, log);
    Frontier::load(size(connection)?, &mut |node| nodes.hash(node))
}

pub(crate) fn insert_tile(connection: &Connection, node: Node, hash: TreeHash) -> Outcome<()> {
    let sql = "INSERT INTO audit_tiles (level, tile, hash) VALUES (?1, ?2, ?3)";
    let level = node.height / Node::TILE_HEIGHT;
    let values = params![level, integer(node.index), hash.as_bytes()];
    Ok(connection.prepare_cached(sql)?.execute(values).map(|_| ())?)
}

/// Makes the tiles of a log that has none, as one of the first schema, or too few. Blocks; reads the whole log if so.
pub(crate) fn complete_tiles(connection: &mut Connection, log: LogId) -> Outcome<()> {
    let size = size(connection)?;
    let sql = "SELECT coalesce(max(tile) + 1, 0), count(*) FROM audit_tiles WHERE level = ?1";
    for level in 1..(64 / Node::TILE_HEIGHT) {
        let (next, count): (i64, i64) = connection.query_row(sql, [level], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let complete = integer(size >> level.saturating_mul(Node::TILE_HEIGHT));
        if (next, count) != (complete, complete) {
            return make_tiles(connection, log);
        }
    }
    Ok(())
}

fn make_tiles(connection: &mut Connection, log: LogId) -> Outcome<()> {
    let transaction = connection.transaction()?;
    transaction.execute("DELETE FROM audit_tiles", [])?;
    let mut frontier = Frontier::default();
    walk(&transaction, log, 0, &mut |leaf| {
        let tiles = frontier.push(leaf.hash());
        tiles.into_iter().try_for_each(|(node, hash)| insert_tile(&transaction, node, hash))
    })?;
    Ok(transaction.commit()?)
}

/// What is wrong with the log: gaps, tiles and kept checkpoints that do not follow from its entries. Reads all of it.
pub(crate) fn problems(connection: &Connection, log: LogId) -> Outcome<Vec<String>> {
    let mut problems = Vec::new();
    let mut checkpoints = kept::heads(connection)?.into_iter().peekable();
    let mut tiles = nodes::tiles(connection)?;
    let mut frontier = Frontier::default();
    let mut compare = |frontier: &Frontier, problems: &mut Vec<String>| {
        if let Some(kept) = checkpoints.next_if(|kept| kept.size == frontier.size())
            && kept != frontier.head()
        {
            problems.push(format!("the audit log is not what was signed when it had {} entries", kept.size));
        }
    };
    compare(&frontier, &mut problems);
    walk(connection, log, 0, &mut |leaf| {
        for (node, hash) in frontier.push(leaf.hash()) {
            if tiles.remove(&node) != Some(hash) {
                let (from, until) = (node.index << node.height, node.index.saturating_add(1) << node.height);
                problems.push(format!("the tile of the audit entries from {from} to before {until} is not theirs"));
            }
        }
        compare(&frontier, &mut problems);
        Ok(())
    })?;
    let (entries, next) = (frontier.size(), size(connection)?);
    if entries != next {
        problems.push(format!("entry {entries} of the audit log is not there, and entries behind it are"));
    }
    problems.extend(tiles.keys().map(|node| format!("there is a tile for audit entries that are not there: {node:?}")));
    problems
        .extend(checkpoints.map(|kept| format!("a log of {} entries was signed, and now it is shorter", kept.size)));
    Ok(problems)
}

/// Visits all leaves from the place `from` on. A gap ends the walk.
fn walk(connection: &Connection, log: LogId, from: u64, visit: &mut impl FnMut(Leaf) -> Outcome<()>) -> Outcome<()> {
    let mut statement = connection
        .prepare_cached("SELECT sequence, entry FROM audit_entries WHERE sequence >= ?1 ORDER BY sequence")?;
    let mut rows = statement.query([integer(from)])?;
    let mut next = from;
    while let Some(row) = rows.next()? {
        let leaf = audit::read_leaf(row, log)?;
        if leaf.sequence() != next {
            break;
        }
        next = next.saturating_add(1);
        visit(leaf)?;
    }
    Ok(())
}

fn leaves(connection: &Connection, log: LogId, from: u64, limit: usize) -> Outcome<Vec<Leaf>> {
    let sql = "SELECT sequence, entry FROM audit_entries WHERE sequence >= ?1 ORDER BY sequence LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![integer(from), i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut leaves = Vec::new();
    while let Some(row) = rows.next()? {
        leaves.push(audit::read_leaf(row, log)?);
    }
    Ok(leaves)
}
