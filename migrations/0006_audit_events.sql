-- The trail. Rows are written in the transaction of the change they tell of, and never
-- changed: the trigger holds for every role, the owner of the table included.
create table audit_events (
    id              bigint      generated always as identity,
    organization_id uuid        not null,
    event_type      text        not null,
    actor           text        not null,
    target          text        not null,
    method          text        not null,
    path            text        not null,
    address         text,
    request_id      text        not null,
    key_display_id  text,
    detail          jsonb       not null,
    created_at      timestamptz not null,
    constraint audit_events_pkey primary key (id),
    constraint audit_events_organization_id_fkey
        foreign key (organization_id) references organizations (id)
);

create index audit_events_organization_id_id_idx on audit_events (organization_id, id desc);

create function audit_events_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'audit_events is append-only' using errcode = 'insufficient_privilege';
end
$$;

create trigger audit_events_append_only
    before update or delete or truncate on audit_events
    for each statement execute function audit_events_append_only();
