//! Why a person was not signed in.

/// Why a person was not signed in. The person sees the code and the sentence, and the
/// organization's audit log has both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignInRejection {
    /// The sign-in is unknown, of another browser, was used already, or has expired.
    State,
    /// The provider rejected the sign-in, or the person cancelled it.
    Denied,
    /// The provider did not respond, or not as it should.
    Provider,
    /// The provider states no e-mail address, or that it is not the person's.
    NoAddress,
    /// The domain of the address is not verified, and no invitation names it.
    Domain,
    /// The person is not a member, and new members need an invitation.
    NotMember,
    /// The membership of the person ended.
    MembershipEnded,
    /// Another person of the provider has the account of this address.
    AnotherSubject,
    /// The account must be linked by a mail first.
    LinkRequired,
    /// The plan allows no more members.
    SeatLimit,
    /// The account is not active.
    AccountInactive,
    /// The organization is suspended.
    OrganizationSuspended,
}

impl SignInRejection {
    /// Every reason.
    pub const ALL: [Self; 12] = [
        Self::State,
        Self::Denied,
        Self::Provider,
        Self::NoAddress,
        Self::Domain,
        Self::NotMember,
        Self::MembershipEnded,
        Self::AnotherSubject,
        Self::LinkRequired,
        Self::SeatLimit,
        Self::AccountInactive,
        Self::OrganizationSuspended,
    ];

    /// Returns the code, which several reasons share.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::State => "SSO_STATE_INVALID",
            Self::Denied => "SSO_DENIED",
            Self::Provider => "SSO_PROVIDER_ERROR",
            Self::NoAddress | Self::NotMember | Self::MembershipEnded | Self::AnotherSubject => {
                "SSO_IDENTITY_REJECTED"
            }
            Self::Domain => "SSO_DOMAIN_NOT_VERIFIED",
            Self::LinkRequired => "SSO_LINK_REQUIRED",
            Self::SeatLimit => "SSO_SEAT_LIMIT",
            Self::AccountInactive => "USER_NOT_ACTIVE",
            Self::OrganizationSuspended => "ORGANIZATION_SUSPENDED",
        }
    }

    /// Returns the name of the reason in the audit log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Denied => "denied",
            Self::Provider => "provider",
            Self::NoAddress => "no_address",
            Self::Domain => "domain",
            Self::NotMember => "not_member",
            Self::MembershipEnded => "membership_ended",
            Self::AnotherSubject => "another_subject",
            Self::LinkRequired => "link_required",
            Self::SeatLimit => "seat_limit",
            Self::AccountInactive => "account_inactive",
            Self::OrganizationSuspended => "organization_suspended",
        }
    }

    /// Returns what the person can do about the first reason with this code; `None` for another
    /// text.
    #[must_use]
    pub fn advice(code: &str) -> Option<&'static str> {
        let reason = Self::ALL.into_iter().find(|reason| reason.code() == code)?;
        Some(match reason {
            Self::State => {
                "This sign-in has expired, was used already, or began in another browser. Sign in \
                 again."
            }
            Self::Denied => "Your identity provider did not sign you in. Sign in again.",
            Self::Provider => {
                "Your identity provider did not respond as it should. Try again; if that does not \
                 help, ask an admin of your organization to look at the audit log."
            }
            Self::NoAddress | Self::NotMember | Self::MembershipEnded | Self::AnotherSubject => {
                "You are not a member of this organization. Ask an admin for an invitation; the \
                 audit log shows why you were not signed in."
            }
            Self::Domain => {
                "The domain of your e-mail address is not verified for this organization. Ask an \
                 admin to verify the domain, or to invite you."
            }
            Self::LinkRequired => {
                "An account with your e-mail address exists already. Accept an invitation of this \
                 organization with it first."
            }
            Self::SeatLimit => {
                "Your organization has no free seat. Ask an owner to change the plan, or to remove \
                 members."
            }
            Self::AccountInactive => {
                "Your account is not active. Ask the operator of this service."
            }
            Self::OrganizationSuspended => {
                "Your organization is suspended. Ask an owner, or the operator of this service."
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_an_advice_and_no_other_text_has() {
        assert!(SignInRejection::ALL.iter().all(|it| SignInRejection::advice(it.code()).is_some()));
        assert!(["", "state", "<b>"].iter().all(|it| SignInRejection::advice(it).is_none()));
    }
}
