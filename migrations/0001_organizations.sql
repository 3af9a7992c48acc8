-- Tenants. `handle` is the id that callers see and may choose; two spellings of one
-- handle that differ in case only are the same handle.
create table organizations (
    id          uuid        not null,
    handle      text        not null,
    plan        text        not null,
    created_at  timestamptz not null,
    constraint organizations_pkey primary key (id),
    constraint organizations_handle_check check (handle ~ '^[A-Za-z0-9_-]{1,64}$'),
    constraint organizations_plan_check
        check (plan in ('trial', 'starter', 'standard', 'pro', 'scale', 'enterprise'))
);

create unique index organizations_handle_key on organizations (lower(handle collate "C"));
