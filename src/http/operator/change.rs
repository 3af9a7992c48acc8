//! What the operator changes of an organization that the path names: proved by the route's master
//! key, under a name, once.

use std::marker::PhantomData;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::Response;
use serde::Serialize;
use sqlx::PgConnection;

use crate::app::App;
use crate::error::{Error, Result};
use crate::http::body::{FromFields, JsonBody, Said};
use crate::http::caller::{Master, MasterScoped};
use crate::http::context::RequestContext;
use crate::http::idempotency::{Idempotency, Reply};
use crate::http::operator::idempotency::Named;
use crate::http::operator::wire::by;
use crate::http::path::PathId;
use crate::model::audit::Trail;
use crate::model::master_scope::MasterScope;
use crate::model::org_handle::OrgHandle;

/// A body that is about an organization.
pub trait AboutOrganization: FromFields {
    /// Passes a body that means the organization `id`, under this name; one that says neither does.
    ///
    /// # Errors
    /// Invalid.
    fn require(&self, _id: &str, _name: &Idempotency) -> Result<()> {
        Ok(())
    }
}

/// Guard and body of a change: by the scope `S`, read as `T`.
pub struct Change<S, T> {
    /// What the body says.
    pub body: T,
    /// The request.
    pub context: RequestContext,
    id: String,
    scope: MasterScope,
    name: Idempotency,
    said: Said,
    guard: PhantomData<S>,
}

/// The organization that is changed, and by whom, for the trail.
pub struct On {
    /// The organization, as the path names it.
    pub handle: OrgHandle,
    /// Who changes it.
    pub by: String,
    /// The request.
    pub trail: Trail,
}

impl<S: MasterScoped + Send, T: AboutOrganization> FromRequest<App> for Change<S, T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        let (mut parts, body) = request.into_parts();
        let Master(scope, guard) = Master::<S>::from_request_parts(&mut parts, app).await?;
        let context = RequestContext::from_request_parts(&mut parts, app).await?;
        let Named(name) = Named::from_request_parts(&mut parts, app).await?;
        let PathId(id) = PathId::from_request_parts(&mut parts, app).await?;
        let request = Request::from_parts(parts, body);
        let JsonBody { value: body, said } = JsonBody::<T>::from_request(request, app).await?;
        body.require(&id, &name)?;
        Ok(Self { body, context, id, scope, name, said, guard })
    }
}

impl<S, T> Change<S, T> {
    /// Makes the change in one transaction, once for its name.
    ///
    /// # Errors
    /// Not found where the path can name no organization; those of `work`.
    pub async fn run<A: Serialize>(
        self,
        app: &App,
        work: impl AsyncFnOnce(&mut PgConnection, &T, &On, &RequestContext) -> Result<A>,
    ) -> Result<Response> {
        self.run_showing(app, async |tx, body, on, context| {
            Ok(Reply::ok(work(tx, body, on, context).await?))
        })
        .await
    }

    /// The same for an answer that shows a secret.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_showing<A: Serialize>(
        self,
        app: &App,
        work: impl AsyncFnOnce(&mut PgConnection, &T, &On, &RequestContext) -> Result<Reply<A>>,
    ) -> Result<Response> {
        let Self { body, context, id, scope, name, said, .. } = self;
        let on = On { handle: organization(&id)?, by: by(scope), trail: context.trail() };
        let work = async |tx: &mut _| work(tx, &body, &on, &context).await;
        name.run(app, scope, said, work).await
    }
}

/// The organization that a path names.
///
/// # Errors
/// Not found where the text can be no organization's id.
pub fn organization(id: &str) -> Result<OrgHandle> {
    OrgHandle::parse(id).map_err(|_| Error::not_found("There is no such organization"))
}
