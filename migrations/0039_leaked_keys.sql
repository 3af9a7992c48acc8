-- no-transaction
-- What is done with a key that was reported as leaked: its owners are told of it (`notify`), and it is
-- disabled or revoked, too.
alter table organizations
    add column if not exists leak_policy text not null default 'disable';
alter table organizations
    drop constraint if exists organizations_leak_policy_check,
    add constraint organizations_leak_policy_check
        check (leak_policy in ('notify', 'disable', 'revoke')) not valid;
alter table organizations validate constraint organizations_leak_policy_check;

-- When a key was first reported. Set once: whatever is reported of it later changes nothing.
alter table api_keys add column if not exists leaked_at timestamptz;
alter table personal_tokens add column if not exists leaked_at timestamptz;

-- What a job needs to know beside its address: a report, or what the mail about it says. No text of
-- a key. A server of the version before leaves such jobs to one of this version.
alter table outbox add column if not exists payload jsonb;
alter table outbox
    drop constraint if exists outbox_kind_check,
    add constraint outbox_kind_check check (
        kind in ('verify_email', 'reset_password', 'already_registered', 'invite', 'claim_key',
                 'new_sign_in', 'password_changed', 'token_created', 'security_mails_off',
                 'checkout_unfulfilled', 'leak_report', 'key_leaked')
        and (kind = 'invite') = (invite_id is not null)
        and (kind = 'claim_key') = (claim_of is not null)
        and (kind in ('leak_report', 'key_leaked')) = (payload is not null)) not valid;
alter table outbox validate constraint outbox_kind_check;
