-- How far each destination of the audit log has come: the place of the first entry that it has not.
CREATE TABLE audit_exports (
    destination   TEXT    NOT NULL PRIMARY KEY,
    next_sequence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
