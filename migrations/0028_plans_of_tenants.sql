-- no-transaction
-- What one organization's statements cost must not depend on what the planner knows of its size. With
-- statistics from when it was small, every index that begins with organization_id looks as good as the
-- one that finds a single row, and reading all of the organization's rows as good as reading that one.
--
-- So (1) the policies are no way into an index any more: they filter what a statement has found. `is
-- true` is what keeps the planner from using them, and the subquery is evaluated once.
alter policy api_keys_tenant on api_keys
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
alter policy audit_events_tenant on audit_events
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
alter policy audit_links_tenant on audit_links
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
alter policy billing_customers_tenant on billing_customers
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
alter policy denials_tenant on denials
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
alter policy idempotency_keys_tenant on idempotency_keys
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
alter policy invites_tenant on invites
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
alter policy key_claims_tenant on key_claims
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
alter policy key_sessions_tenant on key_sessions
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
alter policy payments_tenant on payments
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
alter policy projects_tenant on projects
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
alter policy refresh_tokens_tenant on refresh_tokens
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
alter policy usage_daily_tenant on usage_daily
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
alter policy users_tenant on users
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());

alter policy accounts_tenant on accounts
    using (exists (
        select from users u
        where u.account_id = accounts.id
          and (u.organization_id = (select tenant_organization())) is true
          and u.removed_at is null));
alter policy sessions_tenant on sessions
    using (exists (
        select from users u
        where u.account_id = sessions.account_id
          and (u.organization_id = (select tenant_organization())) is true
          and u.removed_at is null));
alter policy personal_tokens_tenant on personal_tokens
    using (exists (
        select from users u
        where u.account_id = personal_tokens.account_id
          and (u.organization_id = (select tenant_organization())) is true
          and u.removed_at is null));
alter policy outbox_tenant on outbox
    using (exists (
        select from invites i
        where i.id = outbox.invite_id
          and (i.organization_id = (select tenant_organization())) is true))
    with check (exists (
        select from invites i
        where i.id = outbox.invite_id
          and (i.organization_id = (select tenant_organization())) is true));

-- (2) Of each table one index begins with organization_id, for lists; the others begin with what they
-- find a row by. Foreign keys are looked up by both columns, in whatever order they stand.
create index concurrently if not exists api_keys_user_id_organization_id_idx
    on api_keys (user_id, organization_id);
drop index concurrently if exists api_keys_organization_id_user_id_idx;
create unique index concurrently if not exists api_keys_rotated_from_key_new
    on api_keys (rotated_from, organization_id);
alter table api_keys
    drop constraint if exists api_keys_rotated_from_key,
    add constraint api_keys_rotated_from_key unique using index api_keys_rotated_from_key_new;
create index concurrently if not exists key_sessions_key_id_organization_id_idx
    on key_sessions (key_id, organization_id);
drop index concurrently if exists key_sessions_organization_id_key_id_idx;
create index concurrently if not exists invites_invited_by_organization_id_idx
    on invites (invited_by, organization_id);
drop index concurrently if exists invites_organization_id_invited_by_idx;
create index concurrently if not exists projects_created_by_organization_id_idx
    on projects (created_by, organization_id);
drop index concurrently if exists projects_organization_id_created_by_idx;

-- (3) Where a name is found within an organization, both columns are needed. Of two indexes that look
-- equally good the planner takes the one that was made last. 0032 gives the last two their names.
create unique index concurrently if not exists projects_organization_id_slug_key_new
    on projects (organization_id, slug);
alter table projects
    drop constraint if exists projects_organization_id_slug_key,
    add constraint projects_organization_id_slug_key
        unique using index projects_organization_id_slug_key_new;
create unique index concurrently if not exists invites_open_key_new
    on invites (organization_id, email) where accepted_at is null and revoked_at is null;
create unique index concurrently if not exists api_keys_held_name_key_new
    on api_keys (organization_id, name) where name_held;
