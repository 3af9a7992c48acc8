-- What a tenant's own checks of a session read (0056).
grant select (pinned_to, ends_at) on sessions to tenantry_tenant;
