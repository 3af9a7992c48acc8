-- A person's requests of one name in two organizations are two requests.
alter table idempotency_keys
    drop constraint idempotency_keys_pkey,
    add constraint idempotency_keys_pkey
        primary key (organization_id, principal, endpoint, key_digest);
drop index idempotency_keys_organization_id_idx;
