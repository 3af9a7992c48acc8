-- no-transaction
-- Whether tokens came of a code: only then does a second use mean that two parties have it. Null in a
-- row of an earlier version, which did not record it.
alter table oauth_codes add column if not exists has_tokens boolean;
