-- What one organization's statements cost must not depend on what the planner knows of its size. With
-- statistics from when it was small, every index that begins with organization_id looks as good as the
-- one that finds a single row, and reading all of the organization's rows as good as reading that one.
--
-- So (1) the policies are no way into an index any more: they filter what a statement has found. `is
-- true` is what keeps the planner from using them, and the subquery is evaluated once.
do $$
declare
    walled text;
begin
    foreach walled in array array[
        'api_keys', 'audit_events', 'audit_links', 'billing_customers', 'denials',
        'idempotency_keys', 'invites', 'key_claims', 'key_sessions', 'payments', 'projects',
        'refresh_tokens', 'usage_daily', 'users'
    ] loop
        execute format(
            'alter policy %I on %I using ((organization_id = (select tenant_organization())) is true)'
            ' with check (organization_id = tenant_organization())',
            walled || '_tenant', walled);
    end loop;
end
$$;

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
create index api_keys_user_id_organization_id_idx on api_keys (user_id, organization_id);
drop index api_keys_organization_id_user_id_idx;
alter table api_keys
    drop constraint api_keys_rotated_from_key,
    add constraint api_keys_rotated_from_key unique (rotated_from, organization_id);
create index key_sessions_key_id_organization_id_idx on key_sessions (key_id, organization_id);
drop index key_sessions_organization_id_key_id_idx;
create index invites_invited_by_organization_id_idx on invites (invited_by, organization_id);
drop index invites_organization_id_invited_by_idx;
create index projects_created_by_organization_id_idx on projects (created_by, organization_id);
drop index projects_organization_id_created_by_idx;

-- (3) Where a name is found within an organization, both columns are needed. Of two indexes that look
-- equally good the planner takes the one that was made last.
alter table projects
    drop constraint projects_organization_id_slug_key,
    add constraint projects_organization_id_slug_key unique (organization_id, slug);
drop index invites_open_key;
create unique index invites_open_key on invites (organization_id, email)
    where accepted_at is null and revoked_at is null;
drop index api_keys_held_name_key;
create unique index api_keys_held_name_key on api_keys (organization_id, name) where name_held;
