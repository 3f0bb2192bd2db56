-- What backends prepared ahead of any grant. A row whose grant_id is set was taken by that grant; it is kept for as long as
-- the backend may know the spare, so that what is found there is told from what nobody knows.
CREATE TABLE spares (
    id          BLOB    NOT NULL PRIMARY KEY,
    backend     TEXT    NOT NULL,
    role        TEXT    NOT NULL,
    role_digest TEXT    NOT NULL,
    handle      BLOB    NOT NULL,
    expires_at  INTEGER NOT NULL,
    grant_id    BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX spares_over ON spares (expires_at);

-- Each backend's due grants are asked for apart, so that one that does not answer keeps no other from its own.
CREATE INDEX grants_due_at ON grants (backend, due_at) WHERE due_at IS NOT NULL;
