-- What policy decides over a grant by is its role as it was when it was opened: these too, and not as the bundle has them
-- now. Grants that are there take them from the decision that opened them, which has recorded them.
ALTER TABLE grants ADD COLUMN environment_class TEXT;
ALTER TABLE grants ADD COLUMN stage TEXT;
ALTER TABLE grants ADD COLUMN tier TEXT;
UPDATE grants SET (environment_class, stage, tier) = (
    SELECT inputs ->> '$.resource.environment_class', inputs ->> '$.resource.stage', inputs ->> '$.resource.tier'
    FROM decisions WHERE decisions.id = grants.decision_id
);

DELETE FROM likenesses;
INSERT INTO likenesses (likeness)
SELECT DISTINCT json_object(
    'role', role, 'owner', owner, 'environment', environment, 'backend_kind', backend_kind, 'class', revocation_class,
    'target', target, 'environment_class', environment_class, 'stage', stage, 'tier', tier
) FROM grants;

-- A revocation that runs goes on ending what it was to end; also of roles of which nothing was ever opened.
UPDATE revocations SET reach = json_set(reach, '$.rights', json((
    SELECT json_group_array(json_array(
        json(coalesce(likenesses.likeness, rights.value -> '$[0]')), json(rights.value -> '$[1]')
    ))
    FROM json_each(revocations.reach, '$.rights') AS rights LEFT JOIN likenesses
        ON likenesses.likeness ->> '$.role' IS rights.value ->> '$[0].role'
        AND likenesses.likeness ->> '$.owner' IS rights.value ->> '$[0].owner'
        AND likenesses.likeness ->> '$.environment' IS rights.value ->> '$[0].environment'
        AND likenesses.likeness ->> '$.backend_kind' IS rights.value ->> '$[0].backend_kind'
        AND likenesses.likeness ->> '$.class' IS rights.value ->> '$[0].class'
        AND likenesses.likeness ->> '$.target' IS rights.value ->> '$[0].target'
))) WHERE completed_at IS NULL;
