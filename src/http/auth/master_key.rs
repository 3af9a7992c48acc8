//! The guard of the operator's routes: a master key of the route's scope, in `X-API-Key` only.

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;

use crate::app::App;
use crate::app::rejections::RejectedCredential;
use crate::error::{AuthFailure, Error, Result};
use crate::http::auth::credential::PresentedCredential;
use crate::http::auth::identity::rejection_audit_context;
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits::count_address;
use crate::http::query;
use crate::model::master_scope::MasterScope;
use crate::model::rate_limit::{LimitSubject, RateLimit};

/// A master scope, as a type parameter of the guard.
pub trait RequiredMasterScope {
    /// The scope.
    const SCOPE: MasterScope;
}

/// Guard: the operator, by a master key of the scope `S`. Wrong keys are counted by address; a
/// correct key is not affected by that count.
pub struct MasterKeyGuard<S>(pub MasterScope, pub PhantomData<S>);

impl<S: RequiredMasterScope> FromRequestParts<App> for MasterKeyGuard<S> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let context = RequestContext::from_request_parts(parts, app).await?;
        let is_correct = match PresentedCredential::from_headers(&parts.headers)? {
            Some(PresentedCredential::Key(text)) => app.config.master_keys.verify(S::SCOPE, text),
            _ => false,
        };
        if is_correct {
            count_address(app, &context, RateLimit::MasterRequests)?;
            query::require_known(&parts.extensions)?;
            return Ok(Self(S::SCOPE, PhantomData));
        }
        let client = LimitSubject::from_address(context.client_address);
        let rejected = RejectedCredential::MasterKey(S::SCOPE, Some(client));
        app.rejections.record_credential(rejected, || {
            rejection_audit_context(&context, StatusCode::UNAUTHORIZED)
        });
        count_address(app, &context, RateLimit::MasterFailures)?;
        let message = "This endpoint requires its master key in X-API-Key";
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
    OrgSettings;
    BillingSuspend;
    BillingRotate;
    BillingPlan;
    OauthApps;
}
