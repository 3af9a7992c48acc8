//! Apps: OAuth clients that organizations register.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use url::Url;

use crate::model::ValidationError;
use crate::model::ids::{AppId, AppSecretId, MembershipId, OrganizationId};
use crate::model::names::AppName;
use crate::model::oauth::client_keys::ClientKeys;
use crate::model::oauth::redirect_uri::RedirectUri;
use crate::model::oauth::{
    ApplicationType, ClientAuthMethod, ClientKind, ClientVisibility, IdTokenAlgorithm,
    OFFLINE_ACCESS, OpenidScope, RequestableScopes,
};
use crate::model::scope::Scope;
use crate::model::secret::Digest;

/// The maximum number of secrets of an app that are valid at the same time: one, and its successor
/// during a rotation.
pub const MAX_SECRETS: i64 = 2;
/// The maximum length of the URI of an app's home page, in bytes.
const MAX_URI_LENGTH: usize = 2_048;

/// An app of an organization or, in the operator's list, a client of any other kind.
#[derive(Clone, Debug)]
pub struct OauthApp {
    /// Its id, whose text is its `client_id` unless that is the URL of a metadata document.
    pub id: AppId,
    /// Its public id.
    pub client_id: String,
    /// How it came to be known.
    pub kind: ClientKind,
    /// The public id of its organization.
    pub organization_handle: String,
    /// Its name.
    pub name: String,
    /// Its home page.
    pub client_uri: Option<String>,
    /// Where the responses to its requests may be sent.
    pub redirect_uris: Vec<RedirectUri>,
    /// Where it runs.
    pub application_type: ApplicationType,
    /// How it authenticates.
    pub auth_method: ClientAuthMethod,
    /// The public keys of an app that authenticates with a private key.
    pub keys: Option<ClientKeys>,
    /// How its ID tokens are signed.
    pub id_token_algorithm: IdTokenAlgorithm,
    /// The scopes that it may request.
    pub scopes: Vec<String>,
    /// Who may grant access to it.
    pub visibility: ClientVisibility,
    /// When the operator published it.
    pub published_at: Option<DateTime<Utc>>,
    /// Since when the operator has disabled it.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Its secrets that are valid, oldest first.
    pub secrets: Vec<AppSecret>,
    /// The number of its grants that are live, in all organizations.
    pub grants: i64,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

impl OauthApp {
    /// Returns `disabled` or `active`.
    #[must_use]
    pub const fn status(&self) -> &'static str {
        if self.disabled_at.is_some() { "disabled" } else { "active" }
    }
}

/// A secret of an app.
#[derive(Clone, Debug)]
pub struct AppSecret {
    /// Its id.
    pub id: AppSecretId,
    /// The characters after the prefix that may be displayed.
    pub display_id: String,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it expires; `None` if it never does.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the app last authenticated with it.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// The attributes of an app to register.
pub struct AppSpec {
    /// Its name.
    pub name: AppName,
    /// Its home page.
    pub client_uri: Option<ClientUri>,
    /// Where the responses to its requests may be sent.
    pub redirect_uris: Vec<RedirectUri>,
    /// Where it runs.
    pub application_type: ApplicationType,
    /// How it authenticates.
    pub auth_method: ClientAuthMethod,
    /// The public keys, if and only if it authenticates with a private key.
    pub keys: Option<ClientKeys>,
    /// How its ID tokens are signed.
    pub id_token_algorithm: IdTokenAlgorithm,
    /// The scopes that it may request.
    pub scopes: Vec<AppScope>,
}

/// An app to insert.
pub struct NewApp<'a> {
    /// Its id.
    pub id: AppId,
    /// Its organization.
    pub organization: OrganizationId,
    /// Its attributes.
    pub spec: &'a AppSpec,
    /// The membership that registers it.
    pub created_by: MembershipId,
    /// When it is registered.
    pub created_at: DateTime<Utc>,
}

/// Changes to an app. `None` keeps the value.
#[derive(Default)]
pub struct AppChanges {
    /// Its name.
    pub name: Option<AppName>,
    /// Its home page; `Some(None)` removes it.
    pub client_uri: Option<Option<ClientUri>>,
    /// Where the responses to its requests may be sent.
    pub redirect_uris: Option<Vec<RedirectUri>>,
    /// Where it runs.
    pub application_type: Option<ApplicationType>,
    /// How it authenticates.
    pub auth_method: Option<ClientAuthMethod>,
    /// Its public keys.
    pub keys: Option<ClientKeys>,
    /// How its ID tokens are signed.
    pub id_token_algorithm: Option<IdTokenAlgorithm>,
    /// The scopes that it may request.
    pub scopes: Option<Vec<AppScope>>,
}

/// A secret to insert.
pub struct NewAppSecret<'a> {
    /// Its id.
    pub id: AppSecretId,
    /// The app.
    pub app: AppId,
    /// The app's organization.
    pub organization: OrganizationId,
    /// The digest of its text.
    pub digest: Digest,
    /// The id of the pepper of the digest.
    pub pepper_id: &'a str,
    /// The characters after the prefix that may be displayed.
    pub display_id: &'a str,
    /// When it is created.
    pub created_at: DateTime<Utc>,
    /// When it expires; `None` means never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// The URI of an app's home page, which consent pages link to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientUri(String);

impl ClientUri {
    /// Parses an `https` URI without user information.
    ///
    /// # Errors
    /// The text is not such a URI. The error states what is required.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        let url = Url::parse(text).ok();
        let is_plain = text.starts_with("https://") && text.bytes().all(|it| it.is_ascii_graphic());
        let is_valid = url.is_some_and(|url| {
            url.has_host() && url.username().is_empty() && url.password().is_none()
        });
        if is_plain && is_valid && text.len() <= MAX_URI_LENGTH {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("must be an https:// URI of at most {MAX_URI_LENGTH} characters").into())
        }
    }

    /// Returns it as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A scope that an app may request: a requestable one, one of `OpenID` Connect, or
/// `offline_access`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AppScope(String);

impl AppScope {
    /// Parses a scope that is requestable in this deployment.
    ///
    /// # Errors
    /// It is not requestable. The error lists the scopes that are.
    pub fn parse(text: &str, requestable: &RequestableScopes) -> Result<Self, ValidationError> {
        if requestable.allows(text) || text == OFFLINE_ACCESS {
            return Ok(Self(text.to_owned()));
        }
        let openid = OpenidScope::ALL.iter().map(|scope| scope.as_str());
        let allowed: Vec<&str> = openid.chain(requestable.iter().map(Scope::as_str)).collect();
        Err(format!("must be one of {}, {OFFLINE_ACCESS}", allowed.join(", ")).into())
    }

    /// Returns it as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the scopes as the database stores them.
#[must_use]
pub fn scopes_to_stored(scopes: &[AppScope]) -> Vec<String> {
    scopes.iter().map(|scope| scope.0.clone()).collect()
}

/// Returns whether no two of the texts are equal.
pub fn are_distinct<'a>(texts: impl IntoIterator<Item = &'a str>) -> bool {
    let mut seen = HashSet::new();
    texts.into_iter().all(|text| seen.insert(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_may_request_only_requestable_scopes_those_of_openid_connect_and_offline_access() {
        let requestable = RequestableScopes::with_operators(&[]);
        let allowed =
            ["projects:read", "user:write", "openid", "profile", "email", "offline_access"];
        for text in allowed {
            assert!(AppScope::parse(text, &requestable).is_ok(), "{text}");
        }
        for text in
            ["", "*", "projects:*", "apps:read", "apps:write", "api-keys:read", "x y", "address"]
        {
            assert!(AppScope::parse(text, &requestable).is_err(), "{text}");
        }
    }

    #[test]
    fn a_home_page_is_an_https_uri_without_user_information() {
        for text in ["https://app.example.com", "https://app.example.com/a?b#c"] {
            assert!(ClientUri::parse(text).is_ok(), "{text}");
        }
        let long = format!("https://app.example.com/{}", "a".repeat(MAX_URI_LENGTH));
        for text in [
            "",
            "http://app.example.com",
            "https://",
            "https://u@app.example.com",
            "https://app.example.com/a b",
            "javascript:alert(1)",
            &long,
        ] {
            assert!(ClientUri::parse(text).is_err(), "{text}");
        }
    }
}
