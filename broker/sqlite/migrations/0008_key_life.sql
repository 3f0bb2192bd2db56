-- The life of a signing key: published when it is made, signing from `activates_at` until the next one does, and nothing
-- at all once it is distrusted. `key_id` is the `kid` by which the world knows it.
ALTER TABLE signing_keys ADD COLUMN key_id TEXT NOT NULL DEFAULT '';
ALTER TABLE signing_keys ADD COLUMN activates_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE signing_keys ADD COLUMN distrusted_at INTEGER;
UPDATE signing_keys SET activates_at = created_at;
