//! The guard of the operator's own routes: a master key of the route's scope, in `X-API-Key` and
//! nowhere else (contract §5).

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;

use crate::app::App;
use crate::app::refusals::Refused;
use crate::error::{Error, Proof, Result};
use crate::http::caller::credential::Credential as Shown;
use crate::http::caller::holder::trail_of_refusal;
use crate::http::context::RequestContext;
use crate::http::limits::count_address;
use crate::http::query;
use crate::model::limit::{Limit, Subject};
use crate::model::master_scope::MasterScope;

/// A scope of the operator's, as a type that the guard can name.
pub trait MasterScoped {
    /// The scope.
    const SCOPE: MasterScope;
}

/// Guard: the operator, by a secret of the scope `S`. Whoever shows another is told so until their
/// address has tried too often; who shows a right one is never asked what others tried.
pub struct Master<S>(pub MasterScope, pub PhantomData<S>);

impl<S: MasterScoped> FromRequestParts<App> for Master<S> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let context = RequestContext::from_request_parts(parts, app).await?;
        let is_right = match Shown::of(&parts.headers)? {
            Some(Shown::Key(text)) => app.config.master_keys.admit(S::SCOPE, text),
            _ => false,
        };
        if is_right {
            count_address(app, &context, Limit::MasterRequests)?;
            query::require_known(&parts.extensions)?;
            return Ok(Self(S::SCOPE, PhantomData));
        }
        let client = Subject::address(context.address);
        let refused = Refused::MasterKey(S::SCOPE, Some(client));
        app.refusals.note(refused, || trail_of_refusal(&context, StatusCode::UNAUTHORIZED));
        count_address(app, &context, Limit::MasterFailures)?;
        let message = "This needs the master key of this route in X-API-Key";
        Err(Error::unauthenticated(Proof::Key, message))
    }
}

macro_rules! master_scopes {
    ($($name:ident;)*) => {$(
        #[doc = concat!("The scope of the same name of [`MasterScope`].")]
        pub struct $name;

        impl MasterScoped for $name {
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
