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
    ApiKeysRead, ApiKeysWrite, AsPerson, AuditRead, Authenticated, BillingRead, Counted, InSession,
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
use crate::error::{Error, Kind, Proof, Result};
use crate::http::context::RequestContext;
use crate::http::denial::Denied;
use crate::http::dialect::Family;
use crate::http::limits::count_address;
use crate::http::{cookie, operator, shedding, trusted_page};
use crate::model::caller::{Credential, Identity};
use crate::model::limit::{Limit, Subject};

/// What was found out, for the guard to take.
#[derive(Clone)]
struct Found(Result<Option<Identity>, Arc<Error>>);

/// The middleware of the hot path: reads the credential, asks whose it is, and leaves the answer,
/// good or bad, for a guard. The operator's own routes are not asked: master keys are for their
/// guards.
///
/// For as long as the request is worked on it has a place: among all, and among those of its
/// caller.
///
/// # Errors
/// Rate limited, or unavailable where there is no place; what a credential that is not good is told
/// is the guard's to say.
pub async fn identify(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
    next: Next,
) -> Result<Response> {
    let place = shedding::enter(&app, &context, request.method())?;
    if !operator::dialect::is_for_keys_or_elsewhere(&context.path) {
        let subject = Subject::address(context.address);
        let _held = shedding::hold(&app, &context, (request.method(), place), subject)?;
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    let identity = find(&app, &context, &parts).await;
    count(&app, &context, &identity)?;
    if let Ok(Some(identity)) = &identity {
        let _ = context.caller.set(identity.clone());
    }
    let credential = context.caller.get().and_then(Identity::credential);
    let subject = credential.map_or_else(|| Subject::address(context.address), Credential::subject);
    let _held = shedding::hold(&app, &context, (&parts.method, place), subject)?;
    parts.extensions.insert(Found(identity.map_err(Arc::new)));
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// Counts a request that nobody is known to make against what its address may do; others are
/// counted by their guards, which know in whose name they are made.
fn count(app: &App, context: &RequestContext, identity: &Result<Option<Identity>>) -> Result<()> {
    match identity {
        Ok(Some(_)) => Ok(()),
        Err(error) if matches!(error.kind(), Kind::Unauthenticated(_)) => {
            count_address(app, context, Limit::UnknownKeys)
        }
        Ok(None) | Err(_) => count_address(app, context, Limit::Address),
    }
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
                let checked = trusted_page::check(headers, app);
                checked.inspect_err(|_| is_denied(context, &identity))?;
            }
            identity
        }
    };
    let family = Family::of(&context.path);
    match identity.credential() {
        Some(credential) if takes(family, credential) => Ok(Some(identity)),
        _ => {
            is_denied(context, &identity);
            Err(Error::forbidden("This kind of credential is not taken here"))
        }
    }
}

/// Leaves behind whose credential is good and still not taken.
fn is_denied(context: &RequestContext, identity: &Identity) {
    let _ = Denied::of(identity).map(|denied| context.denied.set(denied));
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
