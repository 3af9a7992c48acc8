-- Revokes the grants of one app ($1) or of all apps of an organization ($2). The audit log of an
-- account is that of its home organization, as long as the account is a member there.
with apps as (
    select id, name from oauth_clients
    where id = $1::uuid or (organization_id = $2::uuid and kind = 'registered')
    order by id for update
), ended as (
    update oauth_grants g set revoked_at = $3, updated_at = $3, revoked_reason = $4
    from apps
    where g.client_id = apps.id and g.revoked_at is null
    returning g.client_id, apps.name, g.account_id, g.organization_id
)
select e.client_id as "app!", e.name as "name!",
       coalesce(e.organization_id, o.id, $5::uuid) as "organization!", count(*) as "count!"
from ended e
left join accounts a on a.id = e.account_id and e.organization_id is null
left join (organizations o
           join users u on u.organization_id = o.id and u.removed_at is null)
    on o.id = a.home_organization_id and o.deleted_at is null and u.account_id = a.id
group by 3, 1, 2 order by 3, 1
