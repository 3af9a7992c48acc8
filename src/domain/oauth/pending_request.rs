//! An authorization request that waits for the person's answer. It is stored, and the pages get
//! only its handle: nothing that the client asked for can be changed meanwhile. It belongs to the
//! browser that it came from and to the session that saw the page, can be answered once, and
//! expires.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use crate::app::App;
use crate::error::{Error, Result};
use crate::model::caller::Person;
use crate::model::ids::SessionId;
use crate::model::key_format::KeyFormat;
use crate::model::oauth::authorization_request::{AuthorizationRequest, Prompt, RequestedAccess};
use crate::model::oauth::authorization_response::{AuthorizationError, AuthorizationResponse};
use crate::model::oauth::client::OauthClient;
use crate::model::secret::{Digest, Secret};
use crate::repo::oauth_requests::NewRequest;
use crate::repo::{oauth_clients, oauth_requests, sessions};

/// For how long a request can be answered.
const LIFETIME: Duration = Duration::from_mins(10);

/// The query parameter with the handle of a page's request.
pub const REQUEST_PARAMETER: &str = "request";

/// What a person is asked: a client, and the access that it requests.
#[derive(Clone, Copy)]
pub struct AccessRequest<'a> {
    /// The client.
    pub client: &'a OauthClient,
    /// What it requests.
    pub access: &'a RequestedAccess,
    /// Where the person is sent afterwards; `None` if the client is a device.
    pub redirect_uri: Option<&'a str>,
}

/// An authorization request that was not answered yet.
pub struct PendingRequest {
    /// The client that made it.
    pub client: OauthClient,
    /// Its parameters.
    pub request: AuthorizationRequest,
    /// When it was made.
    pub received_at: DateTime<Utc>,
    /// The digest of its handle; `None` if it is not stored, because no page is needed.
    pub digest: Option<Digest>,
    /// The session in which its consent page was last shown.
    pub shown_in: Option<SessionId>,
}

impl PendingRequest {
    /// Returns what the person is asked.
    #[must_use]
    pub fn access_request(&self) -> AccessRequest<'_> {
        let AuthorizationRequest { access, target, .. } = &self.request;
        AccessRequest { client: &self.client, access, redirect_uri: Some(&target.redirect_uri) }
    }

    /// Returns the response to it with a code or an error.
    #[must_use]
    pub fn respond(
        &self,
        app: &App,
        outcome: Result<Secret, AuthorizationError>,
    ) -> AuthorizationResponse {
        AuthorizationResponse::new(&self.request.target, &app.config.oauth.issuer, outcome)
    }

    /// Returns whether the person must sign in before answering: the session has ended, or is older
    /// than the request allows.
    ///
    /// # Errors
    /// The errors of the database.
    pub async fn requires_sign_in(
        &self,
        db: &mut PgConnection,
        (person, session): (&Person, SessionId),
    ) -> Result<bool> {
        let Some(session) = sessions::find(db, person.account, session).await? else {
            return Ok(true);
        };
        let max_age = self.request.max_age.map(|seconds| TimeDelta::seconds(seconds.into()));
        let is_too_old = max_age.is_some_and(|age| self.received_at - session.created_at > age);
        let is_earlier = session.created_at < self.received_at;
        Ok(is_too_old || is_earlier && self.request.has_prompt(Prompt::Login))
    }
}

/// Stores a request for the browser with this cookie, and returns its handle.
///
/// # Errors
/// The errors of the database.
pub async fn store(app: &App, pending: &PendingRequest, browser: Digest) -> Result<Secret> {
    let handle = KeyFormat::oauth_request().generate(&*app.entropy);
    let new = NewRequest {
        digest: app.peppers.digest(handle.expose()).0,
        client: &pending.client,
        request: &pending.request,
        browser,
        created_at: pending.received_at,
        lifetime: LIFETIME,
    };
    app.db.run(async |db| oauth_requests::insert(db, &new).await).await?;
    Ok(handle)
}

/// Returns the path of a page about the request with this handle.
#[must_use]
pub fn page_path(page: &str, handle: &Secret) -> Secret {
    page_with(page, (REQUEST_PARAMETER, handle))
}

/// Returns the path or the URL of a page with a secret in a parameter of its query.
#[must_use]
pub fn page_with(page: &str, (name, value): (&str, &Secret)) -> Secret {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair(name, value.expose());
    let separator = if page.contains('?') { '&' } else { '?' };
    Secret::new(format!("{page}{separator}{}", query.finish()))
}

/// Returns the request with this handle, for a browser with a cookie that has one of these digests.
///
/// # Errors
/// Not found if the handle is unknown, or the request was answered or has expired, or its client
/// was disabled; forbidden in another browser.
pub async fn find(app: &App, handle: &Secret, browsers: &[Digest]) -> Result<PendingRequest> {
    if !KeyFormat::oauth_request().matches(handle.expose()) {
        return Err(no_such_request());
    }
    let digests = app.peppers.candidates(handle.expose());
    let found = app.db.run(async |db| {
        let Some(stored) = oauth_requests::find(db, &digests).await? else { return Ok(None) };
        let client = oauth_clients::find(db, &stored.client_id).await?;
        Ok(client.map(|client| (stored, client)))
    });
    let (stored, client) = found.await?.ok_or_else(no_such_request)?;
    if !browsers.contains(&stored.browser) {
        return Err(Error::forbidden("This request was made in another browser"));
    }
    Ok(PendingRequest {
        client,
        request: stored.request,
        received_at: stored.created_at,
        digest: Some(stored.digest),
        shown_in: stored.shown_in,
    })
}

/// Records in which session the consent page of a request is shown: from now on, only that one may
/// answer it. Someone else who signs in to the same browser is asked anew.
///
/// # Errors
/// The errors of the database.
pub async fn record_shown(app: &App, pending: &PendingRequest, session: SessionId) -> Result<()> {
    let Some(digest) = pending.digest else { return Ok(()) };
    app.db.run(async |db| oauth_requests::record_shown(db, digest, session).await).await
}

/// Records that a request is answered in a session; one that is not stored needs no record.
///
/// # Errors
/// Not found if it was answered or has expired; forbidden if its page was shown in another session.
pub async fn consume(
    tx: &mut PgConnection,
    pending: &PendingRequest,
    session: SessionId,
    at: DateTime<Utc>,
) -> Result<()> {
    if pending.shown_in.is_some_and(|shown_in| shown_in != session) {
        let message = "This page was shown to another account; reload it";
        return Err(Error::forbidden(message));
    }
    match pending.digest {
        Some(digest) if !oauth_requests::consume(tx, digest, at).await? => Err(no_such_request()),
        _ => Ok(()),
    }
}

fn no_such_request() -> Error {
    Error::not_found("This request was answered already, or has expired")
}
