-- The key that seals what is sealed here, itself wrapped by a key-encryption key that is elsewhere. Of several the newest
-- seals; the others are still named by values that they sealed.
CREATE TABLE data_keys (
    id         BLOB    PRIMARY KEY NOT NULL,
    kek        TEXT    NOT NULL,
    version    TEXT    NOT NULL,
    wrapped    BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    wrapped_at INTEGER NOT NULL
) STRICT;
