-- The database alone can not prove an audit log: whoever owns it can write any row and compute any
-- digest. So each event carries a MAC of its content, and its link one of its place, under keys that
-- the application derives from its newest pepper and the database does not hold.

-- Of events that were written before, or by a server of the previous version: nulls.
alter table audit_events
    add column nonce     uuid,
    add column pepper_id text,
    add column mac       bytea,
    add constraint audit_events_mac_check check (
        num_nulls(nonce, pepper_id, mac) in (0, 3) and octet_length(mac) = 32) not valid;

-- What seals a link is a key of its event, which the application derives from the event's nonce.
-- The first link of a chain, where transactions wait for their turns, may stay when its event is
-- removed by retention; that an event is missing where it has to be is seen by `audit verify`.
alter table audit_links
    add column seal bytea,
    add constraint audit_links_seal_check check (octet_length(seal) = 32) not valid,
    drop constraint audit_links_event_id_fkey;

-- Where each chain ended when its head was last published, up to which position its events may lack
-- a MAC, up to which position they were removed by retention and the digest there, and a MAC of all
-- that.
create table audit_heads (
    organization_id uuid        not null,
    position        bigint      not null,
    digest          bytea       not null,
    unsigned_until  bigint      not null,
    pruned_until    bigint      not null,
    pruned_digest   bytea       not null,
    pepper_id       text        not null,
    mac             bytea       not null,
    published_at    timestamptz not null,
    constraint audit_heads_pkey primary key (organization_id),
    constraint audit_heads_digest_check check (octet_length(digest) = 32),
    constraint audit_heads_pruned_digest_check check (octet_length(pruned_digest) = 32),
    constraint audit_heads_mac_check check (octet_length(mac) = 32),
    constraint audit_heads_organization_id_fkey
        foreign key (organization_id) references organizations (id)
);

-- Since when events carry MACs, and until when servers of the previous version may add some without:
-- one row, of the deployment itself.
create table audit_signing (
    organization_id uuid        not null,
    started_at      timestamptz not null,
    unsigned_until  timestamptz not null,
    pepper_id       text        not null,
    mac             bytea       not null,
    constraint audit_signing_pkey primary key (organization_id),
    constraint audit_signing_mac_check check (octet_length(mac) = 32),
    constraint audit_signing_organization_id_fkey
        foreign key (organization_id) references organizations (id)
);

do $$
declare
    secured text;
begin
    foreach secured in array array['audit_heads', 'audit_signing'] loop
        execute format('alter table %I enable row level security', secured);
        execute format('alter table %I force row level security', secured);
        execute format(
            'create policy %I on %I to tenantry_tenant using (organization_id = '
            'tenant_organization()) with check (organization_id = tenant_organization())',
            secured || '_tenant', secured);
        execute format('create policy %I on %I to current_user using (true) with check (true)',
                       secured || '_system', secured);
    end loop;
end
$$;

-- From here on every call in a function is qualified and typed, and no schema but pg_catalog is
-- searched: where others may create functions, one that fits better would run as the tables' owner.

-- The formula of 0018, by which heads were published that have to stay good.
create or replace function audit_digest(previous bytea, place bigint, event audit_events)
returns bytea language sql stable
return pg_catalog.sha256(
    coalesce(previous, pg_catalog.decode(pg_catalog.repeat('00'::text, 32), 'hex'::text))
    operator(pg_catalog.||)
    pg_catalog.convert_to(pg_catalog.jsonb_build_array(
        place, event.id, event.organization_id, event.event_type, event.actor, event.target,
        event.method, event.path, event.address, event.request_id, event.key_display_id,
        event.detail,
        pg_catalog.trunc(extract(epoch from event.created_at)
                         operator(pg_catalog.*) 1000000::numeric)::text,
        event.status
    )::text, 'UTF8'::name));

-- No `set search_path`, which would keep the policies from inlining it: `return` resolves its calls
-- here and now.
create or replace function tenant_organization() returns uuid language sql stable
return nullif(pg_catalog.current_setting('app.organization_id'::text, true), ''::text)::uuid;

-- Only retention removes events, and says so for its transaction.
create or replace function audit_events_append_only() returns trigger
language plpgsql set search_path to pg_catalog, pg_temp as $$
begin
    if tg_op = 'DELETE'::text
       and current_setting('app.audit_retention'::text, true) = 'on'::text then
        return null;
    end if;
    raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege';
end
$$;

-- Adds the event to its organization's chain, as in 0018, with the seal of its link. Whoever inserts
-- an event adds to `app.audit_keys`, for the transaction, which key seals its link: the event's nonce,
-- a colon, and 32 bytes as 64 hexadecimal digits. Without it, as by a server of the previous version,
-- the link has no seal.
do $migration$
begin
    execute format($definition$
create or replace function %1$I.audit_events_link() returns trigger
language plpgsql security definer set search_path to pg_catalog, pg_temp as $body$
declare
    keys     constant text    := current_setting('app.audit_keys'::text, true);
    place    constant integer := nullif(strpos(keys, new.nonce::text || ':'::text), 0);
    link_key constant bytea   := decode(substr(keys, place + 37, 64), 'hex'::text);
    made     bytea;
begin
    perform from %1$I.audit_links l
        where l.organization_id = new.organization_id and l.position = 1 for no key update;
    if not found then
        made := %1$I.audit_digest(null::bytea, 1::bigint, new);
        insert into %1$I.audit_links (organization_id, position, event_id, digest, seal)
            values (new.organization_id, 1, new.id, made, sha256(link_key || made))
            on conflict on constraint audit_links_pkey do nothing;
        if found then
            return null;
        end if;
        -- Another transaction was first, and is over.
        perform from %1$I.audit_links l
            where l.organization_id = new.organization_id and l.position = 1 for no key update;
    end if;
    -- A statement of its own, which sees what was there when the turn came.
    insert into %1$I.audit_links (organization_id, position, event_id, digest, seal)
        select new.organization_id, next.position, new.id, next.digest,
               sha256(link_key || next.digest)
        from (select last.position + 1 as position,
                     %1$I.audit_digest(last.digest, last.position + 1, new) as digest
              from (select l.position, l.digest from %1$I.audit_links l
                    where l.organization_id = new.organization_id
                    order by l.position desc limit 1) last) next;
    return null;
end
$body$
$definition$, current_schema());
end
$migration$;

-- Where the schema is ours to grant, nobody else creates in it. Where it is not (the schema public
-- of Postgres 14, and of databases that come from it, is an administrator's), `tenantry doctor` says
-- what to run.
do $$
begin
    if exists (select from pg_namespace n
               where n.nspname = current_schema() and pg_has_role(n.nspowner, 'usage')) then
        execute format('revoke create on schema %I from public', current_schema());
    end if;
end
$$;
