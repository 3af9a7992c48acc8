//! The session cookie as a credential. A browser may send several of its name: a host beside ours
//! can set one for both (RFC 6265 §8.6). They must never lock their person out.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use futures_util::future::join_all;

use crate::app::App;
use crate::domain::sessions;
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::http::auth::guards::{InSession, has_explicit_credential};
use crate::http::auth::identity::{identify_cookie, invalid_credential};
use crate::http::context::RequestContext;
use crate::http::{cookie, query, rate_limits, trusted_origin};
use crate::model::caller::{Identity, Person};
use crate::model::ids::{AccountId, SessionId};
use crate::model::key_format::KeyFormat;

/// How many values a request has looked up: whoever fills a header with them asks no more.
const MOST: usize = 16;

/// Whose session the cookies of a request prove; `None` where it brings none. Of several, those
/// that are no live session do not count.
///
/// # Errors
/// Unauthenticated where none is live, or where they are of several accounts: nobody should have to
/// guess which counted. Forbidden where a page that is not trusted would change something.
pub async fn identify_cookies(
    app: &App,
    context: &RequestContext,
    parts: &Parts,
) -> Result<Option<Identity>> {
    let mut values = cookie::values(&parts.headers, app);
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
    let Some(one) = live.first().cloned() else {
        return Err(invalid_credential(AuthFailure::InvalidToken));
    };
    let account = |identity: &Identity| identity.person.as_ref().map(|person| person.account);
    let is_of_one = live.iter().all(|identity| account(identity) == account(&one));
    if changes {
        if !is_of_one {
            trusted_origin::check(&parts.headers, app)?;
        }
        let _ = context.cookie_sessions.set(live);
    }
    if is_of_one {
        return Ok(Some(one));
    }
    let message = "The request brings several session cookies, of different accounts; sign in or \
                   out to end the others";
    Err(Error::unauthenticated(AuthFailure::InvalidToken, message))
}

/// The sessions that are live of several values, in the order of these: of more than [`MOST`], the
/// last, since a browser sends the cookies of single paths first.
async fn live_identities<'a>(
    app: &App,
    context: &RequestContext,
    values: impl Iterator<Item = &'a str>,
) -> Result<Vec<Identity>> {
    let format = KeyFormat::session_token();
    let values: Vec<&str> = values.filter(|value| format.matches(value)).collect();
    let mut asked = BTreeSet::new();
    for value in values.into_iter().rev() {
        if asked.len() == MOST {
            break;
        }
        asked.insert(value);
    }
    let answers = asked.into_iter().map(|value| identify_cookie(app, context, value));
    let live = join_all(answers).await.into_iter().filter_map(|answer| match answer {
        Err(error) if matches!(error.kind(), ErrorKind::Unauthenticated(_)) => None,
        answer => Some(answer),
    });
    live.collect()
}

/// Ends the sessions of other accounts whose cookies a sign-in to `account` brings: the browser may
/// go on sending them beside the new one.
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
    let proven = context.cookie_sessions.get().cloned().unwrap_or_default().into_iter();
    let sessions = proven.filter_map(|identity| InSession::from_identity(identity).ok());
    sessions.map(|InSession { person, session, .. }| (person, session)).collect()
}

/// Guard: a person who signs out, with every session that the request proves. Where it proves none,
/// its cookie is cleared all the same.
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
        let found = find_sign_out_sessions(parts, app).await;
        found.map_err(|error| (clear_cookie_headers(parts, app, &error), error))
    }
}

async fn find_sign_out_sessions(parts: &mut Parts, app: &App) -> Result<SignOutSessions> {
    let context = RequestContext::from_request_parts(parts, app).await?;
    let several = cookie_sessions(&context);
    if let (Some(identities), [_, _, ..]) = (context.cookie_sessions.get(), &*several) {
        trusted_origin::check(&parts.headers, app)?;
        for identity in identities.iter().take(1) {
            rate_limits::count_person_first(app, &context, identity)?;
        }
        query::require_known(&parts.extensions)?;
        return Ok(SignOutSessions(several));
    }
    let InSession { person, session, .. } = InSession::from_request_parts(parts, app).await?;
    Ok(SignOutSessions(vec![(person, session)]))
}

/// What clears the cookie of a request that was refused because its session is over.
fn clear_cookie_headers(parts: &Parts, app: &App, error: &Error) -> HeaderMap {
    let is_over =
        matches!(error.kind(), ErrorKind::Unauthenticated(_)) && !has_explicit_credential(parts);
    let brings_one = is_over && cookie::values(&parts.headers, app).next().is_some();
    let clearing = brings_one.then(|| (header::SET_COOKIE, cookie::clear_cookie_header(app)));
    clearing.into_iter().collect()
}
