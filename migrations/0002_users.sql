-- Seats: one person's place in one organization. A seat made by open signup has no
-- person behind it yet.
create table users (
    id              uuid        not null,
    organization_id uuid        not null,
    handle          text        not null,
    role            text        not null,
    created_at      timestamptz not null,
    constraint users_pkey primary key (id),
    constraint users_handle_key unique (handle),
    constraint users_role_check check (role in ('owner', 'admin', 'member')),
    constraint users_organization_id_fkey
        foreign key (organization_id) references organizations (id),
    -- What lets other tables prove that a seat and its organization belong together.
    constraint users_organization_id_id_key unique (organization_id, id)
);
