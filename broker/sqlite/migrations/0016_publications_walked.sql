-- How far the log was walked for the entries that tell of publications, and which was the newest then: sealed, so that
-- nobody else can say so. Where it is gone, or of another log, all of the log is walked.
CREATE TABLE publications_walked (
    id     INTEGER PRIMARY KEY CHECK (id = 0),
    walked BLOB    NOT NULL
) STRICT;

-- Which entries those are is not asked of the columns any more: they only repeat what the entry says, and whoever can write
-- the database can have them say something else.
DROP INDEX audit_entries_publications;
