-- What was invited before 0031, as the audit log has it: an event has the time of its invitation. The
-- audit log is read to its end before the first row is locked.
update invites i set key_id = found.key_id
    from (
        select unnest(array_agg(i.id)) as id, unnest(array_agg(k.id)) as key_id
        from invites i
        join audit_events e
            on e.organization_id = i.organization_id and e.created_at = i.created_at
        join api_keys k
            on k.organization_id = e.organization_id and k.display_id = e.key_display_id
        where e.event_type = 'invite.created' and e.actor like 'key\_%') found
    where i.id = found.id;
