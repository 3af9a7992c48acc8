-- Usage by hour, key, route template and tags, beside the daily sums. An empty resource is none.
create table usage_hourly (
    organization_id uuid        not null,
    hour            timestamptz not null,
    -- The nil id for usage of the organization that is no key's.
    key_id          uuid        not null,
    resource        text        not null,
    -- `name=value`, sorted and separated by commas.
    tags            text        not null,
    units           bigint      not null,
    constraint usage_hourly_pkey primary key (organization_id, hour, key_id, resource, tags),
    constraint usage_hourly_organization_id_fkey
        foreign key (organization_id) references organizations (id)
);
-- The export reads all organizations in the order of time.
create index usage_hourly_hour_idx on usage_hourly (hour);

-- The resources and tags that an organization used on a day: the first 200 are told apart.
create table usage_resources (
    organization_id uuid   not null,
    day             date   not null,
    resource        text   not null,
    tags            text   not null,
    constraint usage_resources_pkey primary key (organization_id, day, resource, tags),
    constraint usage_resources_organization_id_fkey
        foreign key (organization_id) references organizations (id)
);
create index usage_resources_day_idx on usage_resources (day);

-- Reported usage, so that an event that is sent again is not counted again.
create table usage_events (
    source          text        not null,
    id              text        not null,
    organization_id uuid        not null,
    received_at     timestamptz not null,
    constraint usage_events_pkey primary key (source, id),
    constraint usage_events_organization_id_fkey
        foreign key (organization_id) references organizations (id)
);
create index usage_events_organization_id_idx on usage_events (organization_id);
create index usage_events_received_at_idx on usage_events (received_at);

do $$
declare
    secured text;
begin
    foreach secured in array array['usage_hourly', 'usage_resources', 'usage_events'] loop
        execute format('alter table %I enable row level security', secured);
        execute format('alter table %I force row level security', secured);
        execute format(
            'create policy %I on %I to tenantry_tenant using ((organization_id = '
            '(select tenant_organization())) is true) '
            'with check (organization_id = tenant_organization())',
            secured || '_tenant', secured);
        execute format('create policy %I on %I to current_user using (true) with check (true)',
                       secured || '_system', secured);
    end loop;
end
$$;
