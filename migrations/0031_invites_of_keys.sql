-- Which key made an invitation, where one did, and which membership began by it: revoking the key
-- revokes its open invitations, and names those who joined.
alter table invites
    add column key_id         uuid,
    add column joined_user_id uuid,
    add constraint invites_key_id_fkey
        foreign key (organization_id, key_id) references api_keys (organization_id, id),
    add constraint invites_joined_user_id_fkey
        foreign key (organization_id, joined_user_id) references users (organization_id, id);
create index invites_organization_id_key_id_idx on invites (organization_id, key_id);
create index invites_organization_id_joined_user_id_idx
    on invites (organization_id, joined_user_id);

-- What was invited before, as the audit log has it: an event has the time of its invitation.
update invites i set key_id = k.id
    from audit_events e
    join api_keys k on k.organization_id = e.organization_id and k.display_id = e.key_display_id
    where e.event_type = 'invite.created' and e.actor like 'key\_%'
      and e.organization_id = i.organization_id and e.created_at = i.created_at;
update invites i set joined_user_id = u.id
    from audit_events e
    join users u on u.organization_id = e.organization_id and u.handle = e.actor
    where e.event_type = 'invite.accepted' and i.key_id is not null
      and e.organization_id = i.organization_id and e.created_at = i.accepted_at;
