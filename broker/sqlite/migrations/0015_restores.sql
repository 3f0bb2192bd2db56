-- Older copies of this database that were put back and gone on from; the last one counts. Of status indexes below
-- `next_index`, those without a grant may have been given out in what is lost. `log_size` is the length of the audit log
-- with the entry that tells of it.
CREATE TABLE restores (
    number        INTEGER PRIMARY KEY,
    restored_at   INTEGER NOT NULL,
    revocation_id BLOB,
    next_index    INTEGER NOT NULL,
    log_size      INTEGER NOT NULL
) STRICT;
