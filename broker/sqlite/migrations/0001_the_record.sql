-- The record. Names are those of the domain; columns that nothing fills yet are null until something does.
-- Times are milliseconds since the Unix epoch, ids are the 16 bytes of a UUID, lists and structures are JSON.

CREATE TABLE store_state (
    only_row         INTEGER PRIMARY KEY CHECK (only_row = 1),
    log_id           BLOB    NOT NULL,
    epoch            INTEGER NOT NULL,
    clock_high_water INTEGER NOT NULL
) STRICT;

-- What a readiness check writes: as much as a grant takes, so that it fails when a grant would.
CREATE TABLE write_probe (
    id      INTEGER PRIMARY KEY,
    content BLOB NOT NULL
) STRICT;

CREATE TABLE decisions (
    seq                  INTEGER PRIMARY KEY,
    id                   BLOB    NOT NULL UNIQUE,
    decided_at           INTEGER NOT NULL,
    revision             TEXT    NOT NULL,
    schema_version       INTEGER NOT NULL,
    action               TEXT    NOT NULL,
    inputs               TEXT    NOT NULL,
    outcome              TEXT    NOT NULL,
    determining_policies TEXT    NOT NULL,
    obligations          TEXT    NOT NULL,
    facts                TEXT
) STRICT;

CREATE TABLE grants (
    seq                     INTEGER PRIMARY KEY,
    id                      BLOB    NOT NULL UNIQUE,
    version                 INTEGER NOT NULL,
    -- The life. Which of these are set is decided by `state`.
    state                   TEXT    NOT NULL,
    deadline                INTEGER,
    activated_at            INTEGER,
    cause                   TEXT,
    ending_actor            TEXT,
    ending_reason           TEXT,
    ending_at               INTEGER,
    fenced_at               INTEGER,
    attempts                INTEGER,
    retry_at                INTEGER,
    last_error              TEXT,
    confirmed_at            INTEGER,
    ended_at                INTEGER,
    end_at                  INTEGER NOT NULL,
    expires_at              INTEGER NOT NULL,
    max_expires_at          INTEGER NOT NULL,
    last_seen_at            INTEGER,
    credential_fingerprint  TEXT,
    -- What drives it: a worker's next step, or the instant at which it is over by itself.
    due_at                  INTEGER,
    over_at                 INTEGER,
    reservation             BLOB,
    reserved_until          INTEGER,
    -- What was asked for.
    created_at              INTEGER NOT NULL,
    role                    TEXT    NOT NULL,
    role_digest             TEXT    NOT NULL,
    backend                 TEXT    NOT NULL,
    backend_kind            TEXT    NOT NULL,
    target                  TEXT,
    environment             TEXT,
    owner                   TEXT    NOT NULL,
    owner_snapshot          TEXT    NOT NULL,
    purpose                 TEXT    NOT NULL,
    ticket                  TEXT,
    task                    TEXT,
    -- Who holds it.
    principal               TEXT    NOT NULL,
    issuer                  TEXT    NOT NULL,
    issuer_kind             TEXT    NOT NULL,
    subject                 TEXT    NOT NULL,
    attributes              TEXT    NOT NULL,
    proof_id                TEXT,
    proof_key_id            TEXT,
    cnf                     TEXT,
    source_address          TEXT,
    -- From which change.
    repository              TEXT,
    repository_id           TEXT,
    repository_owner_id     TEXT,
    "ref"                   TEXT,
    ref_protected           INTEGER,
    "commit"                TEXT,
    workflow                TEXT,
    workflow_ref            TEXT,
    run                     TEXT,
    run_attempt             TEXT,
    job                     TEXT,
    actor                   TEXT,
    actor_id                TEXT,
    event                   TEXT,
    pull_request            TEXT,
    provenance_environment  TEXT,
    runner                  TEXT,
    attestation_digests     TEXT,
    -- By which rule, and for how long.
    decision_id             BLOB    NOT NULL REFERENCES decisions (id),
    policy_revision         TEXT    NOT NULL,
    determining_policies    TEXT    NOT NULL,
    obligations             TEXT    NOT NULL,
    revocation_class        TEXT    NOT NULL,
    terms                   TEXT    NOT NULL,
    evaluated_revision      TEXT    NOT NULL,
    evaluated_at            INTEGER NOT NULL,
    access_request_id       BLOB,
    exception_id            BLOB,
    -- How it is undone: sealed for ('grants', id, 'handle').
    handle                  BLOB    NOT NULL,
    status_index            INTEGER NOT NULL UNIQUE,
    -- How it relates to others.
    lineage_id              BLOB,
    replaces                BLOB,
    parent_id               BLOB,
    root_id                 BLOB,
    depth                   INTEGER NOT NULL DEFAULT 0,
    actor_chain             TEXT,
    ends_when               TEXT
) STRICT;

-- The two queues hold live grants only, and most grants are in one of them.
CREATE INDEX grants_due ON grants (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX grants_over ON grants (over_at) WHERE over_at IS NOT NULL;
CREATE INDEX grants_reservation ON grants (reservation) WHERE reservation IS NOT NULL;
CREATE INDEX grants_fenced ON grants (backend_kind, expires_at) WHERE fenced_at IS NOT NULL;
-- One for each filter, newest first by itself.
CREATE INDEX grants_created ON grants (created_at);
CREATE INDEX grants_state ON grants (state, created_at);
CREATE INDEX grants_owner ON grants (owner, created_at);
CREATE INDEX grants_role ON grants (role, created_at);
CREATE INDEX grants_issuer ON grants (issuer, created_at);
CREATE INDEX grants_subject ON grants (subject, created_at);
CREATE INDEX grants_backend ON grants (backend, created_at);
CREATE INDEX grants_purpose ON grants (purpose, created_at);
CREATE INDEX grants_repository ON grants (repository, created_at) WHERE repository IS NOT NULL;
CREATE INDEX grants_repository_id ON grants (repository_id, created_at) WHERE repository_id IS NOT NULL;
CREATE INDEX grants_commit ON grants ("commit", created_at) WHERE "commit" IS NOT NULL;
CREATE INDEX grants_run ON grants (run, created_at) WHERE run IS NOT NULL;
CREATE INDEX grants_environment ON grants (environment, created_at) WHERE environment IS NOT NULL;
CREATE INDEX grants_ticket ON grants (ticket, created_at) WHERE ticket IS NOT NULL;

-- What decided a grant and is not a column of it: policies, groups, attestations, facts. Role, owner, issuer and key are
-- columns.
CREATE TABLE dependencies (
    kind       TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    grant_seq  INTEGER NOT NULL REFERENCES grants (seq),
    PRIMARY KEY (kind, name, created_at, grant_seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE proof_uses (
    issuer            TEXT    NOT NULL,
    proof_id          TEXT    NOT NULL,
    idempotency_scope BLOB,
    keep_until        INTEGER NOT NULL,
    PRIMARY KEY (issuer, proof_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX proof_uses_horizon ON proof_uses (keep_until);

CREATE TABLE idempotency (
    scope          BLOB    NOT NULL PRIMARY KEY,
    request_digest BLOB    NOT NULL,
    grant_id       BLOB    NOT NULL,
    repeats        INTEGER NOT NULL,
    keep_until     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_horizon ON idempotency (keep_until);

CREATE TABLE lineages (
    issuer     TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    role       TEXT    NOT NULL,
    id         BLOB    NOT NULL,
    started_at INTEGER NOT NULL,
    held_until INTEGER NOT NULL,
    PRIMARY KEY (issuer, subject, role)
) STRICT, WITHOUT ROWID;

-- This store's one log (its id is in store_state). `entry` is the canonical JSON; the columns repeat parts of it for
-- queries.
CREATE TABLE audit_entries (
    sequence       INTEGER PRIMARY KEY,
    time           INTEGER NOT NULL,
    action         TEXT    NOT NULL,
    outcome        TEXT    NOT NULL,
    reason         TEXT,
    decision_id    BLOB,
    request_id     BLOB,
    correlation_id TEXT,
    grant_id       BLOB,
    entry          BLOB    NOT NULL
) STRICT;
CREATE INDEX audit_entries_request ON audit_entries (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX audit_entries_grant ON audit_entries (grant_id) WHERE grant_id IS NOT NULL;

-- The grants of those entries that are about several.
CREATE TABLE audit_grants (
    grant_id BLOB    NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (grant_id, sequence)
) STRICT, WITHOUT ROWID;

-- Events for others, in a stable order. Nothing fills it yet.
CREATE TABLE outbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    time     INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    grant_id BLOB,
    event    TEXT    NOT NULL
) STRICT;

CREATE TABLE signing_keys (
    id          BLOB    NOT NULL PRIMARY KEY,
    purpose     TEXT    NOT NULL,
    algorithm   TEXT    NOT NULL,
    private_key BLOB    NOT NULL,
    public      TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    retires_at  INTEGER
) STRICT;

-- One row for each publication; the last is in force. A revision that is published again has two.
CREATE TABLE bundle_revisions (
    seq          INTEGER PRIMARY KEY,
    id           TEXT    NOT NULL,
    published_at INTEGER NOT NULL,
    author       TEXT,
    approvers    TEXT,
    parent       TEXT,
    "commit"     TEXT
) STRICT;

-- The governed things as later capabilities will keep them. Bundles bring them today; nothing fills these yet.
CREATE TABLE owners (
    name        TEXT    NOT NULL PRIMARY KEY,
    contacts    TEXT    NOT NULL,
    members     TEXT    NOT NULL,
    successor   TEXT,
    active      INTEGER NOT NULL,
    verified_at INTEGER
) STRICT;

CREATE TABLE roles (
    name            TEXT NOT NULL PRIMARY KEY,
    role_digest     TEXT NOT NULL,
    owner           TEXT NOT NULL,
    state           TEXT NOT NULL,
    review_at       INTEGER,
    recertified_at  INTEGER,
    stage           TEXT,
    tier            TEXT
) STRICT;

CREATE TABLE environments (
    name    TEXT NOT NULL PRIMARY KEY,
    class   TEXT NOT NULL,
    ends_at INTEGER
) STRICT;

CREATE TABLE links (
    issuer  TEXT NOT NULL,
    subject TEXT NOT NULL,
    person  TEXT NOT NULL,
    PRIMARY KEY (issuer, subject)
) STRICT;
