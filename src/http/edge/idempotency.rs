//! The `Idempotency-Key` header: the first response to a change is stored, and replayed if the
//! request is repeated.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::TimeDelta;
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use utoipa::IntoParams;

use crate::app::App;
use crate::domain::idempotency::{FirstResponse, IdempotentOutcome, find_stored, run_once};
use crate::error::{Error, Issue, Location, Result};
use crate::http::body::RequestFingerprint;
use crate::http::edge::context::RequestContext;
use crate::http::shown_once::{JsonWithSecrets, to_stored_value};
use crate::model::ValidationError;
use crate::model::caller::{Caller, Person};
use crate::model::idempotency::{
    HEADER, IdempotencyKey, IdempotentRequest, OPERATOR_RESPONSE_LIFETIME, RESPONSE_LIFETIME,
    StoredResponse,
};
use crate::model::ids::OrganizationId;
use crate::model::master_scope::MasterScope;
use crate::model::timestamp;

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The header, for the API description.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "used only in the API description")]
pub struct IdempotencyHeader {
    /// Identifies this request. If the request is repeated within 24 hours, the stored response is
    /// sent again.
    #[param(
        rename = "Idempotency-Key",
        min_length = 1,
        max_length = 256,
        example = "rotate-2026-11"
    )]
    key: Option<String>,
}

fn header_issue(message: impl Into<Cow<'static, str>>) -> Issue {
    Issue::field("Idempotency-Key", message).with_location(Location::Header)
}

/// Extracts the optional idempotency key of a request.
pub struct Idempotency {
    key: Option<IdempotencyKey>,
    target: String,
    context: RequestContext,
    /// The response to replay, if [`Self::is_replay`] has read it.
    stored: OnceLock<StoredResponse>,
}

impl FromRequestParts<App> for Idempotency {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let mut values = parts.headers.get_all(HEADER).iter();
        let parse = |value: &HeaderValue| {
            let text = value.to_str().unwrap_or_default();
            IdempotencyKey::parse(text)
                .map_err(|ValidationError(message)| Error::invalid(vec![header_issue(message)]))
        };
        let key = values.next().map(parse).transpose()?;
        if values.next().is_some() {
            return Err(Error::invalid(vec![header_issue("must not be repeated")]));
        }
        let target = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        let context = RequestContext::from_request_parts(parts, app).await?;
        Ok(Self { key, target, context, stored: OnceLock::new() })
    }
}

impl Idempotency {
    /// Returns whether the request has an idempotency key.
    #[must_use]
    pub const fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Returns whether the idempotency key of the request is `text`.
    #[must_use]
    pub fn key_equals(&self, text: &str) -> bool {
        self.key.as_ref().is_some_and(|key| key.as_str() == text)
    }

    /// Runs `work` in one transaction, once for each idempotency key of the caller. A repetition of
    /// the request gets the stored response.
    ///
    /// # Errors
    /// The errors of `work` and of [`run_once`].
    pub async fn run<T: Serialize>(
        mut self,
        app: &App,
        caller: impl Into<IdempotencyOwner>,
        fingerprint: RequestFingerprint,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<ChangeResponse<T>>,
    ) -> Result<Response> {
        match self.execute(app, caller.into(), fingerprint, work).await? {
            IdempotentOutcome::FirstRequest(response) => Ok(response.into_response()),
            IdempotentOutcome::Replayed(stored) => Ok(replay(stored, &self.context)),
        }
    }

    /// Does the same as [`Self::run`] for a change with requirements that the route's guard does
    /// not check. `work` checks them for the first request, and `check` before a replay, because
    /// the caller may no longer meet them.
    ///
    /// # Errors
    /// The errors of `check` and of [`Self::run`].
    pub async fn run_checked<T: Serialize>(
        mut self,
        app: &App,
        caller: impl Into<IdempotencyOwner>,
        fingerprint: RequestFingerprint,
        check: impl AsyncFnOnce(&mut PgConnection) -> Result<()>,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<ChangeResponse<T>>,
    ) -> Result<Response> {
        let caller: IdempotencyOwner = caller.into();
        let tenant = caller.tenant();
        match self.execute(app, caller, fingerprint, work).await? {
            IdempotentOutcome::FirstRequest(response) => Ok(response.into_response()),
            IdempotentOutcome::Replayed(stored) => {
                app.db.transaction_for(tenant, check).await?;
                Ok(replay(stored, &self.context))
            }
        }
    }

    async fn execute<T: Serialize>(
        &mut self,
        app: &App,
        caller: IdempotencyOwner,
        fingerprint: RequestFingerprint,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<ChangeResponse<T>>,
    ) -> Result<IdempotentOutcome<ChangeResponse<T>>> {
        if let Some(stored) = self.stored.take() {
            return Ok(IdempotentOutcome::Replayed(stored));
        }
        let tenant = caller.tenant();
        let attempt = self.attempt(app, caller, fingerprint.digest);
        let stores = attempt.is_some();
        run_once(app, tenant, attempt.as_ref(), self.context.received_at, async |tx| {
            fingerprint.check_deferred()?;
            let response = work(tx).await?;
            let stored_body = if stores { response.stored_body()? } else { None };
            Ok(FirstResponse { status: response.status.as_u16(), stored_body, response })
        })
        .await
    }

    /// Does the same as [`Self::run`] for a change that is rate limited: `count` is awaited first,
    /// unless the response is a replay.
    ///
    /// # Errors
    /// The errors of `count` and of [`Self::run`].
    pub async fn run_rate_limited<T: Serialize>(
        self,
        app: &App,
        caller: impl Into<IdempotencyOwner> + Copy,
        fingerprint: RequestFingerprint,
        count: impl Future<Output = Result<()>>,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<ChangeResponse<T>>,
    ) -> Result<Response> {
        self.count_unless_replay(app, caller, &fingerprint, count).await?;
        self.run(app, caller, fingerprint, work).await
    }

    /// Awaits `count`, unless the response will be a replay.
    ///
    /// # Errors
    /// The errors of `count`.
    pub async fn count_unless_replay(
        &self,
        app: &App,
        caller: impl Into<IdempotencyOwner>,
        fingerprint: &RequestFingerprint,
        count: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        if self.is_replay(app, caller, fingerprint).await? { Ok(()) } else { count.await }
    }

    /// Returns whether there is a stored response to the request, and keeps it for [`Self::run`].
    ///
    /// # Errors
    /// Idempotency key reused if the key was first sent with another request.
    pub async fn is_replay(
        &self,
        app: &App,
        caller: impl Into<IdempotencyOwner>,
        fingerprint: &RequestFingerprint,
    ) -> Result<bool> {
        let caller: IdempotencyOwner = caller.into();
        let tenant = caller.tenant();
        let Some(attempt) = self.attempt(app, caller, fingerprint.digest) else { return Ok(false) };
        let find = async |tx: &mut PgConnection| find_stored(tx, &attempt).await;
        match app.db.transaction_for(tenant, find).await? {
            Some(stored) => Ok(self.stored.set(stored).is_ok()),
            None => Ok(false),
        }
    }

    fn attempt(
        &self,
        app: &App,
        caller: IdempotencyOwner,
        body: [u8; 32],
    ) -> Option<IdempotentRequest> {
        let key = self.key.as_ref()?;
        let body = BASE64_STANDARD.encode(body);
        let request = format!("{} {}\n{body}", self.context.method, self.target);
        Some(IdempotentRequest {
            organization: caller.organization,
            principal: caller.principal,
            lifetime: caller.lifetime,
            endpoint: format!("{} {}", self.context.method, self.context.route),
            key_digest: key.digest(),
            fingerprints: app.peppers.candidates(&request),
        })
    }
}

/// The scope of idempotency keys: two requests with the same key are repetitions only if their
/// owners are equal.
pub struct IdempotencyOwner {
    organization: OrganizationId,
    /// Whether the change is made inside the organization; false for changes to an account and for
    /// those of the operator.
    in_organization: bool,
    principal: String,
    /// How long responses are stored.
    lifetime: TimeDelta,
}

impl IdempotencyOwner {
    fn tenant(&self) -> Option<OrganizationId> {
        self.in_organization.then_some(self.organization)
    }
}

impl From<&Arc<Caller>> for IdempotencyOwner {
    fn from(caller: &Arc<Caller>) -> Self {
        let principal = caller.credential.principal();
        Self {
            organization: caller.organization,
            in_organization: true,
            principal,
            lifetime: RESPONSE_LIFETIME,
        }
    }
}

impl From<&Arc<Person>> for IdempotencyOwner {
    fn from(person: &Arc<Person>) -> Self {
        let principal = person.credential.principal();
        Self {
            organization: person.home_organization,
            in_organization: false,
            principal,
            lifetime: RESPONSE_LIFETIME,
        }
    }
}

impl From<MasterScope> for IdempotencyOwner {
    /// Uses the scope and not the secret, so that a request can be repeated after the secret is
    /// replaced.
    fn from(scope: MasterScope) -> Self {
        let principal = scope.as_str().to_owned();
        let organization = OrganizationId::SYSTEM;
        Self {
            organization,
            in_organization: false,
            principal,
            lifetime: OPERATOR_RESPONSE_LIFETIME,
        }
    }
}

/// A response to a change. Secrets in its body are
/// [`ShownOnce`](crate::http::shown_once::ShownOnce) and therefore never stored.
pub struct ChangeResponse<T> {
    status: StatusCode,
    /// `None` for a response without a body.
    body: Option<T>,
    /// The body of a replay, if it differs from `body`.
    replay_body: Option<T>,
}

impl<T> ChangeResponse<T> {
    /// Creates a 200 response with a body.
    #[must_use]
    pub const fn ok(body: T) -> Self {
        Self { status: StatusCode::OK, body: Some(body), replay_body: None }
    }

    /// Creates a 201 response with a body.
    #[must_use]
    pub const fn created(body: T) -> Self {
        Self { status: StatusCode::CREATED, body: Some(body), replay_body: None }
    }

    /// Creates a 204 response, which has no body.
    #[must_use]
    pub const fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: None, replay_body: None }
    }

    /// Sets a different body for replays.
    #[must_use]
    pub fn with_replay_body(self, body: T) -> Self {
        Self { replay_body: Some(body), ..self }
    }
}

impl<T: Serialize> ChangeResponse<T> {
    /// Returns the body to store.
    fn stored_body(&self) -> Result<Option<Value>> {
        let body = self.replay_body.as_ref().or(self.body.as_ref());
        body.map(|body| to_stored_value(body).map_err(Error::internal)).transpose()
    }

    fn into_response(self) -> Response {
        match self.body {
            Some(body) => (self.status, JsonWithSecrets(body)).into_response(),
            None => self.status.into_response(),
        }
    }
}

/// Renders a stored response, with the id and the time of the repeated request.
#[must_use]
pub fn replay(stored: StoredResponse, context: &RequestContext) -> Response {
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK);
    let mut body = stored.body;
    let updated =
        [("request_id", context.id.clone()), ("timestamp", timestamp::format(context.received_at))];
    for (name, value) in updated {
        let member = body.as_mut().and_then(|body| body.get_mut(name));
        if let Some(member) = member {
            *member = Value::String(value);
        }
    }
    let mut response = ChangeResponse { status, body, replay_body: None }.into_response();
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
