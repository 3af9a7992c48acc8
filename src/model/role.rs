//! Roles: what a person may do in an organization, whatever their credential's scopes say.
//!
//! The one table of it is [`Role::needed_for`]. An organization's own keys have no role: they need
//! the scope alone.

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

    /// The least role whose person may use `scope` (contract §6, the tenant routes).
    #[must_use]
    pub fn needed_for(scope: &str) -> Self {
        match scope {
            "organization:write" | "members:write" | "api-keys:read" | "api-keys:write"
            | "audit:read" | "billing:read" | "subscription:read" | "subscription:write" => {
                Self::Admin
            }
            _ => Self::Member,
        }
    }
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
}
