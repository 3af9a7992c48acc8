//! Roles. A role limits what an account may do in an organization, in addition to its credential's
//! scopes.
//!
//! [`PERMISSIONS`] is the table. An organization's own key has no role and needs only the scope,
//! with two kinds of exception: changing owners and permitting all apps require that an owner
//! created the key, and a `session_only` operation cannot be performed with a key.

use crate::model::scope::{BuiltInScope, Scope};

/// The role of a membership, from the lowest to the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May read the organization, its members and its usage, and manage projects.
    Member,
    /// May also manage settings, members, keys and apps, and read the audit log and payments.
    Admin,
    /// May also delete the organization and change its owners.
    Owner,
}

impl Role {
    /// Parses a role's wire name.
    #[must_use]
    pub fn parse(wire_name: &str) -> Option<Self> {
        [Self::Member, Self::Admin, Self::Owner].into_iter().find(|role| role.as_str() == wire_name)
    }

    /// Returns the role that is stored under this name. A name that this version does not know is
    /// the lowest role, because no role at all would permit everything.
    #[must_use]
    pub fn from_stored(name: &str) -> Self {
        Self::parse(name).unwrap_or(Self::Member)
    }

    /// Returns the role's wire name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// Returns the lowest role that may use `scope`, unless an operation names its own permission:
    /// the role of the first permission with the scope. Owner if no permission has the scope.
    #[must_use]
    pub fn required_for(scope: BuiltInScope) -> Self {
        let permission = PERMISSIONS.iter().find(|it| it.scopes.contains(&scope));
        permission.map_or(Self::Owner, Permission::minimum_role)
    }
}

impl Role {
    /// Returns whether the role is sufficient for every built-in scope that `scope` covers. A scope
    /// of the operator's own product covers none, so every role is sufficient for it.
    #[must_use]
    pub fn permits(self, scope: &Scope) -> bool {
        let built_in = BuiltInScope::ALL.iter().filter(|it| scope.covers(it.as_str()));
        built_in.into_iter().all(|it| self >= Self::required_for(*it))
    }
}

/// A row of the table: an operation in an organization, with the scopes and the role that it
/// requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The scopes that the row applies to. Each operation requires one of them.
    pub scopes: &'static [BuiltInScope],
    /// A description of the operation.
    pub description: &'static str,
    /// The lowest sufficient role; `None` for the caller's own account, which needs no role.
    pub role: Option<Role>,
    /// Whether the operation requires a session.
    pub session_only: bool,
}

impl Permission {
    /// Deleting the organization.
    pub const DELETE_ORGANIZATION: Self = Self {
        session_only: true,
        ..Self::new(&[BuiltInScope::OrganizationWrite], "deleting the organization", Role::Owner)
    };
    /// Listing invitations.
    pub const READ_INVITES: Self =
        Self::new(&[BuiltInScope::MembersRead], "invitations", Role::Admin);
    /// Adding, changing and removing owners. A key must have been created by an owner.
    pub const CHANGE_OWNERS: Self = Self::new(
        &[BuiltInScope::MembersWrite],
        "adding, changing and removing owners",
        Role::Owner,
    );
    /// Reading which apps the members may grant access to.
    pub const READ_APP_POLICY: Self = Self::new(
        &[BuiltInScope::OrganizationRead],
        "reading which apps members may use",
        Role::Admin,
    );
    /// Permitting the members to grant access to every app. A key must have been created by an
    /// owner. For the API description only: [`require_owner`] enforces it.
    ///
    /// [`require_owner`]: crate::model::caller::Caller::require_owner
    pub const PERMIT_ALL_APPS: Self = Self::new(
        &[BuiltInScope::OrganizationWrite],
        "letting members use all apps again",
        Role::Owner,
    );
    /// Listing what the members granted to apps.
    pub const READ_APP_GRANTS: Self =
        Self::new(&[BuiltInScope::MembersRead], "the apps that members use", Role::Admin);
    /// Activating, disabling and deleting connections to identity providers. A key must have been
    /// created by an owner.
    pub const CONTROL_SSO: Self = Self::new(
        &[BuiltInScope::SsoWrite],
        "activating, disabling and deleting connections",
        Role::Owner,
    );
    /// Ending one's own membership.
    pub const LEAVE: Self = Self::new(&[BuiltInScope::MembersWrite], "leaving", Role::Member);

    const fn new(scopes: &'static [BuiltInScope], description: &'static str, role: Role) -> Self {
        Self { scopes, description, role: Some(role), session_only: false }
    }

    /// Returns the lowest sufficient role.
    #[must_use]
    pub fn minimum_role(&self) -> Role {
        self.role.unwrap_or(Role::Member)
    }
}

/// The permissions in an organization. The first row with a scope applies, unless an operation
/// names another one.
pub const PERMISSIONS: [Permission; 20] = [
    Permission::new(
        &[BuiltInScope::OrganizationRead],
        "reading the organization and one's own membership",
        Role::Member,
    ),
    Permission::new(
        &[BuiltInScope::OrganizationWrite],
        "changing its name, allowed origins, leak policy, and which apps members may use",
        Role::Admin,
    ),
    Permission::READ_APP_POLICY,
    Permission::PERMIT_ALL_APPS,
    Permission::DELETE_ORGANIZATION,
    Permission::new(&[BuiltInScope::MembersRead], "members", Role::Member),
    Permission::READ_INVITES,
    Permission::READ_APP_GRANTS,
    Permission::new(
        &[BuiltInScope::MembersWrite],
        "roles, removal, invitations, revoking what apps may do",
        Role::Admin,
    ),
    Permission::CHANGE_OWNERS,
    Permission::LEAVE,
    Permission::new(
        &[BuiltInScope::ApiKeysRead, BuiltInScope::ApiKeysWrite],
        "the organization's keys",
        Role::Admin,
    ),
    Permission::new(
        &[BuiltInScope::AppsRead, BuiltInScope::AppsWrite],
        "the organization's apps (OAuth clients)",
        Role::Admin,
    ),
    Permission::new(
        &[BuiltInScope::SsoRead, BuiltInScope::SsoWrite],
        "single sign-on: connections and domains",
        Role::Admin,
    ),
    Permission::CONTROL_SSO,
    Permission::new(&[BuiltInScope::AuditRead], "the audit log", Role::Admin),
    Permission::new(
        &[BuiltInScope::BillingRead],
        "payments, `/v1/organization/usage`",
        Role::Admin,
    ),
    Permission::new(&[BuiltInScope::UsageRead], "usage on a dashboard", Role::Member),
    Permission::new(
        &[BuiltInScope::ProjectsRead, BuiltInScope::ProjectsWrite],
        "projects",
        Role::Member,
    ),
    Permission {
        scopes: &[BuiltInScope::UserRead, BuiltInScope::UserWrite],
        description: "one's own account, at `/api/user/me`",
        role: None,
        session_only: false,
    },
];

/// Returns the table in Markdown, for the API description.
#[must_use]
pub fn markdown_table() -> String {
    let head = "| scope | what it allows in an organization | lowest role |\n|---|---|---|\n";
    let lines = PERMISSIONS.iter().map(|permission| {
        let scopes: Vec<_> = permission.scopes.iter().map(|scope| format!("`{scope}`")).collect();
        let session_note = if permission.session_only { ", in a session" } else { "" };
        let role = permission.role.map_or("", Role::as_str);
        format!("| {}{session_note} | {} | {role} |\n", scopes.join(", "), permission.description)
    });
    std::iter::once(head.to_owned()).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_role_that_is_not_known_is_the_lowest() {
        for (name, role) in [("owner", Role::Owner), ("member", Role::Member)] {
            assert_eq!(Role::from_stored(name), role);
        }
        for name in ["", "Owner", "auditor"] {
            assert_eq!(Role::from_stored(name), Role::Member);
        }
    }

    #[test]
    fn only_a_role_s_wire_name_parses_as_the_role() {
        for role in [Role::Member, Role::Admin, Role::Owner] {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        for word in ["", "Owner", "member,owner", "root"] {
            assert_eq!(Role::parse(word), None, "{word:?}");
        }
    }

    #[test]
    fn an_owner_is_higher_than_an_admin_and_an_admin_than_a_member() {
        assert!(Role::Owner > Role::Admin && Role::Admin > Role::Member);
    }

    #[test]
    fn a_scope_requires_the_role_of_its_first_permission() {
        assert_eq!(Role::required_for(BuiltInScope::MembersRead), Role::Member);
        assert_eq!(Role::required_for(BuiltInScope::MembersWrite), Role::Admin);
        assert_eq!(Role::required_for(BuiltInScope::OrganizationWrite), Role::Admin);
        assert_eq!(Role::required_for(BuiltInScope::UserRead), Role::Member);
    }
}
