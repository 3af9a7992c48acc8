-- no-transaction
-- Which key made an invitation, where one did, and which membership began by it: revoking the key
-- revokes its open invitations, and names those who joined.
alter table invites
    add column if not exists key_id         uuid,
    add column if not exists joined_user_id uuid;
create index concurrently if not exists invites_organization_id_key_id_idx
    on invites (organization_id, key_id);
create index concurrently if not exists invites_organization_id_joined_user_id_idx
    on invites (organization_id, joined_user_id);
alter table invites
    drop constraint if exists invites_key_id_fkey,
    add constraint invites_key_id_fkey
        foreign key (organization_id, key_id) references api_keys (organization_id, id) not valid;
alter table invites
    drop constraint if exists invites_joined_user_id_fkey,
    add constraint invites_joined_user_id_fkey
        foreign key (organization_id, joined_user_id) references users (organization_id, id)
        not valid;
alter table invites validate constraint invites_key_id_fkey;
alter table invites validate constraint invites_joined_user_id_fkey;
