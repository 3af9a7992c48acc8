-- Authenticated requests per key and UTC day, added up in batches.
create table usage_daily (
    organization_id uuid    not null,
    key_id          uuid    not null,
    day             date    not null,
    requests        bigint  not null,
    denied          bigint  not null,
    constraint usage_daily_pkey primary key (organization_id, day, key_id),
    constraint usage_daily_requests_check check (requests >= denied and denied >= 0),
    constraint usage_daily_key_id_fkey
        foreign key (organization_id, key_id) references api_keys (organization_id, id)
);

create index usage_daily_organization_id_key_id_idx on usage_daily (organization_id, key_id);
