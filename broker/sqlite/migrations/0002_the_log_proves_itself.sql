-- The tree over the audit log: the roots of its complete tiles. Level 1 has one for 256 entries, level 2 one for 256 tiles
-- of level 1, and so on. What is above and beside them follows from these and from the last entries.
CREATE TABLE audit_tiles (
    level INTEGER NOT NULL,
    tile  INTEGER NOT NULL,
    hash  BLOB    NOT NULL,
    PRIMARY KEY (level, tile)
) STRICT, WITHOUT ROWID;

-- What was signed of it: all of the last day, and of each day before it the first.
CREATE TABLE audit_checkpoints (
    size         INTEGER PRIMARY KEY,
    root         BLOB    NOT NULL,
    note         TEXT    NOT NULL,
    signed_at    INTEGER NOT NULL,
    first_of_day INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_checkpoints_passing ON audit_checkpoints (signed_at) WHERE first_of_day = 0;
