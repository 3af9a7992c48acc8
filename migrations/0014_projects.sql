-- What an organization's people and keys work on. `created_by` is a seat: that of the person, or
-- the one that the key was minted from.
create table projects (
    id              uuid        not null,
    organization_id uuid        not null,
    name            text        not null,
    slug            text        not null,
    description     text,
    created_by      uuid        not null,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    constraint projects_pkey primary key (id),
    constraint projects_organization_id_slug_key unique (organization_id, slug),
    constraint projects_slug_check check (slug ~ '^[a-z0-9](-?[a-z0-9]){0,62}$'),
    constraint projects_organization_id_fkey
        foreign key (organization_id) references organizations (id),
    constraint projects_created_by_fkey
        foreign key (organization_id, created_by) references users (organization_id, id)
);

-- Ids grow with time, so lists read the newest first.
create index projects_organization_id_id_idx on projects (organization_id, id desc);
create index projects_organization_id_created_by_idx on projects (organization_id, created_by);
