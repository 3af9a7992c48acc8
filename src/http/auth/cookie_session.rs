//! The session of an HTML page's visitor.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::app::App;
use crate::error::{Error, ErrorKind, Result};
use crate::http::auth::cookies::identify_cookies;
use crate::http::auth::guards::InAnySession;
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits::{self, count_account_first, count_anonymous};
use crate::model::rate_limit::RateLimit;

/// Guard: the session of a request's cookies, or `None` without a live one. Credentials in headers
/// are ignored: a proxy in front of the pages may require its own. Counts the request.
///
/// For safe methods only, and routes that accept no credential.
pub struct CookieSession(pub Option<InAnySession>);

impl FromRequestParts<App> for CookieSession {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let context = RequestContext::from_request_parts(parts, app).await?;
        match identify_cookies(app, &context, parts).await {
            Ok(Some(identity)) => {
                let _ = context.identity.set(identity.clone());
                count_account_first(app, &context, &identity)?;
                InAnySession::from_identity(identity).map(Some).map(Self)
            }
            Ok(None) => {
                count_anonymous(app, &context, &parts.headers)?;
                Ok(Self(None))
            }
            Err(error) if matches!(error.kind(), ErrorKind::Unauthenticated(_)) => {
                rate_limits::count_address(app, &context, RateLimit::UnknownKeys)?;
                Ok(Self(None))
            }
            Err(error) => Err(error),
        }
    }
}
