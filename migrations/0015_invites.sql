-- Invitations of an address to an organization. The token of the mailed link is made when the mail
-- is written; a later mail has another, and the one before is dead from when that was asked for.
create table invites (
    id              uuid        not null,
    organization_id uuid        not null,
    email           text        not null,
    role            text        not null,
    invited_by      uuid        not null,
    digest          bytea,
    created_at      timestamptz not null,
    expires_at      timestamptz not null,
    accepted_at     timestamptz,
    revoked_at      timestamptz,
    constraint invites_pkey primary key (id),
    constraint invites_organization_id_id_key unique (organization_id, id),
    constraint invites_digest_key unique (digest),
    constraint invites_digest_check check (octet_length(digest) = 32),
    constraint invites_role_check check (role in ('owner', 'admin', 'member')),
    constraint invites_ended_check check (accepted_at is null or revoked_at is null),
    constraint invites_invited_by_fkey
        foreign key (organization_id, invited_by) references users (organization_id, id)
);

-- One invitation of an address is open at a time.
create unique index invites_open_key on invites (organization_id, email)
    where accepted_at is null and revoked_at is null;
create index invites_organization_id_invited_by_idx on invites (organization_id, invited_by);

alter table outbox
    add column invite_id uuid,
    drop constraint outbox_kind_check,
    add constraint outbox_kind_check check (
        kind in ('verify_email', 'reset_password', 'already_registered', 'invite')
        and (kind = 'invite') = (invite_id is not null)),
    add constraint outbox_invite_id_fkey foreign key (invite_id) references invites (id);
create index outbox_invite_id_idx on outbox (invite_id);
