-- no-transaction
-- Which key sent an invitation again last, where one did: the link that it mailed is revoked with it,
-- as with the key that made the invitation (0031).
alter table invites
    add column if not exists resent_key_id uuid;
create index concurrently if not exists invites_organization_id_resent_key_id_idx
    on invites (organization_id, resent_key_id) where resent_key_id is not null;
alter table invites
    drop constraint if exists invites_resent_key_id_fkey,
    add constraint invites_resent_key_id_fkey
        foreign key (organization_id, resent_key_id) references api_keys (organization_id, id)
        not valid;
alter table invites validate constraint invites_resent_key_id_fkey;
