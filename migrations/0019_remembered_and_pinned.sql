-- Whether the browser is to keep the session's cookie when it closes: what follows the session keeps
-- to it.
alter table sessions add column is_remembered boolean not null default true;
alter table sessions alter column is_remembered drop default;

-- A pin is to a seat, not to an organization: who leaves and comes back has another seat. Null where
-- the seat was given up before.
alter table personal_tokens
    add column pinned_seat uuid,
    add constraint personal_tokens_pinned_seat_fkey
        foreign key (pinned_to, pinned_seat) references users (organization_id, id);
update personal_tokens t set pinned_seat = u.id from users u
    where u.organization_id = t.pinned_to and u.account_id = t.account_id and u.removed_at is null;
drop index personal_tokens_pinned_to_idx;
create index personal_tokens_pinned_to_pinned_seat_idx on personal_tokens (pinned_to, pinned_seat);
