-- Since when silence counts, where that is later than the last sign of life: a broker that was down heard nobody.
ALTER TABLE grants ADD COLUMN heartbeats_from INTEGER;
-- The grants that wait for signs of life; a start asks for all of them.
CREATE INDEX grants_beating ON grants (end_at) WHERE state = 'active' AND last_seen_at IS NOT NULL;
