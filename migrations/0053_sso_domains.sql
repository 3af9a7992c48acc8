-- The domains of organizations, which a DNS record proves. One organization has a domain verified.
create table sso_domains (
    id              uuid        not null,
    organization_id uuid        not null,
    -- Lower-case A-labels.
    domain          text        not null,
    -- What the record must contain. It is as public as the record.
    token           text        not null,
    -- The membership that added it.
    created_by      uuid        not null,
    created_at      timestamptz not null,
    verified_at     timestamptz,
    -- When the record was last found.
    last_seen_at    timestamptz,
    -- When the record of a verified domain was first not found; null again once it is found.
    absent_since    timestamptz,
    -- When the owners were last mailed about the absent record.
    warned_at       timestamptz,
    -- When the record had been absent for 7 days.
    lost_at         timestamptz,
    -- When a server looks the record of a verified domain up again. A server that begins to do so
    -- moves it, so that no other one does.
    next_check_at   timestamptz,
    constraint sso_domains_pkey primary key (id),
    constraint sso_domains_organization_id_domain_key unique (organization_id, domain),
    constraint sso_domains_organization_id_fkey
        foreign key (organization_id) references organizations (id),
    constraint sso_domains_created_by_fkey
        foreign key (organization_id, created_by) references users (organization_id, id),
    constraint sso_domains_lost_at_check check (lost_at is null or verified_at is not null),
    constraint sso_domains_next_check_at_check
        check ((verified_at is not null and lost_at is null) = (next_check_at is not null))
);
create unique index sso_domains_domain_key on sso_domains (domain)
    where verified_at is not null and lost_at is null;
create index sso_domains_organization_id_id_idx on sso_domains (organization_id, id desc);
create index sso_domains_organization_id_created_by_idx
    on sso_domains (organization_id, created_by);
create index sso_domains_next_check_at_idx on sso_domains (next_check_at)
    where next_check_at is not null;

-- Row-level security (0042): a tenant's own rows only. The unique index also covers the others'.
alter table sso_domains enable row level security;
alter table sso_domains force row level security;
create policy sso_domains_system on sso_domains to current_user
    using (true) with check (true);
create policy sso_domains_tenant on sso_domains to tenantry_tenant
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
grant select, insert, update, delete on sso_domains to tenantry_tenant;
