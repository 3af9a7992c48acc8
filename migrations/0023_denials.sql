-- Requests that an organization was refused: the newest of the last month, written in batches. The
-- path is the route's pattern, never what was sent.
create table denials (
    organization_id uuid        not null,
    id              uuid        not null,
    key_display_id  text,
    method          text        not null,
    path            text        not null,
    status          smallint    not null,
    code            text        not null,
    detail          text        not null,
    address         text,
    request_id      text        not null,
    created_at      timestamptz not null,
    -- Ids grow with time: read backwards, it gives the newest first.
    constraint denials_pkey primary key (organization_id, id),
    constraint denials_organization_id_fkey
        foreign key (organization_id) references organizations (id)
);

create index denials_created_at_idx on denials (created_at);

alter table denials enable row level security;
alter table denials force row level security;
create policy denials_tenant on denials to tenantry_tenant
    using (organization_id = tenant_organization())
    with check (organization_id = tenant_organization());
create policy denials_system on denials to current_user using (true) with check (true);
grant select on denials to tenantry_tenant;
