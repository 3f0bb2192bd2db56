-- The content of bundle revisions. Texts that several revisions share are kept once.

CREATE TABLE bundle_texts (
    seq    INTEGER PRIMARY KEY,
    digest BLOB    NOT NULL UNIQUE,  -- SHA-256 of the text
    text   TEXT    NOT NULL
) STRICT;

CREATE TABLE bundle_files (
    revision TEXT    NOT NULL,
    path     TEXT    NOT NULL,
    text_seq INTEGER NOT NULL REFERENCES bundle_texts (seq),
    PRIMARY KEY (revision, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX bundle_files_text ON bundle_files (text_seq);

ALTER TABLE bundle_revisions ADD COLUMN occasion TEXT;
ALTER TABLE bundle_revisions ADD COLUMN decision_id BLOB;
CREATE INDEX bundle_revisions_id ON bundle_revisions (id);
