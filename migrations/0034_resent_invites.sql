-- Which key sent an invitation again last, where one did: the link that it mailed is revoked with it,
-- as with the key that made the invitation (0031).
alter table invites
    add column resent_key_id uuid,
    add constraint invites_resent_key_id_fkey
        foreign key (organization_id, resent_key_id) references api_keys (organization_id, id);
create index invites_organization_id_resent_key_id_idx on invites (organization_id, resent_key_id)
    where resent_key_id is not null;
