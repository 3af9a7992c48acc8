-- OAuth clients that no organization registered: those of metadata documents, and those that
-- registered themselves (RFC 7591). They belong to the deployment.
alter table oauth_clients
    -- The validator of the document, for a conditional request.
    add column document_etag text,
    -- Until when the document may be used without being fetched again.
    add column document_expires_at timestamptz,
    -- The digest of the token with which the client manages its registration (RFC 7592).
    add column registration_digest bytea,
    add column registration_pepper_id text,
    add constraint oauth_clients_document_expires_at_check
        check ((kind = 'document') = (document_expires_at is not null)),
    add constraint oauth_clients_registration_digest_check
        check ((kind = 'dynamic') = (registration_digest is not null)
               and octet_length(registration_digest) = 32),
    add constraint oauth_clients_registration_pepper_id_check
        check ((registration_digest is null) = (registration_pepper_id is null));

-- The clients that count against the limit, and those that are swept.
create index oauth_clients_kind_created_at_idx on oauth_clients (kind, created_at)
    where kind <> 'registered';
