//! Memberships of people who sign in with single sign-on.

use sqlx::PgConnection;

use crate::error::Result;
use crate::model::ids::{AccountId, MembershipId, OrganizationId};
use crate::model::role::Role;

/// A membership, as a sign-in needs it.
pub struct SignInMember {
    /// Its internal id.
    pub id: MembershipId,
    /// Its public id.
    pub handle: String,
    /// Its role.
    pub role: Role,
    /// Whether the role was given by a connection, which may change it.
    pub has_role_of_connection: bool,
}

/// Returns the account's membership in the organization, and locks it until the transaction ends.
pub async fn lock(
    db: &mut PgConnection,
    organization: OrganizationId,
    account: AccountId,
) -> Result<Option<SignInMember>> {
    let row = sqlx::query!(
        r#"select id, handle, role, role_source is not null as "has_role_of_connection!"
           from users
           where account_id = $2 and organization_id = $1 and removed_at is null
           for no key update"#,
        organization.0,
        account.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| SignInMember {
        id: MembershipId(row.id),
        handle: row.handle,
        role: Role::from_stored(&row.role),
        has_role_of_connection: row.has_role_of_connection,
    }))
}

/// Sets the role that a connection gives a membership.
pub async fn set_role(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: MembershipId,
    role: Role,
) -> Result<()> {
    sqlx::query!(
        "update users set role = $3, role_source = 'sso'
         where id = $2 and organization_id = $1 and removed_at is null",
        organization.0,
        id.0,
        role.as_str(),
    )
    .execute(db)
    .await?;
    Ok(())
}
