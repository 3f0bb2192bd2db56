-- Which entry tells of the last publication is looked at when the broker starts. An entry about anything else is in no index
-- more.
CREATE INDEX audit_entries_publications ON audit_entries (sequence)
    WHERE action = 'configuration.publish' AND outcome = 'success';
