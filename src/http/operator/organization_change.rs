//! What the operator changes of an organization that the path names: proved by the route's master
//! key, under a name, once.

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
use crate::model::master_scope::MasterScope;
use crate::model::org_handle::OrgHandle;

/// A body that is about an organization.
pub trait OrganizationChangeBody: FromFields {
    /// Passes a body that means the organization `id`, under this name; one that says neither does.
    ///
    /// # Errors
    /// Invalid.
    fn check_target(&self, _id: &str, _name: &Idempotency) -> Result<()> {
        Ok(())
    }
}

/// Guard and body of a change: by the scope `S`, read as `T`.
pub struct OrganizationChange<S, T> {
    /// What the body says.
    pub body: T,
    /// The request.
    pub context: RequestContext,
    id: String,
    scope: MasterScope,
    idempotency: Idempotency,
    fingerprint: RequestFingerprint,
    guard: PhantomData<S>,
}

/// The organization that is changed, and by whom, for the trail.
pub struct ChangeContext {
    /// The organization, as the path names it.
    pub handle: OrgHandle,
    /// Who changes it.
    pub actor: String,
    /// The request.
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
        let RequireIdempotencyKey(name) =
            RequireIdempotencyKey::from_request_parts(&mut parts, app).await?;
        let PathId(id) = PathId::from_request_parts(&mut parts, app).await?;
        let request = Request::from_parts(parts, body);
        let JsonBody { value: body, fingerprint } =
            JsonBody::<T>::from_request(request, app).await?;
        body.check_target(&id, &name)?;
        Ok(Self { body, context, id, scope, idempotency: name, fingerprint, guard })
    }
}

impl<S, T> OrganizationChange<S, T> {
    /// Makes the change in one transaction, once for its name.
    ///
    /// # Errors
    /// Not found where the path can name no organization; those of `work`.
    pub async fn run<A: Serialize>(
        self,
        app: &App,
        work: impl AsyncFnOnce(&mut PgConnection, &T, &ChangeContext, &RequestContext) -> Result<A>,
    ) -> Result<Response> {
        self.run_with_secret(app, async |tx, body, on, context| {
            Ok(ChangeResponse::ok(work(tx, body, on, context).await?))
        })
        .await
    }

    /// The same for an answer that shows a secret.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_with_secret<A: Serialize>(
        self,
        app: &App,
        work: impl AsyncFnOnce(
            &mut PgConnection,
            &T,
            &ChangeContext,
            &RequestContext,
        ) -> Result<ChangeResponse<A>>,
    ) -> Result<Response> {
        let Self { body, context, id, scope, idempotency: name, fingerprint, .. } = self;
        let on = ChangeContext {
            handle: parse_organization_id(&id)?,
            actor: scope.actor(),
            audit: context.audit_context(),
        };
        let work = async |tx: &mut _| work(tx, &body, &on, &context).await;
        name.run(app, scope, fingerprint, work).await
    }
}

/// The organization that a path names.
///
/// # Errors
/// Not found where the text can be no organization's id.
pub fn parse_organization_id(id: &str) -> Result<OrgHandle> {
    OrgHandle::parse(id).map_err(|_| Error::not_found("There is no such organization"))
}
