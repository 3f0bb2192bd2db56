-- What was signed about the change or the build behind a grant, as it was verified when it was opened.
ALTER TABLE grants ADD COLUMN attested TEXT;
