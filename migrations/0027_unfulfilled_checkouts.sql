-- Paid checkouts that could not be fulfilled, the deployment's own (organization `system`): the
-- organization that each names is not known to belong to the buyer, can not have the plan, or is not
-- said. One row an event, however often it is delivered, so that the buyer is mailed once.
create table unfulfilled_checkouts (
    event_id        text        not null,
    organization_id uuid        not null,
    -- As the checkout has it, at most 64 characters: it may be no id at all.
    handle          text        not null,
    customer_id     text,
    reason          text        not null,
    deliveries      integer     not null default 1,
    created_at      timestamptz not null,
    delivered_at    timestamptz not null,
    constraint unfulfilled_checkouts_pkey primary key (event_id),
    constraint unfulfilled_checkouts_reason_check
        check (reason in ('belongs_to_another', 'does_not_exist', 'deleted', 'plan_not_for_home',
                          'incomplete')),
    constraint unfulfilled_checkouts_organization_id_fkey
        foreign key (organization_id) references organizations (id)
);
create index unfulfilled_checkouts_organization_id_idx on unfulfilled_checkouts (organization_id);
-- What a sweep looks for.
create index unfulfilled_checkouts_delivered_at_idx on unfulfilled_checkouts (delivered_at);

-- Row-level security (0016). Every row is the deployment's: a tenant sees none.
alter table unfulfilled_checkouts enable row level security;
alter table unfulfilled_checkouts force row level security;
create policy unfulfilled_checkouts_tenant on unfulfilled_checkouts to tenantry_tenant
    using (organization_id = tenant_organization())
    with check (organization_id = tenant_organization());
do $$
begin
    execute 'create policy unfulfilled_checkouts_system on unfulfilled_checkouts to current_user '
            'using (true) with check (true)';
end
$$;

grant select on unfulfilled_checkouts to tenantry_tenant;

-- The mail to the buyer. A server of the version before leaves such mails to one of this version.
alter table outbox
    drop constraint outbox_kind_check,
    add constraint outbox_kind_check check (
        kind in ('verify_email', 'reset_password', 'already_registered', 'invite', 'claim_key',
                 'new_sign_in', 'password_changed', 'token_created', 'security_mails_off',
                 'checkout_unfulfilled')
        and (kind = 'invite') = (invite_id is not null)
        and (kind = 'claim_key') = (claim_of is not null));

-- The subscription of the organization's that ended last. An invoice of it may be paid long after,
-- and no event that is dated after the end goes on with it.
alter table billing_customers
    add column ended_subscription_id text,
    add column ended_at              timestamptz;
