//! Hashes of the tree's subtrees, each from the tiles and entries that it takes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use hallpass_core::audit::tree::{Node, TreeHash};
use hallpass_core::id::LogId;
use hallpass_core::port::StoreError;
use rusqlite::{Connection, Row, params};

use crate::error::{Failure, Outcome};
use crate::rows::{Columns, integer};

/// Reads subtrees within one transaction. A tile that was read is kept: a proof asks for its parts one after the other.
pub(super) struct Nodes<'a> {
    connection: &'a Connection,
    log: LogId,
    read: BTreeMap<Node, Vec<TreeHash>>,
}

impl<'a> Nodes<'a> {
    pub(super) const fn new(connection: &'a Connection, log: LogId) -> Self {
        Self { connection, log, read: BTreeMap::new() }
    }

    /// The root of a subtree all of whose leaves are there.
    pub(super) fn hash(&mut self, node: Node) -> Outcome<TreeHash> {
        // The row of hashes at the next lower tile's height, and of these the ones that are below the node.
        let base = node.height.saturating_sub(node.height % Node::TILE_HEIGHT);
        let above = node.height.saturating_sub(base);
        let first = node.index << above;
        let tile = Node { height: base.saturating_add(Node::TILE_HEIGHT), index: first / Node::TILE_WIDTH };
        let start = first % Node::TILE_WIDTH;
        let row = match self.read.entry(tile) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(row_below(self.connection, self.log, tile)?),
        };
        perfect(row, Node { height: above, index: start >> above }).ok_or_else(|| missing(base, first))
    }
}

/// The root over `1 << node.height` hashes of a row.
fn perfect(row: &[TreeHash], node: Node) -> Option<TreeHash> {
    let start = usize::try_from(node.index << node.height).ok()?;
    let mut hashes = row.get(start..start.checked_add(1 << node.height)?)?.to_vec();
    while hashes.len() > 1 {
        hashes =
            hashes.chunks_exact(2).filter_map(|pair| Some(TreeHash::above(*pair.first()?, *pair.last()?))).collect();
    }
    hashes.first().copied()
}

fn missing(height: u8, index: u64) -> Failure {
    let (table, column) = if height == 0 { ("audit_entries", "sequence") } else { ("audit_tiles", "tile") };
    let problem = "it is not there, and what comes after it is".to_owned();
    StoreError::Inconsistent { table, column, row: index.to_string(), problem }.into()
}

/// The up to 256 hashes below a tile: of entries, or of the tiles one level lower.
fn row_below(connection: &Connection, log: LogId, tile: Node) -> Outcome<Vec<TreeHash>> {
    let first = tile.index.saturating_mul(Node::TILE_WIDTH);
    if tile.height == Node::TILE_HEIGHT {
        let limit = usize::try_from(Node::TILE_WIDTH).unwrap_or(usize::MAX);
        let leaves = super::leaves(connection, log, first, limit)?;
        let in_place = leaves.iter().zip(first..).take_while(|(leaf, place)| leaf.sequence() == *place);
        return Ok(in_place.map(|(leaf, _)| leaf.hash()).collect());
    }
    let level = (tile.height / Node::TILE_HEIGHT).saturating_sub(1);
    let sql = "SELECT level, tile, hash FROM audit_tiles WHERE level = ?1 AND tile >= ?2 AND tile < ?3 ORDER BY tile";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![level, integer(first), integer(first.saturating_add(Node::TILE_WIDTH))])?;
    let mut hashes = Vec::new();
    let mut place = first;
    while let Some(row) = rows.next()? {
        let (node, hash) = read_tile(row)?;
        if node.index != place {
            break;
        }
        place = place.saturating_add(1);
        hashes.push(hash);
    }
    Ok(hashes)
}

/// All tiles.
pub(super) fn tiles(connection: &Connection) -> Outcome<BTreeMap<Node, TreeHash>> {
    let mut statement = connection.prepare_cached("SELECT level, tile, hash FROM audit_tiles")?;
    let mut rows = statement.query([])?;
    let mut tiles = BTreeMap::new();
    while let Some(row) = rows.next()? {
        tiles.extend([read_tile(row)?]);
    }
    Ok(tiles)
}

fn read_tile(row: &Row<'_>) -> Result<(Node, TreeHash), StoreError> {
    let columns = &mut Columns::new(row, "audit_tiles");
    let level: u8 = columns.natural("level")?;
    let index: u64 = columns.natural("tile")?;
    columns.keyed(format!("{level}, {index}"));
    let hash: [u8; TreeHash::LENGTH] = columns.value("hash")?;
    Ok((Node { height: level.saturating_mul(Node::TILE_HEIGHT), index }, hash.into()))
}
