-- Limits that mean the same on one server and on ten. A row says when a bucket is full again; what is
-- full has no row. Nobody's data: subjects are digests, addresses or ids, and it may all be lost.
create unlogged table rate_limits (
    name    text        not null,
    subject uuid        not null,
    full_at timestamptz not null,
    constraint rate_limits_pkey primary key (name, subject)
);

-- What a sweep looks for.
create index rate_limits_full_at_idx on rate_limits (full_at);
