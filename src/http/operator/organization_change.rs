//! Changes that the operator makes to the organization in the path: authenticated by the route's
//! master key, and executed once for each `Idempotency-Key`.

use std::marker::PhantomData;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::Response;
use serde::Serialize;
use sqlx::PgConnection;

use crate::app::App;
use crate::error::{Error, Result};
use crate::http::auth::{MasterKeyGuard, RequiredMasterScope};
use crate::http::body::{FromFields, JsonBody, RequestFingerprint};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency};
use crate::http::operator::idempotency::RequireIdempotencyKey;
use crate::http::path::PathId;
use crate::model::audit::AuditContext;
use crate::model::external_actor::ExternalActor;
use crate::model::master_scope::MasterScope;
use crate::model::organization_handle::OrganizationHandle;

/// The body of a change to an organization.
pub trait OrganizationChangeBody: FromFields {
    /// Checks that the body confirms the organization `id` of the path and the idempotency key of
    /// the header. A body without these fields always passes.
    ///
    /// # Errors
    /// Invalid if one of them differs.
    fn check_target(&self, _id: &str, _idempotency: &Idempotency) -> Result<()> {
        Ok(())
    }
}

/// Extracts a change: requires the master key of scope `S`, and parses the body as `T`.
pub struct OrganizationChange<S, T> {
    /// The parsed body.
    pub body: T,
    /// The context of the request.
    pub context: RequestContext,
    id: String,
    scope: MasterScope,
    idempotency: Idempotency,
    fingerprint: RequestFingerprint,
    guard: PhantomData<S>,
}

/// The target and the actor of a change.
pub struct ChangeContext {
    /// The organization's id in the path.
    pub handle: OrganizationHandle,
    /// The master scope that makes the change, as the audit log records it.
    pub actor: ExternalActor,
    /// The audit context of the request.
    pub audit: AuditContext,
}

impl<S: RequiredMasterScope + Send, T: OrganizationChangeBody> FromRequest<App>
    for OrganizationChange<S, T>
{
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        let (mut parts, body) = request.into_parts();
        let MasterKeyGuard(scope, guard) =
            MasterKeyGuard::<S>::from_request_parts(&mut parts, app).await?;
        let context = RequestContext::from_request_parts(&mut parts, app).await?;
        let RequireIdempotencyKey(idempotency) =
            RequireIdempotencyKey::from_request_parts(&mut parts, app).await?;
        let PathId(id) = PathId::from_request_parts(&mut parts, app).await?;
        let request = Request::from_parts(parts, body);
        let JsonBody { value: body, fingerprint } =
            JsonBody::<T>::from_request(request, app).await?;
        body.check_target(&id, &idempotency)?;
        Ok(Self { body, context, id, scope, idempotency, fingerprint, guard })
    }
}

impl<S, T> OrganizationChange<S, T> {
    /// Runs `work` in one transaction, once for the idempotency key; a repetition gets the stored
    /// response.
    ///
    /// # Errors
    /// Not found if the path contains no valid organization id; the errors of `work`.
    pub async fn run<A: Serialize>(
        self,
        app: &App,
        work: impl AsyncFnOnce(&mut PgConnection, &T, &ChangeContext, &RequestContext) -> Result<A>,
    ) -> Result<Response> {
        let Self { body, context, id, scope, idempotency, fingerprint, .. } = self;
        let change = ChangeContext {
            handle: parse_organization_id(&id)?,
            actor: ExternalActor::Master(scope),
            audit: context.audit_context(),
        };
        let work =
            async |tx: &mut _| work(tx, &body, &change, &context).await.map(ChangeResponse::ok);
        idempotency.run(app, scope, fingerprint, work).await
    }
}

/// Parses the organization's id in a path.
///
/// # Errors
/// Not found if the text is not a valid id.
pub fn parse_organization_id(id: &str) -> Result<OrganizationHandle> {
    OrganizationHandle::parse(id).map_err(|_| Error::not_found("There is no such organization"))
}
