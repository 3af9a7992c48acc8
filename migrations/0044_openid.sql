-- What ID tokens state about the sign-in that a chain of refresh tokens came of: when it was, and the
-- id of its session, which may have ended since. Null for tokens that an earlier version issued.
alter table oauth_refresh_tokens
    add column auth_time timestamptz,
    add column sid       uuid,
    add constraint oauth_refresh_tokens_sid_check check ((auth_time is null) = (sid is null));
