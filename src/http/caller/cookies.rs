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
use crate::error::{Error, Kind, Proof, Result};
use crate::http::caller::guards::{InSession, is_explicit};
use crate::http::caller::holder::{holder_of_cookie, refused};
use crate::http::context::RequestContext;
use crate::http::{cookie, limits, query, trusted_page};
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
pub async fn holder_of_cookies(
    app: &App,
    context: &RequestContext,
    parts: &Parts,
) -> Result<Option<Identity>> {
    let mut values = cookie::values(&parts.headers, app);
    let Some(first) = values.next() else { return Ok(None) };
    let changes = !trusted_page::is_safe(&parts.method);
    let Some(second) = values.next() else {
        let identity = holder_of_cookie(app, context, first).await?;
        if changes {
            let _ = context.cookie_sessions.set(vec![identity.clone()]);
        }
        return Ok(Some(identity));
    };
    let live = live_ones(app, context, [first, second].into_iter().chain(values)).await?;
    let Some(one) = live.first().cloned() else { return Err(refused(Proof::Token)) };
    let account = |identity: &Identity| identity.person.as_ref().map(|person| person.account);
    let is_of_one = live.iter().all(|identity| account(identity) == account(&one));
    if changes {
        if !is_of_one {
            trusted_page::check(&parts.headers, app)?;
        }
        let _ = context.cookie_sessions.set(live);
    }
    if is_of_one {
        return Ok(Some(one));
    }
    let message = "The request brings several session cookies, of different accounts; sign in or \
                   out to end the others";
    Err(Error::unauthenticated(Proof::Token, message))
}

/// The sessions that are live of several values, in the order of these: of more than [`MOST`], the
/// last, since a browser sends the cookies of single paths first.
async fn live_ones<'a>(
    app: &App,
    context: &RequestContext,
    values: impl Iterator<Item = &'a str>,
) -> Result<Vec<Identity>> {
    let format = KeyFormat::of_sessions();
    let values: Vec<&str> = values.filter(|value| format.recognises(value)).collect();
    let mut asked = BTreeSet::new();
    for value in values.into_iter().rev() {
        if asked.len() == MOST {
            break;
        }
        asked.insert(value);
    }
    let answers = asked.into_iter().map(|value| holder_of_cookie(app, context, value));
    let live = join_all(answers).await.into_iter().filter_map(|answer| match answer {
        Err(error) if matches!(error.kind(), Kind::Unauthenticated(_)) => None,
        answer => Some(answer),
    });
    live.collect()
}

/// Ends the sessions of other accounts whose cookies a sign-in to `account` brings: the browser may
/// go on sending them beside the new one.
///
/// # Errors
/// The database's own.
pub async fn end_sessions_of_others(
    app: &App,
    context: &RequestContext,
    account: AccountId,
) -> Result<()> {
    let sessions = sessions_of_cookies(context).into_iter();
    let others = sessions.filter(|(person, _)| person.account != account).collect();
    SigningOut(others).end(app, context).await
}

fn sessions_of_cookies(context: &RequestContext) -> Vec<(Arc<Person>, SessionId)> {
    let proven = context.cookie_sessions.get().cloned().unwrap_or_default().into_iter();
    let sessions = proven.filter_map(|identity| InSession::of(identity).ok());
    sessions.map(|InSession { person, session, .. }| (person, session)).collect()
}

/// Guard: a person who signs out, with every session that the request proves. Where it proves none,
/// its cookie is cleared all the same.
pub struct SigningOut(Vec<(Arc<Person>, SessionId)>);

impl SigningOut {
    /// Ends the sessions.
    ///
    /// # Errors
    /// The database's own.
    pub async fn end(self, app: &App, context: &RequestContext) -> Result<()> {
        let trail = context.trail();
        for (person, session) in &self.0 {
            let end = async |tx: &mut _| sessions::sign_out(tx, person, *session, &trail).await;
            app.db.transaction(end).await?;
        }
        Ok(())
    }
}

impl FromRequestParts<App> for SigningOut {
    type Rejection = (HeaderMap, Error);

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Self::Rejection> {
        let found = signing_out(parts, app).await;
        found.map_err(|error| (clearing(parts, app, &error), error))
    }
}

async fn signing_out(parts: &mut Parts, app: &App) -> Result<SigningOut> {
    let context = RequestContext::from_request_parts(parts, app).await?;
    let several = sessions_of_cookies(&context);
    if let (Some(identities), [_, _, ..]) = (context.cookie_sessions.get(), &*several) {
        trusted_page::check(&parts.headers, app)?;
        for identity in identities.iter().take(1) {
            limits::count_person_first(app, &context, identity)?;
        }
        query::require_known(&parts.extensions)?;
        return Ok(SigningOut(several));
    }
    let InSession { person, session, .. } = InSession::from_request_parts(parts, app).await?;
    Ok(SigningOut(vec![(person, session)]))
}

/// What clears the cookie of a request that was refused because its session is over.
fn clearing(parts: &Parts, app: &App, error: &Error) -> HeaderMap {
    let is_over = matches!(error.kind(), Kind::Unauthenticated(_)) && !is_explicit(parts);
    let brings_one = is_over && cookie::values(&parts.headers, app).next().is_some();
    let clearing = brings_one.then(|| (header::SET_COOKIE, cookie::clearing(app)));
    clearing.into_iter().collect()
}
