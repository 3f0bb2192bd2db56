-- Ends that were asked for and that nobody has confirmed yet: how long the oldest has waited is looked at all the time.
CREATE INDEX grants_unconfirmed ON grants (ending_at) WHERE state = 'revoking' AND due_at IS NOT NULL;
