-- What status lists are read from, without the grants themselves: small, because most grants end with their credential.
CREATE INDEX grants_ended_early ON grants (status_index, fenced_at, state)
    WHERE fenced_at IS NOT NULL OR state IN ('revoking', 'abandoned');
