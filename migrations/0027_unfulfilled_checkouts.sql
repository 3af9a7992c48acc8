-- Paid checkouts that could not be fulfilled, the deployment's own (organization `system`): the
-- organization that each names is not known to belong to the buyer, can not have the plan, or is not
-- said, or its subscription has ended. One row an event, however often it is delivered and whatever
-- became of it meanwhile, so that the buyer is mailed once.
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
    -- When the buyer was served, by this event or another. Stripe may go on sending it.
    settled_at      timestamptz,
    constraint unfulfilled_checkouts_pkey primary key (event_id),
    constraint unfulfilled_checkouts_reason_check
        check (reason in ('belongs_to_another', 'does_not_exist', 'deleted', 'plan_not_for_home',
                          'subscription_ended', 'incomplete')),
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

-- The subscriptions of organizations that ended. What is told of one, whenever it happened, does not
-- begin it again: an invoice of it may be paid long after, and its beginning be told after its end.
create table ended_subscriptions (
    organization_id uuid        not null,
    subscription_id text        not null,
    ended_at        timestamptz not null,
    constraint ended_subscriptions_pkey primary key (organization_id, subscription_id),
    constraint ended_subscriptions_organization_id_fkey
        foreign key (organization_id) references organizations (id)
);

alter table ended_subscriptions enable row level security;
alter table ended_subscriptions force row level security;
create policy ended_subscriptions_tenant on ended_subscriptions to tenantry_tenant
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
do $$
begin
    execute 'create policy ended_subscriptions_system on ended_subscriptions to current_user '
            'using (true) with check (true)';
end
$$;

grant select on ended_subscriptions to tenantry_tenant;
