//! What is mailed, and what a mailed link proves.

use chrono::TimeDelta;

use crate::model::ids::{InviteId, OrganizationId};

/// The purpose of a mailed link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkPurpose {
    /// Verifying the address.
    VerifyEmail,
    /// The same, and that they may choose a new password.
    ResetPassword,
}

impl LinkPurpose {
    /// The purpose's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
        }
    }

    /// How long a link works.
    #[must_use]
    pub const fn lifetime(self) -> TimeDelta {
        match self {
            Self::VerifyEmail => TimeDelta::hours(24),
            Self::ResetPassword => TimeDelta::hours(1),
        }
    }
}

/// Notices about an account, unless its owner has switched them off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityNotice {
    /// A sign-in from a network from which there was none in the last 30 days.
    NewSignIn,
    /// The password was changed, or another chosen by a mailed link.
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

    /// The notice's word.
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

/// What a mail is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailKind {
    /// It carries a link.
    Link(LinkPurpose),
    /// A sign-up with an address that already has an account.
    AlreadyRegistered,
    /// A notice about an account.
    Notice(SecurityNotice),
    /// It carries the link of an invitation.
    Invite(InviteId),
    /// It carries the link to the first key of an organization that was paid for.
    ClaimKey(OrganizationId),
    /// A paid checkout names an organization that it cannot be applied to.
    CheckoutUnfulfilled,
}

impl MailKind {
    /// The words of all kinds.
    pub const WORDS: [&str; 10] = [
        LinkPurpose::VerifyEmail.as_str(),
        LinkPurpose::ResetPassword.as_str(),
        "already_registered",
        "invite",
        "claim_key",
        "checkout_unfulfilled",
        SecurityNotice::NewSignIn.as_str(),
        SecurityNotice::PasswordChanged.as_str(),
        SecurityNotice::TokenCreated.as_str(),
        SecurityNotice::NoticesDisabled.as_str(),
    ];

    /// Reads a kind's word, and the invitation or the organization that goes with some of them.
    #[must_use]
    pub fn parse(
        word: &str,
        invite: Option<InviteId>,
        claim_of: Option<OrganizationId>,
    ) -> Option<Self> {
        let all = [
            Self::Link(LinkPurpose::VerifyEmail),
            Self::Link(LinkPurpose::ResetPassword),
            Self::AlreadyRegistered,
            Self::CheckoutUnfulfilled,
        ];
        let about = invite.map(Self::Invite).into_iter().chain(claim_of.map(Self::ClaimKey));
        let notices = SecurityNotice::ALL.map(Self::Notice);
        let mut all = all.into_iter().chain(notices).chain(about);
        all.find(|kind| kind.as_str() == word)
    }

    /// The invitation that it is about.
    #[must_use]
    pub const fn invite(self) -> Option<InviteId> {
        match self {
            Self::Invite(invite) => Some(invite),
            Self::Link(_)
            | Self::AlreadyRegistered
            | Self::Notice(_)
            | Self::ClaimKey(_)
            | Self::CheckoutUnfulfilled => None,
        }
    }

    /// The kind's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Link(purpose) => purpose.as_str(),
            Self::AlreadyRegistered => "already_registered",
            Self::Notice(notice) => notice.as_str(),
            Self::Invite(_) => "invite",
            Self::ClaimKey(_) => "claim_key",
            Self::CheckoutUnfulfilled => "checkout_unfulfilled",
        }
    }
}

/// A mail to send.
pub struct QueuedMail {
    /// What it is about.
    pub kind: MailKind,
    /// The recipient.
    pub address: String,
    /// Where following the link leads afterwards.
    pub callback_url: Option<String>,
}
