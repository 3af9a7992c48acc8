-- The trail's seal: one chain for each organization, in which every link holds the digest of an
-- event and of the link before it. Whoever changes, removes or moves an event later has to make
-- every later link anew, and then its last one differs from the one that was written down elsewhere.

-- What is digested: every column of the event, its place, and the digest before it (null before the
-- first). No setting of a session changes it: times are microseconds since 1970, as text because they
-- can be infinite.
create function audit_digest(previous bytea, place bigint, event audit_events) returns bytea
language sql stable
return sha256(
    coalesce(previous, decode(repeat('00', 32), 'hex'))
    || convert_to(jsonb_build_array(
        place, event.id, event.organization_id, event.event_type, event.actor, event.target,
        event.method, event.path, event.address, event.request_id, event.key_display_id,
        event.detail, trunc(extract(epoch from event.created_at) * 1000000)::text, event.status
    )::text, 'UTF8'));

-- Where an event stands in its organization's chain; `position` counts from 1, without gaps.
create table audit_links (
    organization_id uuid   not null,
    position        bigint not null,
    event_id        bigint not null,
    digest          bytea  not null,
    constraint audit_links_pkey primary key (organization_id, position),
    constraint audit_links_event_id_key unique (event_id),
    constraint audit_links_position_check check (position > 0),
    constraint audit_links_digest_check check (octet_length(digest) = 32),
    constraint audit_links_event_id_fkey foreign key (event_id) references audit_events (id)
);

-- Adds the event to its organization's chain. Whoever adds takes turns at the chain's first link:
-- a row can be held by any number of transactions that each hold many, and nobody else holds it.
create function audit_events_link() returns trigger language plpgsql security definer as $$
begin
    perform from audit_links
        where organization_id = new.organization_id and position = 1 for no key update;
    if not found then
        insert into audit_links (organization_id, position, event_id, digest)
            values (new.organization_id, 1, new.id, audit_digest(null, 1, new))
            on conflict on constraint audit_links_pkey do nothing;
        if found then
            return null;
        end if;
        -- Another transaction was first, and is over.
        perform from audit_links
            where organization_id = new.organization_id and position = 1 for no key update;
    end if;
    -- A statement of its own, which sees what was there when the turn came.
    insert into audit_links (organization_id, position, event_id, digest)
        select new.organization_id, position + 1, new.id, audit_digest(digest, position + 1, new)
        from audit_links where organization_id = new.organization_id
        order by position desc limit 1;
    return null;
end
$$;

-- The definer's own tables, whatever a session has put before them; and nobody else makes links.
do $$
begin
    execute format('alter function audit_events_link() set search_path to %I, pg_temp',
                   current_schema());
end
$$;
revoke all on function audit_events_link() from public;

-- At the end of the transaction: turns are held no longer than the commit takes, and when all other
-- locks are held already, so that nobody who has the turn waits for somebody who waits for it.
create constraint trigger audit_events_link after insert on audit_events
    deferrable initially deferred for each row execute function audit_events_link();

-- What was written before, in that order. (Making the trigger keeps others from adding meanwhile.)
do $$
declare
    event        audit_events;
    organization uuid;
    place        bigint;
    head         bytea;
begin
    for event in select * from audit_events order by organization_id, id loop
        if event.organization_id is distinct from organization then
            organization := event.organization_id;
            place := 0;
            head := null;
        end if;
        place := place + 1;
        head := audit_digest(head, place, event);
        insert into audit_links (organization_id, position, event_id, digest)
            values (organization, place, event.id, head);
    end loop;
end
$$;

create or replace function audit_events_append_only() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege';
end
$$;

create trigger audit_links_append_only
    before update or delete or truncate on audit_links
    for each statement execute function audit_events_append_only();

alter table audit_links enable row level security;
alter table audit_links force row level security;
create policy audit_links_tenant on audit_links to tenantry_tenant
    using (organization_id = tenant_organization())
    with check (organization_id = tenant_organization());
create policy audit_links_system on audit_links to current_user using (true) with check (true);
grant select on audit_links to tenantry_tenant;
