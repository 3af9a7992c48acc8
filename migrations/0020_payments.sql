-- Who suspended an organization: a payment lifts only what was suspended for want of one.
alter table organizations add column suspended_by text;

-- Which of Stripe's customers pays for an organization (a guest is none), and by which subscription,
-- where it is one and not paid once. A customer may pay for several. What Stripe tells comes in any
-- order: nothing that is older than `last_event_at` changes whether the organization is suspended,
-- no checkout that is older than the last one its plan.
create table billing_customers (
    organization_id  uuid        not null,
    customer_id      text,
    subscription_id  text,
    pays_once        boolean     not null,
    last_event_at    timestamptz not null,
    last_checkout_at timestamptz,
    created_at       timestamptz not null,
    constraint billing_customers_pkey primary key (organization_id),
    constraint billing_customers_organization_id_fkey
        foreign key (organization_id) references organizations (id)
);

create index billing_customers_customer_id_idx on billing_customers (customer_id);
create index billing_customers_subscription_id_idx on billing_customers (subscription_id);

-- What was paid, and what was not. `reference` is Stripe's invoice, or its session where there is
-- none: a subscription that is bought is told of twice, as a session and as an invoice.
create table payments (
    id              uuid        not null,
    organization_id uuid        not null,
    event_id        text        not null,
    reference       text        not null,
    -- In the currency's smallest unit.
    amount          bigint      not null,
    currency        text        not null,
    status          text        not null,
    description     text,
    created_at      timestamptz not null,
    constraint payments_pkey primary key (id),
    constraint payments_event_id_key unique (event_id),
    constraint payments_amount_check check (amount > 0),
    constraint payments_currency_check check (currency ~ '^[a-z]{3}$'),
    constraint payments_status_check check (status in ('paid', 'failed')),
    constraint payments_organization_id_fkey
        foreign key (organization_id) references organizations (id)
);

-- What is paid is paid once; a payment may fail several times before.
create unique index payments_paid_key on payments (organization_id, reference)
    where status = 'paid';
create index payments_organization_id_created_at_id_idx
    on payments (organization_id, created_at desc, id desc);

-- The first key of an organization that was paid for, until the buyer takes it. The token of the
-- mailed link is made when the mail is written.
create table key_claims (
    organization_id uuid        not null,
    email           text        not null,
    digest          bytea,
    created_at      timestamptz not null,
    expires_at      timestamptz not null,
    claimed_at      timestamptz,
    revoked_at      timestamptz,
    constraint key_claims_pkey primary key (organization_id),
    constraint key_claims_digest_key unique (digest),
    constraint key_claims_digest_check check (octet_length(digest) = 32),
    constraint key_claims_ended_check check (claimed_at is null or revoked_at is null),
    constraint key_claims_organization_id_fkey
        foreign key (organization_id) references organizations (id)
);

alter table outbox
    add column claim_of uuid,
    drop constraint outbox_kind_check,
    add constraint outbox_kind_check check (
        kind in ('verify_email', 'reset_password', 'already_registered', 'invite', 'claim_key')
        and (kind = 'invite') = (invite_id is not null)
        and (kind = 'claim_key') = (claim_of is not null)),
    add constraint outbox_claim_of_fkey
        foreign key (claim_of) references key_claims (organization_id);
create index outbox_claim_of_idx on outbox (claim_of);

-- The walls (0016). Only the operator's side writes here; a tenant reads, and takes its key.
do $$
declare
    walled text;
begin
    foreach walled in array array['billing_customers', 'key_claims', 'payments'] loop
        execute format('alter table %I enable row level security', walled);
        execute format('alter table %I force row level security', walled);
        execute format(
            'create policy %I on %I to tenantry_tenant using (organization_id = '
            'tenant_organization()) with check (organization_id = tenant_organization())',
            walled || '_tenant', walled);
        execute format('create policy %I on %I to current_user using (true) with check (true)',
                       walled || '_system', walled);
    end loop;
end
$$;

grant select on billing_customers, payments to tenantry_tenant;
grant select (organization_id, digest, expires_at, claimed_at, revoked_at), update (claimed_at)
    on key_claims to tenantry_tenant;
