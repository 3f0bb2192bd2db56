-- Whoever acts is found by what it is and runs, as whoever it acts for is.
INSERT INTO dependencies (kind, name, created_at, grant_seq)
    SELECT what.kind, acting.value ->> what.path, g.created_at, g.seq
    FROM dependencies AS d CROSS JOIN grants AS g ON g.seq = d.grant_seq, json_each(g.actor_chain) AS acting, (
        SELECT 'acting_issuer' AS kind, '$.issuer' AS path
        UNION ALL SELECT 'acting_subject', '$.subject'
        UNION ALL SELECT 'acting_repository', '$.provenance.repository'
        UNION ALL SELECT 'acting_repository_id', '$.provenance.repository_id'
        UNION ALL SELECT 'acting_commit', '$.provenance.commit'
        UNION ALL SELECT 'acting_run', '$.provenance.run'
    ) AS what
    WHERE d.kind = 'actor' AND acting.value ->> what.path IS NOT NULL
    ON CONFLICT DO NOTHING;
-- A status list looks for what is derived from something that is being revoked: among what lives.
CREATE INDEX grants_derived ON grants (status_index) WHERE root_id IS NOT NULL AND state IN ('pending', 'active');
