//! Types that several of this family's routes share.

use serde::Serialize;
use utoipa::ToSchema;

use crate::http::shown_once::ShownOnce;
use crate::http::wire::Timestamp;
use crate::model;
use crate::model::ids::{AccountId, SessionId};
use crate::model::key_format::KeyFormat;
use crate::model::role::Role;
use crate::model::secret::Secret;

/// An account, as its owner sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = user::User)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "two clients' names for one fact")]
pub struct User {
    #[schema(examples("acc_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    /// In lower case.
    #[schema(format = Email, examples("you@example.com"))]
    email: String,
    #[schema(required, examples("Your Name"))]
    full_name: Option<String>,
    /// A short name, unique in the deployment.
    #[schema(examples("yourname"))]
    handle: String,
    /// Whether the e-mail address is verified.
    is_verified: bool,
    #[schema(required)]
    verified_at: Option<Timestamp>,
    is_active: bool,
    #[schema(required)]
    last_login_at: Option<Timestamp>,
    #[schema(examples("user"))]
    role: &'static str,
    /// The number of organizations that the account is a member of.
    #[schema(examples(1))]
    organization_count: i64,
    /// Whether the account receives mails about its security.
    security_mails: bool,
    /// The same as `fullName`, but empty instead of null.
    #[schema(examples("Your Name"))]
    name: String,
    /// The same as `isVerified`.
    email_verified: bool,
    /// Always null: images are not stored.
    #[schema(required)]
    image: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<model::account::Account> for User {
    fn from(account: model::account::Account) -> Self {
        Self {
            id: account.id.to_string(),
            email: account.email,
            name: account.name.clone().unwrap_or_default(),
            email_verified: account.verified_at.is_some(),
            image: None,
            full_name: account.name,
            handle: account.handle,
            is_verified: account.verified_at.is_some(),
            verified_at: account.verified_at.map(Timestamp),
            is_active: account.is_active,
            last_login_at: account.last_login_at.map(Timestamp),
            role: "user",
            organization_count: account.organization_count,
            security_mails: account.security_mails,
            created_at: Timestamp(account.created_at),
            updated_at: Timestamp(account.updated_at),
        }
    }
}

/// An organization, as one of its members sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = user::Organization)]
#[serde(rename_all = "camelCase")]
pub struct Organization {
    #[schema(examples("org_79d0fHwDRh"))]
    id: String,
    #[schema(examples("Your Name"))]
    name: String,
    #[schema(examples("trial"))]
    plan: &'static str,
    /// `active` or `suspended`.
    #[schema(examples("active"))]
    status: &'static str,
    /// The caller's role: `owner`, `admin` or `member`; null for an organization key.
    #[schema(required, examples("owner"))]
    role: Option<&'static str>,
    /// The origins whose scripts may use the organization's keys in browsers; empty means any.
    allowed_origins: Vec<String>,
    /// What is done with a key that is reported as leaked: `notify`, `disable` or `revoke`.
    #[schema(examples("disable"))]
    leak_policy: &'static str,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<model::organization::Organization> for Organization {
    fn from(organization: model::organization::Organization) -> Self {
        Self {
            id: organization.handle,
            name: organization.name,
            plan: organization.plan.as_str(),
            status: if organization.is_suspended { "suspended" } else { "active" },
            role: organization.role.map(Role::as_str),
            allowed_origins: organization.allowed_origins,
            leak_policy: organization.leak_policy.as_str(),
            created_at: Timestamp(organization.created_at),
            updated_at: Timestamp(organization.updated_at),
        }
    }
}

/// A session of an account.
#[derive(Serialize, ToSchema)]
#[schema(as = user::Session)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    #[schema(examples("sess_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    /// Whether it is the session of this request.
    current: bool,
    #[schema(required, examples("192.0.2.7"))]
    ip_address: Option<String>,
    #[schema(required, examples("curl/8.5.0"))]
    user_agent: Option<String>,
    created_at: Timestamp,
    /// When it was last used, up to a minute behind.
    last_seen_at: Timestamp,
    updated_at: Timestamp,
    /// When it expires if it is not used until then.
    expires_at: Timestamp,
    /// The id of the account.
    #[schema(examples("acc_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    user_id: String,
    /// The same as `id`, for `revoke-session`. It is not a secret and authenticates nothing.
    #[schema(examples("sess_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    token: String,
}

impl Session {
    /// Describes a session of `account` to a caller in the session `current`.
    pub fn new(
        session: model::session::Session,
        (account, current): (AccountId, SessionId),
    ) -> Self {
        Self {
            id: session.id.to_string(),
            current: session.id == current,
            ip_address: session.address,
            user_agent: session.user_agent,
            created_at: Timestamp(session.created_at),
            last_seen_at: Timestamp(session.last_seen_at),
            updated_at: Timestamp(session.last_seen_at),
            expires_at: Timestamp(session.expires_at),
            user_id: account.to_string(),
            token: session.id.to_string(),
        }
    }
}

/// A new session: its account, and a bearer token to use instead of the cookie.
#[derive(Serialize, ToSchema)]
#[schema(as = user::SignedIn)]
pub struct SignInResponse {
    user: User,
    /// Always false: the client must not redirect.
    redirect: bool,
    /// The token for `Authorization: Bearer`, valid for a day or until the session ends. A replayed
    /// response does not contain it.
    #[serde(skip_serializing_if = "ShownOnce::is_hidden")]
    #[schema(value_type = Option<String>)]
    token: ShownOnce,
}

impl SignInResponse {
    /// Describes a session that was just started.
    pub fn new(account: model::account::Account, token: Secret) -> Self {
        Self { user: account.into(), redirect: false, token: token.into() }
    }
}

/// A secret of an app, without its text.
#[derive(Serialize, ToSchema)]
#[schema(as = user::AppSecret)]
#[serde(rename_all = "camelCase")]
pub struct AppSecret {
    #[schema(examples("secret_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    /// The start of its text: the prefix and 4 characters.
    #[schema(examples("tnt_oauth_secret_LfbR"))]
    start: String,
    created_at: Timestamp,
    /// When the app last authenticated with it.
    #[schema(required)]
    last_used_at: Option<Timestamp>,
    /// Null if it never expires.
    #[schema(required)]
    expires_at: Option<Timestamp>,
}

impl From<model::oauth::app::AppSecret> for AppSecret {
    fn from(secret: model::oauth::app::AppSecret) -> Self {
        Self {
            id: secret.id.to_string(),
            start: key_start(KeyFormat::oauth_secret().prefix(), &secret.display_id),
            created_at: Timestamp(secret.created_at),
            last_used_at: secret.last_used_at.map(Timestamp),
            expires_at: secret.expires_at.map(Timestamp),
        }
    }
}

/// Returns the start of a key's or token's text, which identifies it: the prefix and 4 characters.
pub fn key_start(prefix: &str, display_id: &str) -> String {
    format!("{prefix}{}", display_id.get(..4).unwrap_or(display_id))
}
