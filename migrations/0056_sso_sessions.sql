-- no-transaction
-- A session that single sign-on began: the organization that it acts in alone, the connection, and its
-- latest end. Null for other sessions.
alter table sessions
    add column if not exists pinned_to     uuid,
    add column if not exists connection_id uuid,
    add column if not exists ends_at       timestamptz;
create index concurrently if not exists sessions_connection_id_idx
    on sessions (connection_id) where connection_id is not null;

-- Where a role comes from: `sso` for one that a connection gave, which it may change. Null for one that
-- a member gave.
alter table users add column if not exists role_source text;
alter table users
    drop constraint if exists users_role_source_check,
    add constraint users_role_source_check check (role_source in ('sso')) not valid;
alter table users validate constraint users_role_source_check;

-- Mails to the owners of an organization about a verified domain: its record is absent; it is lost.
alter table outbox
    drop constraint if exists outbox_kind_check,
    add constraint outbox_kind_check check (
        kind in ('verify_email', 'reset_password', 'already_registered', 'invite', 'claim_key',
                 'new_sign_in', 'password_changed', 'token_created', 'security_mails_off',
                 'checkout_unfulfilled', 'leak_report', 'key_leaked', 'app_granted',
                 'domain_absent', 'domain_lost')
        and (kind = 'invite') = (invite_id is not null)
        and (kind = 'claim_key') = (claim_of is not null)
        and (kind in ('leak_report', 'key_leaked', 'app_granted', 'domain_absent', 'domain_lost'))
            = (payload is not null))
        not valid;
alter table outbox validate constraint outbox_kind_check;
