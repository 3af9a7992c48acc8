//! What the database says of itself and of what the migrations left in it, for whoever wants to
//! know whether it is fit to be used.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::Result;

/// The server at the other end of a connection.
pub struct Server {
    /// Its version as a number, such as 150018.
    pub version_number: i32,
    /// Its version as text.
    pub version: String,
    /// Whether it only follows another one.
    pub is_standby: bool,
    /// Who we are there.
    pub role: String,
}

/// Who answers.
///
/// # Errors
/// The database's own.
pub async fn server(db: &mut PgConnection) -> Result<Server> {
    let server = sqlx::query_as!(
        Server,
        r#"select current_setting('server_version_num')::int as "version_number!",
                  split_part(current_setting('server_version'), ' ', 1) as "version!",
                  pg_is_in_recovery() as "is_standby!", current_user::text as "role!""#,
    )
    .fetch_one(db)
    .await?;
    Ok(server)
}

/// What time it is there.
///
/// # Errors
/// The database's own.
pub async fn time(db: &mut PgConnection) -> Result<DateTime<Utc>> {
    let time = sqlx::query_scalar!(r#"select clock_timestamp() as "time!""#).fetch_one(db).await?;
    Ok(time)
}

/// Whether the role behind the walls may do more than it should: it is a superuser, or passes them.
/// `None` where there is no such role.
///
/// # Errors
/// The database's own.
pub async fn tenant_role_is_mighty(db: &mut PgConnection) -> Result<Option<bool>> {
    let mighty = sqlx::query_scalar!(
        r#"select rolsuper or rolbypassrls as "mighty!" from pg_roles
           where rolname = 'tenantry_tenant'"#,
    )
    .fetch_optional(db)
    .await?;
    Ok(mighty)
}

/// Whether there is any organization, as far as whoever asks may see.
///
/// # Errors
/// The database's own.
pub async fn sees_organizations(db: &mut PgConnection) -> Result<bool> {
    let sees = sqlx::query_scalar!(r#"select exists (select from organizations) as "sees!""#);
    Ok(sees.fetch_one(db).await?)
}

/// Tables of ours whose owner is neither the role that asks nor one that it is a member of.
///
/// # Errors
/// The database's own.
pub async fn tables_of_others(db: &mut PgConnection) -> Result<Vec<String>> {
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
