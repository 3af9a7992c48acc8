//! Queries Postgres's catalog and settings, to check that a database is suitable.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::Result;

/// The Postgres server of a connection.
pub struct ServerInfo {
    /// Its version as a number, such as 150018.
    pub version_number: i32,
    /// Its version as text.
    pub version: String,
    /// Whether it is a standby.
    pub is_standby: bool,
    /// The current role.
    pub role: String,
}

/// Returns the server of this connection.
pub async fn server_info(db: &mut PgConnection) -> Result<ServerInfo> {
    let server = sqlx::query_as!(
        ServerInfo,
        r#"select current_setting('server_version_num')::int as "version_number!",
                  split_part(current_setting('server_version'), ' ', 1) as "version!",
                  pg_is_in_recovery() as "is_standby!", current_user::text as "role!""#,
    )
    .fetch_one(db)
    .await?;
    Ok(server)
}

/// Properties that the code relies on and that a connection cannot set for itself.
pub struct ServerProperties {
    /// The version as a number, such as 150018.
    pub version_number: i32,
    /// The encoding of the database, such as `UTF8`.
    pub encoding: String,
    /// Whether `lower` maps every ASCII letter to its ASCII lower case; in a Turkish collation it
    /// does not.
    pub folds_ascii: bool,
    /// Whether there is a current schema, in which tables are created.
    pub has_schema: bool,
    /// `session_replication_role`: triggers of the product only fire if it is `origin` or `local`.
    pub replication_role: String,
}

/// Returns the properties that the code relies on.
pub async fn server_properties(db: &mut PgConnection) -> Result<ServerProperties> {
    let properties = sqlx::query_as!(
        ServerProperties,
        r#"select current_setting('server_version_num')::int as "version_number!",
                  current_setting('server_encoding') as "encoding!",
                  lower('ABCDEFGHIJKLMNOPQRSTUVWXYZ') = 'abcdefghijklmnopqrstuvwxyz'
                      as "folds_ascii!",
                  current_schema() is not null as "has_schema!",
                  current_setting('session_replication_role') as "replication_role!""#,
    )
    .fetch_one(db)
    .await?;
    Ok(properties)
}

/// Returns the settings that are off, but must be on so that a crash loses no committed changes.
pub async fn disabled_durability_settings(db: &mut PgConnection) -> Result<Vec<String>> {
    let disabled = sqlx::query_scalar!(
        r#"select name as "name!" from pg_settings
           where name in ('fsync', 'synchronous_commit', 'full_page_writes') and setting = 'off'
           order by name"#,
    );
    Ok(disabled.fetch_all(db).await?)
}

/// Returns how many connections the server accepts from ordinary roles.
pub async fn max_connections(db: &mut PgConnection) -> Result<i32> {
    let connections = sqlx::query_scalar!(
        r#"select sum(case name when 'max_connections' then 1 else -1 end * setting::int)::int
               as "connections!"
           from pg_settings
           where name in ('max_connections', 'superuser_reserved_connections',
                          'reserved_connections')"#,
    );
    Ok(connections.fetch_one(db).await?)
}

/// Writes some pages into a table that is dropped at once, which fails if the disk is full. The
/// table is in the product's schema, since a role may lack the privilege to create temporary
/// tables. Returns false if the role may not create tables at all; then only the next change shows
/// whether the disk is full.
pub async fn try_write(db: &mut PgConnection) -> Result<bool> {
    let write = "create unlogged table tenantry_disk_probe as
                 select n, (select string_agg(md5(n::text || m::text), '')
                            from generate_series(1, 50) m)
                 from generate_series(1, 150) n;
                 drop table tenantry_disk_probe";
    match sqlx::raw_sql(write).execute(db).await {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42501") => Ok(false),
        written => Ok(written.map(|_| true)?),
    }
}

/// Blocks writes to every table until the transaction ends.
pub async fn lock_tables(db: &mut PgConnection) -> Result<()> {
    let lock = "do $$ declare held text; begin
                    for held in select format('%I', relname) from pg_class
                        where relkind in ('r', 'p')
                          and relnamespace = current_schema()::regnamespace
                        order by 1 loop
                        execute format('lock table %s in share mode', held);
                    end loop;
                end $$";
    sqlx::raw_sql(lock).execute(db).await?;
    Ok(())
}

/// Returns the numbers of organizations, accounts, keys and audit links.
pub async fn count_rows(db: &mut PgConnection) -> Result<[i64; 4]> {
    let rows = sqlx::query!(
        r#"select (select count(*) from organizations) as "organizations!",
                  (select count(*) from accounts) as "accounts!",
                  (select count(*) from api_keys) as "keys!",
                  (select count(*) from audit_links) as "links!""#,
    )
    .fetch_one(db)
    .await?;
    Ok([rows.organizations, rows.accounts, rows.keys, rows.links])
}

/// The transport of a connection to the database.
pub struct ConnectionTransport {
    /// Whether it is encrypted.
    pub is_encrypted: bool,
    /// The TLS version, such as `TLSv1.3`.
    pub protocol: Option<String>,
    /// Whether it never leaves the machine: a socket, or one address for both ends.
    pub is_local: bool,
}

/// Returns the transport of this connection; behind a pooler, of the pooler's connection.
pub async fn connection_transport(db: &mut PgConnection) -> Result<ConnectionTransport> {
    let transport = sqlx::query_as!(
        ConnectionTransport,
        r#"select coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false)
                      as "is_encrypted!",
                  (select version from pg_stat_ssl where pid = pg_backend_pid()) as protocol,
                  inet_server_addr() is null or inet_server_addr() = inet_client_addr()
                      as "is_local!""#,
    )
    .fetch_one(db)
    .await?;
    Ok(transport)
}

/// Returns the time of the database's clock.
pub async fn current_time(db: &mut PgConnection) -> Result<DateTime<Utc>> {
    let time = sqlx::query_scalar!(r#"select clock_timestamp() as "time!""#).fetch_one(db).await?;
    Ok(time)
}

/// Returns whether the role of tenant transactions bypasses row-level security or is a superuser,
/// `None` if the role does not exist.
pub async fn tenant_role_bypasses_rls(db: &mut PgConnection) -> Result<Option<bool>> {
    let bypasses_rls = sqlx::query_scalar!(
        r#"select rolsuper or rolbypassrls as "mighty!" from pg_roles
           where rolname = 'tenantry_tenant'"#,
    )
    .fetch_optional(db)
    .await?;
    Ok(bypasses_rls)
}

/// Returns whether any organization is visible to the current role.
pub async fn can_see_organizations(db: &mut PgConnection) -> Result<bool> {
    let sees = sqlx::query_scalar!(r#"select exists (select from organizations) as "sees!""#);
    Ok(sees.fetch_one(db).await?)
}

/// Returns tables of the product whose owner is neither the current role nor one that it is a
/// member of.
pub async fn list_tables_of_other_owners(db: &mut PgConnection) -> Result<Vec<String>> {
    let tables = sqlx::query_scalar!(
        r#"select c.relname::text as "table!" from pg_class c
           where c.relkind = 'r' and c.relnamespace = current_schema()::regnamespace
             and (c.relname = '_sqlx_migrations' or exists (
                  select from pg_policies p
                  where p.schemaname = current_schema() and p.tablename = c.relname
                    and p.roles = '{tenantry_tenant}'))
             and not pg_has_role(c.relowner, 'usage')
           order by 1"#,
    )
    .fetch_all(db)
    .await?;
    Ok(tables)
}
