-- What is derived from a grant, at any depth: counted before more is.
CREATE INDEX grants_root ON grants (root_id, state) WHERE root_id IS NOT NULL;
