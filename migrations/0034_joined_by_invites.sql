-- Who joined by an invitation that a key had made before 0031, as the audit log has it. In a
-- transaction of its own, after 0033: the audit log is read to its end before the first row is
-- locked here, too.
update invites i set joined_user_id = found.user_id
    from (
        select unnest(array_agg(i.id)) as id, unnest(array_agg(u.id)) as user_id
        from invites i
        join audit_events e
            on e.organization_id = i.organization_id and e.created_at = i.accepted_at
        join users u on u.organization_id = e.organization_id and u.handle = e.actor
        where e.event_type = 'invite.accepted' and i.key_id is not null) found
    where i.id = found.id;
