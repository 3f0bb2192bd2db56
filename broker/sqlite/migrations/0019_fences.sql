-- The rule at its backend that holds a grant's credential once it is over. Each fence is rendered from its own grants alone,
-- and those that it would have to hold are counted before one more is opened.
ALTER TABLE grants ADD COLUMN fence TEXT;
UPDATE grants SET fence = json_extract(terms, '$.parameters.role_arn')
    WHERE backend_kind = 'aws' AND revocation_class = 'fenced';
CREATE INDEX grants_fence ON grants (fence, expires_at, id) WHERE fence IS NOT NULL;
