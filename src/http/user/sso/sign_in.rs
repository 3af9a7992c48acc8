//! `/api/auth/identify`, `/api/auth/sign-in/sso`, `/api/auth/sso/start`: how a person signs in, and
//! the start of a sign-in with the identity provider of an organization.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::sso::sign_in::{self, SignInTarget};
use crate::error::{ErrorKind, Result};
use crate::http::auth::CountedRequest;
use crate::http::body::{Fields, FromFields, JsonBody, JsonNode, text};
use crate::http::browser_cookie::BrowserCookies;
use crate::http::edge::rate_limits::{RateLimitByAddress, SignInLimit};
use crate::http::edge::trusted_origin::{self, FromTrustedOrigin};
use crate::http::query::Query;
use crate::http::render::user::{
    BadRequest, Forbidden, NotFound, TooLarge, Unavailable, UnsupportedMediaType,
};
use crate::http::shown_once::{ShownOnce, see_other};
use crate::http::switches::SsoIsOn;
use crate::http::user::responses::Success;
use crate::http::user::sso::pages::{self, StartPage};
use crate::model::ValidationError;
use crate::model::email::Email;
use crate::model::ids::ConnectionId;
use crate::model::organization_handle::OrganizationHandle;
use crate::model::sso::sign_in_rejection::SignInRejection;

/// The path at which a sign-in starts.
const START_PATH: &str = "/api/auth/sso/start";

/// An address.
#[derive(ToSchema)]
#[schema(as = user::IdentifyRequest)]
pub struct IdentifyRequest {
    #[schema(value_type = String, format = Email, examples("you@acme.example"))]
    email: Email,
}

impl FromFields for IdentifyRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { email: fields.required("email", text(Email::parse))? })
    }
}

/// How to sign in with an address.
#[derive(Serialize, ToSchema)]
#[schema(as = user::SignInMethod)]
#[serde(rename_all = "camelCase")]
pub struct SignInMethod {
    /// `sso` if an organization has verified the domain of the address and has an active connection
    /// to its identity provider; otherwise `password`. Accounts do not matter.
    #[schema(examples("sso"))]
    method: &'static str,
    /// The page to send the browser to; null for `password`.
    #[schema(
        required,
        examples(
            "https://api.example.com/api/auth/sso/start?connectionId=\
                                 conn_01JZ3VQ0Xb1cT4yW8mK2pa&login_hint=you%40acme.example"
        )
    )]
    sign_in_url: Option<String>,
}

/// Find out how to sign in with an address. Does not say whether an account has it.
#[utoipa::path(post, path = "/api/auth/identify", operation_id = "identify", tag = "user",
    request_body = IdentifyRequest,
    responses((status = 200, description = "How to sign in.", body = Success<SignInMethod>),
              BadRequest, Forbidden, NotFound, TooLarge, UnsupportedMediaType, Unavailable))]
pub(in crate::http::user) async fn identify(
    _: SsoIsOn,
    State(app): State<App>,
    _: FromTrustedOrigin,
    _: RateLimitByAddress<SignInLimit>,
    JsonBody { value: IdentifyRequest { email }, .. }: JsonBody<IdentifyRequest>,
) -> Result<Success<SignInMethod>> {
    let address = email.as_str().to_owned();
    let connection = sign_in::find_connection(&app, &SignInTarget::Address(email)).await;
    let sign_in_url = match connection {
        Ok(connection) => {
            let mut url = app.config.http.public_url.clone();
            url.set_path(START_PATH);
            url.query_pairs_mut()
                .append_pair("connectionId", &connection.id.to_string())
                .append_pair("login_hint", &address);
            Some(url.into())
        }
        Err(error) if *error.kind() == ErrorKind::SsoNotConfigured => None,
        Err(error) => return Err(error),
    };
    let method = if sign_in_url.is_some() { "sso" } else { "password" };
    Ok(Success::ok("Sign-in method found", SignInMethod { method, sign_in_url }))
}

/// Where to sign in: exactly one of the first three.
#[derive(ToSchema)]
#[schema(as = user::SsoSignInRequest)]
#[expect(non_snake_case, reason = "the contract's names")]
pub struct SsoSignInRequest {
    /// An address whose domain the organization has verified.
    #[schema(value_type = Option<String>, format = Email, nullable = false,
             examples("you@acme.example"))]
    email: Option<Email>,
    #[schema(value_type = Option<String>, nullable = false, examples("org_79d0fHwDRh"))]
    organizationId: Option<String>,
    #[schema(value_type = Option<String>, nullable = false,
             examples("conn_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    connectionId: Option<String>,
    /// Where to redirect in the end: a path of this API or a URL of a trusted origin. Default: a
    /// page that says who is signed in.
    #[schema(max_length = 2048, examples("/welcome"))]
    callbackURL: Option<String>,
}

impl FromFields for SsoSignInRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let trusted = &fields.context.config.http.trusted_origins;
        let names = ["email", "organizationId", "connectionId"];
        if names.into_iter().filter(|name| fields.contains(name)).count() != 1 {
            let message = "must have exactly one of email, organizationId and connectionId";
            fields.add_body_issue(message);
        }
        let email = fields.non_null("email", text(Email::parse));
        let organization = fields.non_null("organizationId", JsonNode::into_string);
        let connection = fields.non_null("connectionId", JsonNode::into_string);
        let callback_url = fields.optional("callbackURL", text(|it| trusted.parse_callback(it)));
        Some(Self {
            email,
            organizationId: organization,
            connectionId: connection,
            callbackURL: callback_url,
        })
    }
}

impl SsoSignInRequest {
    /// Returns what the person says, and the address. A text that is not an id gives a connection
    /// that does not exist.
    fn target(self) -> (SignInTarget, Option<String>) {
        if let Some(email) = self.email {
            let address = email.as_str().to_owned();
            return (SignInTarget::Address(email), Some(address));
        }
        let organization = self.organizationId.and_then(|it| OrganizationHandle::parse(&it).ok());
        if let Some(organization) = organization {
            return (SignInTarget::Organization(organization), None);
        }
        (SignInTarget::Connection(parse_connection(self.connectionId.as_deref())), None)
    }
}

/// Returns the connection with this id, or for another text one that does not exist.
fn parse_connection(text: Option<&str>) -> ConnectionId {
    let none = ConnectionId::from_uuid(uuid::Uuid::nil());
    text.and_then(ConnectionId::parse).unwrap_or(none)
}

/// Where the sign-in continues.
#[derive(Serialize, ToSchema)]
#[schema(as = user::SsoSignIn)]
pub struct SsoSignIn {
    /// The page of the identity provider to send the browser to, within 10 minutes.
    #[schema(value_type = String, examples("https://idp.acme.example/authorize?client_id=tenantry&\
                                            response_type=code"))]
    url: ShownOnce,
}

/// Start to sign in with the identity provider of an organization. Only this browser can complete
/// it.
#[utoipa::path(post, path = "/api/auth/sign-in/sso", operation_id = "signInSso", tag = "user",
    request_body = SsoSignInRequest,
    responses((status = 200, description = "Where to send the browser; a cookie is set.",
               body = Success<SsoSignIn>),
              BadRequest, Forbidden, NotFound, TooLarge, UnsupportedMediaType, Unavailable))]
pub(in crate::http::user) async fn sign_in(
    _: SsoIsOn,
    State(app): State<App>,
    _: FromTrustedOrigin,
    _: RateLimitByAddress<SignInLimit>,
    browser: BrowserCookies,
    JsonBody { value: mut request, .. }: JsonBody<SsoSignInRequest>,
) -> Result<Response> {
    let callback_url = request.callbackURL.take();
    let (target, hint) = request.target();
    let connection = sign_in::find_connection(&app, &target).await?;
    let begin = async |digest| {
        let hints = (callback_url.as_deref(), hint.as_deref());
        let url = sign_in::begin(&app, &connection, digest, hints).await?;
        Ok(Success::ok("Continue at the identity provider", SsoSignIn { url: url.into() })
            .into_response())
    };
    browser.respond_with_cookie(&app, begin).await
}

/// Start to sign in with the identity provider of an organization, by a link: that of `identify`,
/// or the tile of a provider's portal (`OpenID` Connect Core §4).
///
/// A link of another site leads to a page first, which names the organization: it must not replace
/// the account that the browser is signed in to unnoticed.
#[utoipa::path(get, path = "/api/auth/sso/start", operation_id = "startSso", tag = "user",
    params(("connectionId" = String, Query, description = "The connection.",
            example = "conn_01JZ3VQ0Xb1cT4yW8mK2pa"),
           ("login_hint" = Option<String>, Query, example = "you@acme.example",
            description = "The address that the person probably signs in with."),
           ("iss" = Option<String>, Query, example = "https://idp.acme.example",
            description = "The issuer of the provider; if it is sent, it must be that of the \
                           connection.")),
    responses((status = 303, description = "To the page of the identity provider.",
               headers(("location" = String, description = "Where to."))),
              (status = 200, description = "From another site: an HTML page with a link that \
               continues.",
               body = String, content_type = "text/html; charset=utf-8"),
              (status = 403, description = "An HTML page: `iss` is not the connection's issuer.",
               body = String, content_type = "text/html; charset=utf-8"),
              (status = 404, description = "An HTML page: there is no such connection, or it is \
               not active.",
               body = String, content_type = "text/html; charset=utf-8"),
              BadRequest, Unavailable))]
pub(in crate::http::user) async fn start(
    _: SsoIsOn,
    State(app): State<App>,
    _: CountedRequest,
    browser: BrowserCookies,
    (headers, uri): (HeaderMap, Uri),
    mut query: Query,
) -> Result<Response> {
    let connection = query.optional("connectionId", any_text);
    let hint = query.optional("login_hint", any_text);
    let issuer = query.optional("iss", any_text);
    query.finish()?;
    let target = SignInTarget::Connection(parse_connection(connection.as_deref()));
    let connection = match sign_in::find_connection(&app, &target).await {
        Err(error) if *error.kind() == ErrorKind::SsoNotConfigured => {
            return Ok(pages::not_configured());
        }
        connection => connection?,
    };
    if issuer.is_some_and(|issuer| issuer != connection.issuer) {
        return Ok(pages::rejection(SignInRejection::Provider.code()));
    }
    if trusted_origin::is_cross_site(&headers) {
        let organization = sign_in::organization_name(&app, &connection).await?;
        let provider = connection.metadata.authorization_endpoint.host_str();
        let provider = provider.unwrap_or_default().to_owned();
        return Ok(StartPage { organization, provider, url: uri.to_string() }.into_response());
    }
    let begin = async |digest| {
        let url = sign_in::begin(&app, &connection, digest, (None, hint.as_deref())).await?;
        Ok(see_other(url))
    };
    browser.respond_with_cookie(&app, begin).await
}

/// Accepts a text of at most 512 characters.
pub(super) fn any_text(text: &str) -> Result<String, ValidationError> {
    if text.chars().count() > 512 {
        return Err("must be at most 512 characters long".into());
    }
    Ok(text.to_owned())
}
