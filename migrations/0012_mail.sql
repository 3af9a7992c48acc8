-- Mails to be sent. A row says what is to be mailed to whom, and holds no secret: the token of a
-- link is made when its mail is written. Whether there is such an account is asked then, too, so
-- asking for a mail costs the same for every address.
create table outbox (
    id           uuid        not null,
    kind         text        not null,
    address      text        not null,
    callback_url text,
    created_at   timestamptz not null,
    attempts     integer     not null default 0,
    due_at       timestamptz not null,
    -- When it was given up.
    dead_at      timestamptz,
    last_failure text,
    constraint outbox_pkey primary key (id),
    constraint outbox_kind_check
        check (kind in ('verify_email', 'reset_password', 'already_registered'))
);

-- What a worker looks for.
create index outbox_due_at_idx on outbox (due_at) where dead_at is null;
-- What a newer mail of the same kind replaces.
create index outbox_address_kind_idx on outbox (address, kind) where dead_at is null;

-- What a mailed link proves. There is one of each purpose: a newer one takes the older one's place.
create table email_tokens (
    account_id   uuid        not null,
    purpose      text        not null,
    digest       bytea       not null,
    callback_url text,
    created_at   timestamptz not null,
    expires_at   timestamptz not null,
    constraint email_tokens_pkey primary key (account_id, purpose),
    constraint email_tokens_digest_key unique (digest),
    constraint email_tokens_digest_check check (octet_length(digest) = 32),
    constraint email_tokens_purpose_check check (purpose in ('verify_email', 'reset_password')),
    constraint email_tokens_account_id_fkey foreign key (account_id) references accounts (id)
);

-- What a sweep looks for.
create index email_tokens_expires_at_idx on email_tokens (expires_at);
