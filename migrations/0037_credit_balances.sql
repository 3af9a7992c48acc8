-- Prepaid units of organizations and keys. A server takes units out of a row in advance, and returns
-- what it did not use. `id` is that of the organization, or of the first key of a rotation.
create table credit_balances (
    id              uuid        not null,
    organization_id uuid        not null,
    remaining       bigint      not null,
    refill_amount   bigint,
    refill_interval text,
    -- When the units were last set or refilled.
    refilled_at     timestamptz not null,
    -- Grows each time the units are set or refilled: units that were taken before are not returned.
    version         bigint      not null default (extract(epoch from clock_timestamp()) * 1000000),
    constraint credit_balances_pkey primary key (id),
    constraint credit_balances_organization_id_fkey
        foreign key (organization_id) references organizations (id),
    constraint credit_balances_remaining_check check (remaining >= 0),
    constraint credit_balances_refill_amount_check check (refill_amount > 0),
    constraint credit_balances_refill_interval_check check (refill_interval in ('day', 'month')),
    constraint credit_balances_refill_check
        check ((refill_amount is null) = (refill_interval is null))
);

-- The units that are available now, a refill that is due included.
create function available_credits(remaining bigint, refill_amount bigint, refill_interval text,
                                  refilled_at timestamptz)
    returns bigint language sql stable
    return case when date_trunc(refill_interval, now(), 'UTC') > refilled_at
                then greatest(remaining, refill_amount) else remaining end;

create index credit_balances_organization_id_idx on credit_balances (organization_id);

alter table credit_balances enable row level security;
alter table credit_balances force row level security;
-- An organization's own units are set by the operator only.
create policy credit_balances_tenant on credit_balances to tenantry_tenant
    using ((organization_id = (select tenant_organization()) and id <> organization_id) is true)
    with check (organization_id = tenant_organization() and id <> organization_id);
create policy credit_balances_system on credit_balances to current_user
    using (true) with check (true);
grant select, insert, update, delete on credit_balances to tenantry_tenant;
