-- Whether an account's person is mailed of a sign-in from a new place, another password and a new
-- personal token. A server of the version before leaves both as they are.
alter table accounts add column security_mails boolean not null default true;

alter table outbox
    drop constraint outbox_kind_check,
    add constraint outbox_kind_check check (
        kind in ('verify_email', 'reset_password', 'already_registered', 'invite', 'claim_key',
                 'new_sign_in', 'password_changed', 'token_created', 'security_mails_off')
        and (kind = 'invite') = (invite_id is not null)
        and (kind = 'claim_key') = (claim_of is not null));
