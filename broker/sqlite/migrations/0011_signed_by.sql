-- The key of the broker's own that signed a grant's credential, as a column: what a revocation selects by it is told from
-- the record alone. It was among the dependencies, where it stays for what is there.
ALTER TABLE grants ADD COLUMN signed_by TEXT;
UPDATE grants SET signed_by = d.name FROM dependencies AS d WHERE d.kind = 'key' AND d.grant_seq = grants.seq;
