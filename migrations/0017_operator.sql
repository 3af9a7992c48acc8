-- What an operator decides about an organization: its line of business, and whether it is suspended.
alter table organizations
    add column domain       text,
    add column suspended_at timestamptz,
    add constraint organizations_domain_check check (
        domain in ('general', 'healthcare', 'financial', 'employment', 'education', 'housing',
                   'insurance', 'government'));
-- Whether a browser's preflight comes from the page of some organization.
create index organizations_allowed_origins_idx on organizations using gin (allowed_origins)
    where deleted_at is null and suspended_at is null;

-- The deployment itself: what belongs to no tenant is in its trail. Nobody can choose the handle,
-- and nobody has a seat.
insert into organizations (id, handle, name, plan, created_at, updated_at)
values ('00000000-0000-0000-0000-000000000000', 'system', 'Tenantry', 'enterprise', now(), now());

-- What the request was answered with, where the event is of a request.
alter table audit_events add column status smallint;
