//! The scopes that guards require, each as a type.

use crate::model::role::Permission;
use crate::model::scope::BuiltInScope;

/// A scope, as a type parameter of a guard.
pub trait RequiredScope {
    /// The scope.
    const SCOPE: BuiltInScope;
    /// The permission that is required beside the scope, if it is not the scope's usual one.
    const PERMISSION: Option<Permission> = None;
}

/// `organization:write`, for operations that only an owner may perform, and only in a session.
pub struct OwnerInSession;

impl RequiredScope for OwnerInSession {
    const SCOPE: BuiltInScope = BuiltInScope::OrganizationWrite;
    const PERMISSION: Option<Permission> = Some(Permission::DELETE_ORGANIZATION);
}

/// `members:read`, for the list of invitations.
pub struct InvitesRead;

impl RequiredScope for InvitesRead {
    const SCOPE: BuiltInScope = BuiltInScope::MembersRead;
    const PERMISSION: Option<Permission> = Some(Permission::READ_INVITES);
}

/// `organization:read`, for the app policy.
pub struct AppPolicyRead;

impl RequiredScope for AppPolicyRead {
    const SCOPE: BuiltInScope = BuiltInScope::OrganizationRead;
    const PERMISSION: Option<Permission> = Some(Permission::READ_APP_POLICY);
}

/// `members:read`, for the list of what members granted to apps.
pub struct AppGrantsRead;

impl RequiredScope for AppGrantsRead {
    const SCOPE: BuiltInScope = BuiltInScope::MembersRead;
    const PERMISSION: Option<Permission> = Some(Permission::READ_APP_GRANTS);
}

/// `sso:write`, for operations on connections that only an owner may perform.
pub struct SsoControl;

impl RequiredScope for SsoControl {
    const SCOPE: BuiltInScope = BuiltInScope::SsoWrite;
    const PERMISSION: Option<Permission> = Some(Permission::CONTROL_SSO);
}

/// `members:write`, for operations of members on their own membership.
pub struct OwnMembership;

impl RequiredScope for OwnMembership {
    const SCOPE: BuiltInScope = BuiltInScope::MembersWrite;
    const PERMISSION: Option<Permission> = Some(Permission::LEAVE);
}

macro_rules! scopes {
    ($($name:ident,)*) => {$(
        #[doc = concat!("[`BuiltInScope::", stringify!($name), "`]")]
        pub struct $name;

        impl RequiredScope for $name {
            const SCOPE: BuiltInScope = BuiltInScope::$name;
        }
    )*};
}

scopes! {
    ApiKeysRead,
    ApiKeysWrite,
    AppsRead,
    AppsWrite,
    AuditRead,
    BillingRead,
    MembersRead,
    MembersWrite,
    OrganizationRead,
    OrganizationWrite,
    ProjectsRead,
    ProjectsWrite,
    SsoRead,
    SsoWrite,
    UsageRead,
    UserRead,
    UserWrite,
}
