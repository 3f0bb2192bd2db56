-- Whether a file beside the database was configured when a checkpoint was signed, for whoever finds none later: 1, 0, or
-- null where that was not recorded.
ALTER TABLE audit_checkpoints ADD COLUMN anchored INTEGER;
