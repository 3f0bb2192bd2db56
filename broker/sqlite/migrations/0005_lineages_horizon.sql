-- Lineages that paused for long enough are over, and are removed.
CREATE INDEX lineages_horizon ON lineages (held_until);
