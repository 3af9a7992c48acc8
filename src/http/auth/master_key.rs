//! The guard of the operator's own routes: a master key of the route's scope, in `X-API-Key` and
//! nowhere else (contract §5).

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;

use crate::app::App;
use crate::app::rejected_credentials::RejectedCredential;
use crate::error::{AuthFailure, Error, Result};
use crate::http::auth::credential::PresentedCredential as Shown;
use crate::http::auth::identity::rejection_audit_context;
use crate::http::context::RequestContext;
use crate::http::query;
use crate::http::rate_limits::count_address;
use crate::model::master_scope::MasterScope;
use crate::model::rate_limit::{LimitSubject, RateLimit};

/// A scope of the operator's, as a type that the guard can name.
pub trait RequiredMasterScope {
    /// The scope.
    const SCOPE: MasterScope;
}

/// Guard: the operator, by a secret of the scope `S`. Whoever shows another is told so until their
/// address has tried too often; who shows a right one is never asked what others tried.
pub struct MasterKeyGuard<S>(pub MasterScope, pub PhantomData<S>);

impl<S: RequiredMasterScope> FromRequestParts<App> for MasterKeyGuard<S> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let context = RequestContext::from_request_parts(parts, app).await?;
        let is_right = match Shown::from_headers(&parts.headers)? {
            Some(Shown::Key(text)) => app.config.master_keys.verify(S::SCOPE, text),
            _ => false,
        };
        if is_right {
            count_address(app, &context, RateLimit::MasterRequests)?;
            query::require_known(&parts.extensions)?;
            return Ok(Self(S::SCOPE, PhantomData));
        }
        let client = LimitSubject::from_address(context.client_address);
        let refused = RejectedCredential::MasterKey(S::SCOPE, Some(client));
        app.rejected_credentials
            .record(refused, || rejection_audit_context(&context, StatusCode::UNAUTHORIZED));
        count_address(app, &context, RateLimit::MasterFailures)?;
        let message = "This needs the master key of this route in X-API-Key";
        Err(Error::unauthenticated(AuthFailure::InvalidKey, message))
    }
}

macro_rules! master_scopes {
    ($($name:ident;)*) => {$(
        #[doc = concat!("The scope of the same name of [`MasterScope`].")]
        pub struct $name;

        impl RequiredMasterScope for $name {
            const SCOPE: MasterScope = MasterScope::$name;
        }
    )*};
}

master_scopes! {
    OrgCreate;
    OrgForceRotate;
    OrgForceRevoke;
    OrgSuspend;
    OrgUsage;
    BillingSuspend;
    BillingRotate;
    BillingPlan;
}
