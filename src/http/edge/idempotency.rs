//! `Idempotency-Key` (contract §1): the header, and how a kept answer is given again.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
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
use crate::domain::idempotency::{FirstResponse, IdempotentOutcome, is_stored, run_once};
use crate::error::{Error, Issue, Location, Result};
use crate::http::body::RequestFingerprint;
use crate::http::edge::context::RequestContext;
use crate::model::ValidationError;
use crate::model::caller::{Caller, Person};
use crate::model::idempotency::{
    IdempotencyKey, IdempotentRequest, OPERATOR_RESPONSE_LIFETIME, RESPONSE_LIFETIME,
    StoredResponse,
};
use crate::model::ids::OrganizationId;
use crate::model::master_scope::MasterScope;
use crate::model::secret::Secret;
use crate::model::timestamp;

const HEADER: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The header, as the API document describes it.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only described, in the API document")]
pub struct IdempotencyHeader {
    /// The caller's name for this request: sent again within 24 hours, it is answered again.
    #[param(
        rename = "Idempotency-Key",
        min_length = 1,
        max_length = 256,
        example = "rotate-2026-11"
    )]
    key: Option<String>,
}

fn header_issue(why: impl Into<Cow<'static, str>>) -> Issue {
    Issue::field("Idempotency-Key", why).with_location(Location::Header)
}

/// A request that may come again, if its caller gave it a name.
pub struct Idempotency {
    key: Option<IdempotencyKey>,
    target: String,
    context: RequestContext,
}

impl FromRequestParts<App> for Idempotency {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let mut values = parts.headers.get_all(HEADER).iter();
        let parse = |value: &HeaderValue| {
            let text = value.to_str().unwrap_or_default();
            IdempotencyKey::parse(text)
                .map_err(|ValidationError(why)| Error::invalid(vec![header_issue(why)]))
        };
        let key = values.next().map(parse).transpose()?;
        if values.next().is_some() {
            return Err(Error::invalid(vec![header_issue("is there more than once")]));
        }
        let target = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        let context = RequestContext::from_request_parts(parts, app).await?;
        Ok(Self { key, target, context })
    }
}

impl Idempotency {
    /// Whether the request has a name.
    #[must_use]
    pub const fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Whether this is its name.
    #[must_use]
    pub fn key_equals(&self, text: &str) -> bool {
        self.key.as_ref().is_some_and(|key| key.as_str() == text)
    }

    /// Makes a change of the caller's in one transaction, once for each name that the caller gives.
    ///
    /// # Errors
    /// Those of `work`, and those of [`run_once`].
    pub async fn run<T: Serialize>(
        self,
        app: &App,
        caller: impl Into<IdempotencyOwner>,
        fingerprint: RequestFingerprint,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<ChangeResponse<T>>,
    ) -> Result<Response> {
        match self.execute(app, caller.into(), fingerprint, work).await? {
            IdempotentOutcome::FirstRequest(reply) => Ok(reply.into_response()),
            IdempotentOutcome::Replayed(kept) => Ok(replay(kept, &self.context)),
        }
    }

    /// The same for a change that needs more of its caller than the route's guard asks for: whether
    /// they still have it, `check` says before a stored answer is given again.
    ///
    /// # Errors
    /// Those of `check`, and as [`Self::run`].
    pub async fn run_checked<T: Serialize>(
        self,
        app: &App,
        caller: impl Into<IdempotencyOwner>,
        fingerprint: RequestFingerprint,
        check: impl AsyncFnOnce(&mut PgConnection) -> Result<()>,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<ChangeResponse<T>>,
    ) -> Result<Response> {
        let caller: IdempotencyOwner = caller.into();
        let tenant = caller.tenant();
        match self.execute(app, caller, fingerprint, work).await? {
            IdempotentOutcome::FirstRequest(reply) => Ok(reply.into_response()),
            IdempotentOutcome::Replayed(kept) => {
                app.db.transaction_for(tenant, check).await?;
                Ok(replay(kept, &self.context))
            }
        }
    }

    async fn execute<T: Serialize>(
        &self,
        app: &App,
        caller: IdempotencyOwner,
        fingerprint: RequestFingerprint,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<ChangeResponse<T>>,
    ) -> Result<IdempotentOutcome<ChangeResponse<T>>> {
        let tenant = caller.tenant();
        let attempt = self.attempt(app, caller, fingerprint.digest);
        let keeps = attempt.is_some();
        run_once(app, tenant, attempt.as_ref(), self.context.received_at, async |tx| {
            fingerprint.check_deferred()?;
            let reply = work(tx).await?;
            let kept = if keeps { reply.stored_body()? } else { None };
            Ok(FirstResponse { status: reply.status.as_u16(), stored_body: kept, response: reply })
        })
        .await
    }

    /// The same for what is limited: `count` is not asked of a repetition, which does nothing anew.
    ///
    /// # Errors
    /// Those of `count`, and as [`Self::run`].
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

    /// Counts a request by `count`, where it is no repetition.
    ///
    /// # Errors
    /// Those of `count`, and the database's own.
    pub async fn count_unless_replay(
        &self,
        app: &App,
        caller: impl Into<IdempotencyOwner>,
        fingerprint: &RequestFingerprint,
        count: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        if self.is_replay(app, caller, fingerprint).await? { Ok(()) } else { count.await }
    }

    /// Whether the request is a repetition, of which the answer is kept.
    pub async fn is_replay(
        &self,
        app: &App,
        caller: impl Into<IdempotencyOwner>,
        fingerprint: &RequestFingerprint,
    ) -> Result<bool> {
        let caller: IdempotencyOwner = caller.into();
        let tenant = caller.tenant();
        let Some(attempt) = self.attempt(app, caller, fingerprint.digest) else { return Ok(false) };
        is_stored(app, tenant, &attempt).await
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

/// Whose requests of one name are the same request, and whose data it is about.
pub struct IdempotencyOwner {
    organization: OrganizationId,
    /// Whether they act in it, and not for themselves.
    in_organization: bool,
    principal: String,
    /// How long they may come again.
    lifetime: TimeDelta,
}

impl IdempotencyOwner {
    fn tenant(&self) -> Option<OrganizationId> {
        self.in_organization.then_some(self.organization)
    }
}

impl From<&Arc<Caller>> for IdempotencyOwner {
    fn from(caller: &Arc<Caller>) -> Self {
        let name = caller.credential.principal();
        Self {
            organization: caller.organization,
            in_organization: true,
            principal: name,
            lifetime: RESPONSE_LIFETIME,
        }
    }
}

impl From<&Arc<Person>> for IdempotencyOwner {
    fn from(person: &Arc<Person>) -> Self {
        let name = person.credential.principal();
        Self {
            organization: person.home_organization,
            in_organization: false,
            principal: name,
            lifetime: RESPONSE_LIFETIME,
        }
    }
}

impl From<MasterScope> for IdempotencyOwner {
    /// The scope, not the secret: a request that comes again after the secret was replaced is the
    /// same request.
    fn from(scope: MasterScope) -> Self {
        let name = scope.as_str().to_owned();
        let organization = OrganizationId::SYSTEM;
        Self {
            organization,
            in_organization: false,
            principal: name,
            lifetime: OPERATOR_RESPONSE_LIFETIME,
        }
    }
}

/// An answer to a change.
///
/// Invariant: what it shows once is a [`Secret`] beside its body until the answer is written, and
/// so in nothing that is kept.
pub struct ChangeResponse<T> {
    status: StatusCode,
    /// `None` has no body.
    body: Option<T>,
    /// What a repetition is answered, where that is not `body`.
    replay_body: Option<T>,
    /// What this answer alone shows, and where in its body.
    secret: Option<(Secret, SecretField<T>)>,
}

/// Where a secret is shown in a body.
type SecretField<T> = fn(&mut T) -> &mut Option<String>;

impl<T> ChangeResponse<T> {
    /// 200 with a body.
    #[must_use]
    pub const fn ok(body: T) -> Self {
        Self { status: StatusCode::OK, body: Some(body), replay_body: None, secret: None }
    }

    /// 201 with a body.
    #[must_use]
    pub const fn created(body: T) -> Self {
        let status = StatusCode::CREATED;
        Self { status, body: Some(body), replay_body: None, secret: None }
    }

    /// 204 without one.
    #[must_use]
    pub const fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: None, replay_body: None, secret: None }
    }

    /// The same, where a repetition is answered with another body.
    #[must_use]
    pub fn with_replay_body(self, body: T) -> Self {
        Self { replay_body: Some(body), ..self }
    }

    /// The same, with a secret that only this answer shows.
    #[must_use]
    pub fn with_secret(self, secret: Secret, place: SecretField<T>) -> Self {
        Self { secret: Some((secret, place)), ..self }
    }
}

impl<T: Serialize> ChangeResponse<T> {
    /// What is kept of it.
    fn stored_body(&self) -> Result<Option<Value>> {
        let body = self.replay_body.as_ref().or(self.body.as_ref());
        body.map(|body| serde_json::to_value(body).map_err(Error::internal)).transpose()
    }

    fn into_response(self) -> Response {
        let Some(mut body) = self.body else { return self.status.into_response() };
        if let Some((secret, place)) = self.secret {
            *place(&mut body) = Some(secret.expose().to_owned());
        }
        (self.status, Json(body)).into_response()
    }
}

/// A kept answer, with the id and the time of the request that asks again.
#[must_use]
pub fn replay(kept: StoredResponse, context: &RequestContext) -> Response {
    let status = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK);
    let mut body = kept.body;
    let fresh =
        [("request_id", context.id.clone()), ("timestamp", timestamp::format(context.received_at))];
    for (name, value) in fresh {
        let member = body.as_mut().and_then(|body| body.get_mut(name));
        if let Some(member) = member {
            *member = Value::String(value);
        }
    }
    let mut response =
        ChangeResponse { status, body, replay_body: None, secret: None }.into_response();
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
