//! Who is calling: found out once for every request, before its handler runs.
//!
//! Routes that need to know say so with a guard in their handler's signature. The others do not
//! ask.

mod credential;
mod guards;
mod holder;
mod master_key;
mod quota;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;

use self::credential::Credential as Shown;
pub use self::guards::{
    ApiKeysRead, ApiKeysWrite, AsPerson, AuditRead, Authenticated, BillingRead, InSession,
    InTenant, InvitesRead, MaybeInSession, MembersRead, MembersWrite, OrganizationRead,
    OrganizationWrite, OwnMembership, OwnedInSession, PersonScoped, ProjectsRead, ProjectsWrite,
    RequiredScope, Scoped, Tenant, UsageRead, UserRead, UserWrite,
};
pub use self::holder::holder_of_key;
use self::holder::{holder_of_bearer, holder_of_cookie, refused};
pub use self::master_key::{
    BillingPlan, BillingRotate, BillingSuspend, Master, MasterScoped, OrgCreate, OrgForceRevoke,
    OrgForceRotate, OrgSuspend, OrgUsage,
};
use crate::app::App;
use crate::error::{Error, Proof, Result};
use crate::http::context::RequestContext;
use crate::http::dialect::Family;
use crate::http::{cookie, trusted_page};
use crate::model::caller::{Credential, Identity};

/// What was found out, for the guard to take.
#[derive(Clone)]
struct Found(Result<Option<Identity>, Arc<Error>>);

/// The middleware of the hot path: reads the credential, asks whose it is, and leaves the answer,
/// good or bad, for a guard.
pub async fn identify(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let identity = find(&app, &context, &parts).await;
    if let Ok(Some(identity)) = &identity {
        let _ = context.caller.set(identity.clone());
    }
    parts.extensions.insert(Found(identity.map_err(Arc::new)));
    next.run(Request::from_parts(parts, body)).await
}

/// An explicit credential counts before the cookie that a browser adds by itself, even where it is
/// not good.
async fn find(app: &App, context: &RequestContext, parts: &Parts) -> Result<Option<Identity>> {
    let headers = &parts.headers;
    let identity = match Shown::of(headers)? {
        Some(Shown::Key(text)) => holder_of_key(app, context, text).await?,
        Some(Shown::Bearer(text)) => holder_of_bearer(app, context, text).await?,
        Some(Shown::Unreadable) => return Err(refused(Proof::Key)),
        None => {
            let Some(text) = cookie::of(headers, app)? else { return Ok(None) };
            let identity = holder_of_cookie(app, context, text).await?;
            if !trusted_page::is_safe(&parts.method) {
                trusted_page::check(headers, app)?;
            }
            identity
        }
    };
    let family = Family::of(&context.path);
    match identity.credential() {
        Some(credential) if takes(family, credential) => Ok(Some(identity)),
        _ => Err(Error::forbidden("This kind of credential is not taken here")),
    }
}

/// Which kinds of credential a family takes at all (contract §1, *Who may call what*); what else a
/// route asks for is its guard's business.
fn takes(family: Family, credential: &Credential) -> bool {
    match (family, credential) {
        (Family::Account, Credential::Session(..))
        | (Family::Operator, Credential::Key(_, None)) => true,
        (Family::Account | Family::Operator, _)
        | (Family::Organization, Credential::Session(..)) => false,
        (Family::Onboarding | Family::Organization | Family::User | Family::None, _) => true,
    }
}
