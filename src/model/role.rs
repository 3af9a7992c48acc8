//! Roles: what a person may do in an organization, whatever their credential's scopes say.
//!
//! The one table of it is [`RIGHTS`]. An organization's own keys have no role: they need the scope
//! alone, but for owners.

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

    /// The least role whose person may use `scope`, where no line of its own says otherwise: that
    /// of the scope's first. What the table does not know is for owners.
    #[must_use]
    pub fn needed_for(scope: &str) -> Self {
        let right = RIGHTS.iter().find(|right| right.scopes.contains(&scope));
        right.map_or(Self::Owner, Right::least_role)
    }
}

/// A line of the table: what scopes open in an organization, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// Any of these is needed, for reading or for writing.
    pub scopes: &'static [&'static str],
    /// What they open.
    pub opens: &'static str,
    /// The least role that goes with them; `None` for what is one's own.
    pub role: Option<Role>,
    /// Whether it is for sessions only.
    pub in_session: bool,
}

impl Right {
    /// Deleting the organization.
    pub const DELETE_ORGANIZATION: Self =
        Self { in_session: true, ..Self::of(&["organization:write"], "deleting it", Role::Owner) };
    /// Seeing whom it invites.
    pub const READ_INVITES: Self = Self::of(&["members:read"], "invitations", Role::Admin);
    /// What changes who owns it. Here scopes alone are not enough for a key.
    pub const CHANGE_OWNERS: Self =
        Self::of(&["members:write"], "making, changing and removing owners", Role::Owner);
    /// Giving up one's own seat.
    pub const LEAVE: Self = Self::of(&["members:write"], "leaving", Role::Member);

    const fn of(scopes: &'static [&'static str], opens: &'static str, role: Role) -> Self {
        Self { scopes, opens, role: Some(role), in_session: false }
    }

    /// The least role that goes with it.
    #[must_use]
    pub fn least_role(&self) -> Role {
        self.role.unwrap_or(Role::Member)
    }
}

/// Who may do what in an organization (contract §6, the tenant routes). A scope's first line is the
/// usual one.
pub const RIGHTS: [Right; 14] = [
    Right::of(&["organization:read"], "the organization, one's own membership", Role::Member),
    Right::of(&["organization:write"], "its name and allowed origins", Role::Admin),
    Right::DELETE_ORGANIZATION,
    Right::of(&["members:read"], "members", Role::Member),
    Right::READ_INVITES,
    Right::of(&["members:write"], "roles, removal, invitations", Role::Admin),
    Right::CHANGE_OWNERS,
    Right::LEAVE,
    Right::of(&["api-keys:read", "api-keys:write"], "the organization's keys", Role::Admin),
    Right::of(&["audit:read"], "the trail", Role::Admin),
    Right::of(&["billing:read"], "payments, `/v1/organization/usage`", Role::Admin),
    Right::of(&["usage:read"], "usage on a dashboard", Role::Member),
    Right::of(&["projects:read", "projects:write"], "projects", Role::Member),
    Right {
        scopes: &["user:read", "user:write"],
        opens: "one's own account, at `/api/user/me`",
        role: None,
        in_session: false,
    },
];

/// The table as people read it, in Markdown.
#[must_use]
pub fn table() -> String {
    let head = "| scope | what it opens in an organization | least role |\n|---|---|---|\n";
    let lines = RIGHTS.iter().map(|right| {
        let scopes: Vec<_> = right.scopes.iter().map(|scope| format!("`{scope}`")).collect();
        let where_to = if right.in_session { ", in a session" } else { "" };
        let role = right.role.map_or("", Role::as_str);
        format!("| {}{where_to} | {} | {role} |\n", scopes.join(", "), right.opens)
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
        assert_eq!(Role::needed_for("members:read"), Role::Member);
        assert_eq!(Role::needed_for("members:write"), Role::Admin);
        assert_eq!(Role::needed_for("organization:write"), Role::Admin);
        assert_eq!(Role::needed_for("user:read"), Role::Member);
        assert_eq!(Role::needed_for("trademarks:read"), Role::Owner);
    }
}
