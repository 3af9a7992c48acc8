//! The session cookie as a credential. A browser may send several cookies of its name, because a
//! sibling host can set one for both hosts (RFC 6265 §8.6). Such cookies must never lock an account
//! out.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use futures_util::future::join_all;

use crate::app::App;
use crate::domain::accounts::sessions;
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::http::auth::guards::{InAnySession, has_explicit_credential};
use crate::http::auth::identity::{identify_cookie, invalid_credential};
use crate::http::auth::session_cookie;
use crate::http::edge::context::RequestContext;
use crate::http::edge::{rate_limits, trusted_origin};
use crate::http::query;
use crate::model::caller::{Identity, Person};
use crate::model::ids::{AccountId, SessionId};
use crate::model::key_format::KeyFormat;

/// The maximum number of a request's cookie values that are looked up.
const MAX_LOOKUPS: usize = 16;

/// Identifies the account of a request's session cookies. Returns `None` if there is no cookie. Of
/// several cookies, those without a live session are ignored.
///
/// # Errors
/// Unauthenticated if no session is live, or if the sessions belong to several accounts. Forbidden
/// if they belong to several accounts, and a change comes from an origin that is not trusted.
pub async fn identify_cookies(
    app: &App,
    context: &RequestContext,
    parts: &Parts,
) -> Result<Option<Identity>> {
    let mut values = session_cookie::values(&parts.headers, app);
    let Some(first) = values.next() else { return Ok(None) };
    let changes = !trusted_origin::is_safe(&parts.method);
    let Some(second) = values.next() else {
        let identity = identify_cookie(app, context, first).await?;
        if changes {
            let _ = context.cookie_sessions.set(vec![identity.clone()]);
        }
        return Ok(Some(identity));
    };
    let live = live_identities(app, context, [first, second].into_iter().chain(values)).await?;
    let Some(identity) = live.first().cloned() else {
        return Err(invalid_credential(AuthFailure::InvalidToken));
    };
    let account = |identity: &Identity| identity.person.as_ref().map(|person| person.account);
    let is_one_account = live.iter().all(|other| account(other) == account(&identity));
    if changes {
        if !is_one_account {
            trusted_origin::check(&parts.headers, app)?;
        }
        let _ = context.cookie_sessions.set(live);
    }
    if is_one_account {
        return Ok(Some(identity));
    }
    let message = "The request has session cookies of different accounts; sign in or out to end \
                   the others";
    Err(Error::unauthenticated(AuthFailure::InvalidToken, message))
}

/// Returns the live sessions of several cookie values. Of more than [`MAX_LOOKUPS`] values the last
/// are looked up, because a browser sends the cookies of longer paths first.
async fn live_identities<'a>(
    app: &App,
    context: &RequestContext,
    values: impl Iterator<Item = &'a str>,
) -> Result<Vec<Identity>> {
    let formats = [KeyFormat::session_token(), KeyFormat::sso_session_token()];
    let is_token = |value: &&str| formats.iter().any(|format| format.matches(value));
    let values: Vec<&str> = values.filter(is_token).collect();
    let mut selected = BTreeSet::new();
    for value in values.into_iter().rev() {
        if selected.len() == MAX_LOOKUPS {
            break;
        }
        selected.insert(value);
    }
    let lookups = selected.into_iter().map(|value| identify_cookie(app, context, value));
    let live = join_all(lookups).await.into_iter().filter_map(|result| match result {
        Err(error) if matches!(error.kind(), ErrorKind::Unauthenticated(_)) => None,
        result => Some(result),
    });
    live.collect()
}

/// Ends the sessions of other accounts whose cookies were sent with a sign-in to `account`, because
/// the browser may continue to send them beside the new cookie.
pub async fn end_sessions_of_other_accounts(
    app: &App,
    context: &RequestContext,
    account: AccountId,
) -> Result<()> {
    let sessions = cookie_sessions(context).into_iter();
    let others = sessions.filter(|(person, _)| person.account != account).collect();
    SignOutSessions(others).end_sessions(app, context).await
}

fn cookie_sessions(context: &RequestContext) -> Vec<(Arc<Person>, SessionId)> {
    let identities = context.cookie_sessions.get().cloned().unwrap_or_default().into_iter();
    let sessions = identities.filter_map(|identity| InAnySession::from_identity(identity).ok());
    sessions.map(|InAnySession { person, session, .. }| (person, session)).collect()
}

/// Guard: every session of a request that signs out. If none is live, the rejection still clears
/// the cookie.
pub struct SignOutSessions(Vec<(Arc<Person>, SessionId)>);

impl SignOutSessions {
    /// Ends the sessions.
    pub async fn end_sessions(self, app: &App, context: &RequestContext) -> Result<()> {
        let audit = context.audit_context();
        for (person, session) in &self.0 {
            let end = async |tx: &mut _| sessions::sign_out(tx, person, *session, &audit).await;
            app.db.transaction(end).await?;
        }
        Ok(())
    }
}

impl FromRequestParts<App> for SignOutSessions {
    type Rejection = (HeaderMap, Error);

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Self::Rejection> {
        let result = find_sign_out_sessions(parts, app).await;
        result.map_err(|error| (clear_cookie_headers(parts, app, &error), error))
    }
}

async fn find_sign_out_sessions(parts: &mut Parts, app: &App) -> Result<SignOutSessions> {
    let context = RequestContext::from_request_parts(parts, app).await?;
    let several = cookie_sessions(&context);
    if let (Some(identities), [_, _, ..]) = (context.cookie_sessions.get(), &*several) {
        trusted_origin::check(&parts.headers, app)?;
        for identity in identities.iter().take(1) {
            rate_limits::count_account_first(app, &context, identity)?;
        }
        query::require_known(&parts.extensions)?;
        return Ok(SignOutSessions(several));
    }
    let InAnySession { person, session, .. } = InAnySession::from_request_parts(parts, app).await?;
    Ok(SignOutSessions(vec![(person, session)]))
}

/// Returns the header that clears the cookie of a request that was rejected because its session has
/// ended.
fn clear_cookie_headers(parts: &Parts, app: &App, error: &Error) -> HeaderMap {
    let has_ended =
        matches!(error.kind(), ErrorKind::Unauthenticated(_)) && !has_explicit_credential(parts);
    let has_cookie = has_ended && session_cookie::values(&parts.headers, app).next().is_some();
    let header = has_cookie.then(|| (header::SET_COOKIE, session_cookie::clear_cookie_header(app)));
    header.into_iter().collect()
}
