-- no-transaction
-- When the owners of an organization were last mailed about a first grant to an app.
alter table organizations add column if not exists app_notice_at timestamptz;

alter table outbox
    drop constraint if exists outbox_kind_check,
    add constraint outbox_kind_check check (
        kind in ('verify_email', 'reset_password', 'already_registered', 'invite', 'claim_key',
                 'new_sign_in', 'password_changed', 'token_created', 'security_mails_off',
                 'checkout_unfulfilled', 'leak_report', 'key_leaked', 'app_granted')
        and (kind = 'invite') = (invite_id is not null)
        and (kind = 'claim_key') = (claim_of is not null)
        and (kind in ('leak_report', 'key_leaked', 'app_granted')) = (payload is not null))
        not valid;
alter table outbox validate constraint outbox_kind_check;

-- The session in which the consent page of a request was last shown: only that one may answer it.
alter table oauth_requests add column if not exists shown_in uuid;

-- Whether tokens came of a code: only then does a second use mean that two parties have it. Null in a
-- row of an earlier version, which did not record it.
alter table oauth_codes add column if not exists has_tokens boolean;
