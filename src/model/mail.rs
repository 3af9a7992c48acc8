//! The kinds of mail, and the purposes of mailed links.

use chrono::TimeDelta;

use crate::model::ids::{InviteId, OrganizationId};
use crate::model::leak::LeakNotice;

/// The purpose of a mailed link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkPurpose {
    /// To verify the e-mail address.
    VerifyEmail,
    /// To set a new password, which also verifies the e-mail address.
    ResetPassword,
}

impl LinkPurpose {
    /// Returns the purpose's stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
        }
    }

    /// Returns how long a link is valid.
    #[must_use]
    pub const fn lifetime(self) -> TimeDelta {
        match self {
            Self::VerifyEmail => TimeDelta::hours(24),
            Self::ResetPassword => TimeDelta::hours(1),
        }
    }
}

/// A notice about the security of an account. An account can turn these mails off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityNotice {
    /// A sign-in from a network that was not used to sign in during the last 30 days.
    NewSignIn,
    /// The password was changed, or reset with a mailed link.
    PasswordChanged,
    /// A personal access token was created.
    TokenCreated,
    /// These mails were turned off.
    NoticesDisabled,
}

impl SecurityNotice {
    /// Every notice.
    pub const ALL: [Self; 4] =
        [Self::NewSignIn, Self::PasswordChanged, Self::TokenCreated, Self::NoticesDisabled];

    /// Returns the notice's stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NewSignIn => "new_sign_in",
            Self::PasswordChanged => "password_changed",
            Self::TokenCreated => "token_created",
            Self::NoticesDisabled => "security_mails_off",
        }
    }
}

/// A kind of mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailKind {
    /// A link for an account.
    Link(LinkPurpose),
    /// A sign-up used an e-mail address that already has an account.
    AlreadyRegistered,
    /// A notice about an account.
    Notice(SecurityNotice),
    /// The link of an invitation.
    Invite(InviteId),
    /// The link to the first key of an organization that was paid for.
    ClaimKey(OrganizationId),
    /// A paid checkout could not be fulfilled.
    CheckoutUnfulfilled,
    /// A key or token was reported as leaked.
    KeyLeaked,
    /// The members of an organization granted an app access for the first time.
    AppGranted,
    /// The DNS record of a verified domain is absent.
    DomainAbsent,
    /// A verified domain was lost.
    DomainLost,
}

impl MailKind {
    /// The stored names of all kinds.
    pub const NAMES: [&str; 14] = [
        LinkPurpose::VerifyEmail.as_str(),
        LinkPurpose::ResetPassword.as_str(),
        "already_registered",
        "invite",
        "claim_key",
        "checkout_unfulfilled",
        "key_leaked",
        "app_granted",
        "domain_absent",
        "domain_lost",
        SecurityNotice::NewSignIn.as_str(),
        SecurityNotice::PasswordChanged.as_str(),
        SecurityNotice::TokenCreated.as_str(),
        SecurityNotice::NoticesDisabled.as_str(),
    ];

    /// Parses a kind's stored name, with its invitation or organization if it needs one.
    #[must_use]
    pub fn parse(
        name: &str,
        invite: Option<InviteId>,
        claim_of: Option<OrganizationId>,
    ) -> Option<Self> {
        let all = [
            Self::Link(LinkPurpose::VerifyEmail),
            Self::Link(LinkPurpose::ResetPassword),
            Self::AlreadyRegistered,
            Self::CheckoutUnfulfilled,
            Self::KeyLeaked,
            Self::AppGranted,
            Self::DomainAbsent,
            Self::DomainLost,
        ];
        let about = invite.map(Self::Invite).into_iter().chain(claim_of.map(Self::ClaimKey));
        let notices = SecurityNotice::ALL.map(Self::Notice);
        let mut all = all.into_iter().chain(notices).chain(about);
        all.find(|kind| kind.as_str() == name)
    }

    /// Returns the invitation that the mail is about, if any.
    #[must_use]
    pub const fn invite(self) -> Option<InviteId> {
        match self {
            Self::Invite(invite) => Some(invite),
            Self::Link(_)
            | Self::AlreadyRegistered
            | Self::Notice(_)
            | Self::ClaimKey(_)
            | Self::CheckoutUnfulfilled
            | Self::KeyLeaked
            | Self::AppGranted
            | Self::DomainAbsent
            | Self::DomainLost => None,
        }
    }

    /// Returns the kind's stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Link(purpose) => purpose.as_str(),
            Self::AlreadyRegistered => "already_registered",
            Self::Notice(notice) => notice.as_str(),
            Self::Invite(_) => "invite",
            Self::ClaimKey(_) => "claim_key",
            Self::CheckoutUnfulfilled => "checkout_unfulfilled",
            Self::KeyLeaked => "key_leaked",
            Self::AppGranted => "app_granted",
            Self::DomainAbsent => "domain_absent",
            Self::DomainLost => "domain_lost",
        }
    }
}

/// A mail to send.
pub struct QueuedMail {
    /// Its kind.
    pub kind: MailKind,
    /// The recipient.
    pub address: String,
    /// The URL to which the browser is redirected after the link was used.
    pub callback_url: Option<String>,
    /// What a mail about a leaked key says.
    pub leak: Option<LeakNotice>,
    /// The public id of the organization that a mail about an app or a domain names.
    pub organization: Option<String>,
    /// The name of the domain that a mail about a domain names.
    pub domain: Option<String>,
}
