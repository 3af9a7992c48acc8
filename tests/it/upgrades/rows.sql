create function pg_temp.id(kind int, n int) returns uuid language sql
return (lpad(kind::text, 8, '0') || '-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid;

insert into organizations (id, handle, plan, name, created_at, updated_at)
    select pg_temp.id(1, n), 'org_' || n, 'pro', 'o', now(), now() from generate_series(1, 20) n;
insert into accounts (id, home_organization_id, email, handle, created_at, updated_at)
    select pg_temp.id(2, n), pg_temp.id(1, n), n || '@example.org', 'h' || n, now(), now()
    from generate_series(1, 20) n;
insert into users (id, organization_id, account_id, handle, role, created_at)
    select pg_temp.id(3, n), pg_temp.id(1, n), pg_temp.id(2, n), 'user_' || n, 'owner', now()
    from generate_series(1, 20) n;
insert into api_keys (id, organization_id, user_id, digest, pepper_id, prefix, display_id, name,
                      name_held, scopes, created_at)
    select pg_temp.id(4, n), pg_temp.id(1, n % 20 + 1), pg_temp.id(3, n % 20 + 1),
           sha256(n::text::bytea), 'p1', 'k', 'display' || n, 'key ' || n, true, '{*}', now()
    from generate_series(1, 200) n;
insert into projects (id, organization_id, name, slug, created_by, created_at, updated_at)
    select pg_temp.id(5, n), pg_temp.id(1, n % 20 + 1), 'p', 'p-' || n, pg_temp.id(3, n % 20 + 1),
           now(), now()
    from generate_series(1, 40) n;
insert into invites (id, organization_id, email, role, invited_by, created_at, expires_at)
    select pg_temp.id(6, n), pg_temp.id(1, n % 20 + 1), n || '@example.com', 'member',
           pg_temp.id(3, n % 20 + 1), date_trunc('second', now()) + n * interval '1 ms', now()
    from generate_series(1, 40) n;
-- The first 20 were invited by keys.
insert into audit_events (organization_id, event_type, actor, target, method, path, request_id,
                          key_display_id, detail, created_at)
    select i.organization_id, 'invite.created', 'key_1', 'invite', 'POST', '/', 'r',
           'display' || right(i.id::text, 12)::int, '{}', i.created_at
    from invites i where right(i.id::text, 12)::int <= 20;
