//! Roles: what an account may do in an organization, in addition to its credential's scopes.
//!
//! [`PERMISSIONS`] is the table. An organization's own keys have no role: they need the scope
//! alone, except for changes of owners.

use crate::model::scope::BuiltInScope;

/// A person's role in one organization, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Works in it.
    Member,
    /// Runs it: its members and its keys.
    Admin,
    /// Owns it: may delete it and make others owners.
    Owner,
}

impl Role {
    /// Reads a role.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Member, Self::Admin, Self::Owner].into_iter().find(|role| role.as_str() == word)
    }

    /// The role's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// The lowest role that may use `scope`, where no permission of its own applies: that of the
    /// first permission with the scope. Owner for a scope without a row.
    #[must_use]
    pub fn required_for(scope: BuiltInScope) -> Self {
        let right = PERMISSIONS.iter().find(|right| right.scopes.contains(&scope));
        right.map_or(Self::Owner, Permission::minimum_role)
    }
}

/// A row of the table: what scopes permit in an organization, and for which role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Any of these is needed, for reading or for writing.
    pub scopes: &'static [BuiltInScope],
    /// What they open.
    pub description: &'static str,
    /// The lowest sufficient role; `None` for one's own membership.
    pub role: Option<Role>,
    /// Whether it is for sessions only.
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
    /// Changing owners. Scopes alone are not sufficient for a key.
    pub const CHANGE_OWNERS: Self = Self::new(
        &[BuiltInScope::MembersWrite],
        "adding, changing and removing owners",
        Role::Owner,
    );
    /// Ending one's own membership.
    pub const LEAVE: Self = Self::new(&[BuiltInScope::MembersWrite], "leaving", Role::Member);

    const fn new(scopes: &'static [BuiltInScope], opens: &'static str, role: Role) -> Self {
        Self { scopes, description: opens, role: Some(role), session_only: false }
    }

    /// Returns the lowest sufficient role.
    #[must_use]
    pub fn minimum_role(&self) -> Role {
        self.role.unwrap_or(Role::Member)
    }
}

/// The permissions in an organization (contract §6, the tenant routes). A scope's first row is its
/// usual one.
pub const PERMISSIONS: [Permission; 14] = [
    Permission::new(
        &[BuiltInScope::OrganizationRead],
        "reading the organization and one's own membership",
        Role::Member,
    ),
    Permission::new(
        &[BuiltInScope::OrganizationWrite],
        "changing its name and allowed origins",
        Role::Admin,
    ),
    Permission::DELETE_ORGANIZATION,
    Permission::new(&[BuiltInScope::MembersRead], "members", Role::Member),
    Permission::READ_INVITES,
    Permission::new(&[BuiltInScope::MembersWrite], "roles, removal, invitations", Role::Admin),
    Permission::CHANGE_OWNERS,
    Permission::LEAVE,
    Permission::new(
        &[BuiltInScope::ApiKeysRead, BuiltInScope::ApiKeysWrite],
        "the organization's keys",
        Role::Admin,
    ),
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

/// The table in Markdown, for the API document.
#[must_use]
pub fn markdown_table() -> String {
    let head = "| scope | what it allows in an organization | lowest role |\n|---|---|---|\n";
    let lines = PERMISSIONS.iter().map(|right| {
        let scopes: Vec<_> = right.scopes.iter().map(|scope| format!("`{scope}`")).collect();
        let where_to = if right.session_only { ", in a session" } else { "" };
        let role = right.role.map_or("", Role::as_str);
        format!("| {}{where_to} | {} | {role} |\n", scopes.join(", "), right.description)
    });
    std::iter::once(head.to_owned()).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_reads_back_as_itself_and_no_other_word_is_one() {
        for role in [Role::Member, Role::Admin, Role::Owner] {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        for word in ["", "Owner", "member,owner", "root"] {
            assert_eq!(Role::parse(word), None, "{word:?}");
        }
    }

    #[test]
    fn owners_may_what_admins_may_and_admins_what_members_may() {
        assert!(Role::Owner > Role::Admin && Role::Admin > Role::Member);
    }

    #[test]
    fn a_scope_s_first_line_is_the_usual_one_and_what_is_not_in_the_table_is_for_owners() {
        assert_eq!(Role::required_for(BuiltInScope::MembersRead), Role::Member);
        assert_eq!(Role::required_for(BuiltInScope::MembersWrite), Role::Admin);
        assert_eq!(Role::required_for(BuiltInScope::OrganizationWrite), Role::Admin);
        assert_eq!(Role::required_for(BuiltInScope::UserRead), Role::Member);
    }
}
