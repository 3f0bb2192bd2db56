-- Commands over sets of grants: revocations and quarantines.

-- A revocation holds from the commit of its row. Its grants follow in chunks: `place` is how far that has come.
CREATE TABLE revocations (
    seq               INTEGER PRIMARY KEY,
    id                BLOB    NOT NULL UNIQUE,
    selector          TEXT    NOT NULL,
    reach             TEXT    NOT NULL,
    author            TEXT    NOT NULL,
    reason            TEXT    NOT NULL,
    quarantine_id     BLOB,
    created_at        INTEGER NOT NULL,
    completed_at      INTEGER,
    grants_digest     BLOB,
    selected          INTEGER,
    place             TEXT,
    idempotency_scope BLOB UNIQUE,
    request_digest    BLOB
) STRICT;
CREATE INDEX revocations_running ON revocations (seq) WHERE completed_at IS NULL;
CREATE INDEX revocations_author ON revocations (author, seq);

CREATE TABLE quarantines (
    seq        INTEGER PRIMARY KEY,
    id         BLOB    NOT NULL UNIQUE,
    selector   TEXT    NOT NULL,
    roles      TEXT    NOT NULL,
    author     TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    until      INTEGER NOT NULL,
    lifted_at  INTEGER,
    lifted_by  TEXT
) STRICT;
CREATE INDEX quarantines_in_force ON quarantines (seq) WHERE lifted_at IS NULL;
CREATE INDEX quarantines_author ON quarantines (author, seq);

-- The revocation that ended a grant. Its index counts them by how they are, and lists their ids, without their rows.
ALTER TABLE grants ADD COLUMN revocation_seq INTEGER REFERENCES revocations (seq);
CREATE INDEX grants_revocation ON grants (revocation_seq, state, fenced_at, id) WHERE revocation_seq IS NOT NULL;
CREATE INDEX grants_parent ON grants (parent_id, created_at) WHERE parent_id IS NOT NULL;

-- What policy can tell grants apart by, each once: who may end which is decided by these.
CREATE TABLE likenesses (
    likeness TEXT NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
INSERT INTO likenesses (likeness)
SELECT DISTINCT json_object(
    'role', role, 'owner', owner, 'environment', environment, 'backend_kind', backend_kind, 'class', revocation_class,
    'target', target
) FROM grants;
