//! `GET` and `POST /oauth2/userinfo` (`OpenID` Connect Core §5.3).

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::oauth::userinfo;
use crate::error::Result;
use crate::http::auth::OpenidScoped;
use crate::http::render::oauth::{
    BadRequest, InsufficientScope, InvalidToken, NoSuchRoute, Unavailable,
};
use crate::http::switches::OauthIsOn;
use crate::model::account::Account;
use crate::model::oauth::OpenidScope;
use crate::model::role::Role;

/// What the token's scopes let the app know about the person.
#[derive(Serialize, ToSchema)]
#[schema(as = oauth::UserInfo)]
pub struct UserInfo {
    /// The id of the account, as in ID tokens.
    #[schema(examples("acc_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    sub: String,
    /// The person's name, with the scope `profile`. Absent if they have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("Ann Example"))]
    name: Option<String>,
    /// When the account was last changed, in seconds since 1970, with the scope `profile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples(1_751_360_400))]
    updated_at: Option<i64>,
    /// The person's e-mail address, with the scope `email`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("ann@example.com"))]
    email: Option<String>,
    /// Whether the person has proven that the address is theirs, with the scope `email`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples(true))]
    email_verified: Option<bool>,
    /// The organization of the grant. Absent if it is about the account alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("org_79d0fHwDRh"))]
    organization_id: Option<String>,
    /// The person's role in that organization: `owner`, `admin` or `member`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("member"))]
    organization_role: Option<&'static str>,
}

impl UserInfo {
    fn new(account: Account, token: &OpenidScoped) -> Self {
        let has_profile = token.scopes.contains(&OpenidScope::Profile);
        let has_email = token.scopes.contains(&OpenidScope::Email);
        let organization = token.caller.as_deref();
        Self {
            sub: account.id.to_string(),
            name: account.name.filter(|_| has_profile),
            updated_at: has_profile.then(|| account.updated_at.timestamp()),
            email: has_email.then_some(account.email),
            email_verified: has_email.then_some(account.is_proven),
            organization_id: organization.map(|it| it.organization_handle.clone()),
            organization_role: organization.and_then(|it| it.role).map(Role::as_str),
        }
    }
}

/// Show the person for whom an access token acts.
///
/// Only an OAuth access token for this API, in the `Authorization` header, is accepted. It needs
/// the scope `openid`.
#[utoipa::path(get, path = "/oauth2/userinfo", operation_id = "getUserInfo", tag = "oauth",
    security(("oauth_token" = [])),
    responses((status = 200, description = "The person.", body = UserInfo), BadRequest,
              InvalidToken, InsufficientScope, NoSuchRoute, Unavailable))]
pub(super) async fn show(
    State(app): State<App>,
    _: OauthIsOn,
    token: OpenidScoped,
) -> Result<Json<UserInfo>> {
    let account = userinfo::find_account(&app, token.person.account).await?;
    Ok(Json(UserInfo::new(account, &token)))
}

/// Show the person for whom an access token acts, with POST.
///
/// The token must be in the `Authorization` header. A body is ignored.
#[utoipa::path(post, path = "/oauth2/userinfo", operation_id = "getUserInfoByPost", tag = "oauth",
    security(("oauth_token" = [])),
    responses((status = 200, description = "The person.", body = UserInfo), BadRequest,
              InvalidToken, InsufficientScope, NoSuchRoute, Unavailable))]
pub(super) async fn show_by_post(
    app: State<App>,
    switch: OauthIsOn,
    token: OpenidScoped,
) -> Result<Json<UserInfo>> {
    show(app, switch, token).await
}
