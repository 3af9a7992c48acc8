-- no-transaction
-- Clients that prove who they are with a private key (RFC 7523): their public keys, or the URL at
-- which they publish them. And how the ID tokens of a client are signed.
alter table oauth_clients
    add column if not exists jwks         jsonb,
    add column if not exists jwks_uri     text,
    add column if not exists id_token_alg text not null default 'RS256';
alter table oauth_clients
    drop constraint if exists oauth_clients_auth_method_check,
    drop constraint if exists oauth_clients_jwks_check,
    drop constraint if exists oauth_clients_id_token_alg_check,
    add constraint oauth_clients_auth_method_check
        check (auth_method in ('none', 'client_secret_basic', 'client_secret_post',
                               'private_key_jwt')) not valid,
    add constraint oauth_clients_jwks_check
        check (num_nonnulls(jwks, jwks_uri)
               = case when auth_method = 'private_key_jwt' then 1 else 0 end) not valid,
    add constraint oauth_clients_id_token_alg_check
        check (id_token_alg in ('RS256', 'ES256')) not valid;
alter table oauth_clients validate constraint oauth_clients_auth_method_check;
alter table oauth_clients validate constraint oauth_clients_jwks_check;
alter table oauth_clients validate constraint oauth_clients_id_token_alg_check;
