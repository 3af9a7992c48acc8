//! Who is calling: found out once for every request, before its handler runs.
//!
//! Routes that need to know say so with a guard in their handler's signature. The others do not
//! ask.

mod cookies;
mod credential;
mod guards;
mod identity;
mod master_key;
mod quota;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;

use self::cookies::identify_cookies;
pub use self::cookies::{SignOutSessions, end_sessions_of_other_accounts};
use self::credential::{PresentedCredential as Shown, SEND_KEY_MESSAGE};
pub use self::guards::{
    ApiKeysRead, ApiKeysWrite, AuditRead, Authenticated, AuthenticatedPerson, BillingRead,
    CountedRequest, InOrganization, InSession, InvitesRead, MaybeInSession, MembersRead,
    MembersWrite, OrganizationRead, OrganizationScoped, OrganizationWrite, OwnMembership,
    OwnerInSession, PersonScoped, ProjectsRead, ProjectsWrite, RequiredScope, Scoped, UsageRead,
    UserRead, UserWrite,
};
use self::identity::identify_bearer;
pub use self::identity::identify_key;
pub use self::master_key::{
    BillingPlan, BillingRotate, BillingSuspend, MasterKeyGuard, OrgCreate, OrgForceRevoke,
    OrgForceRotate, OrgSuspend, OrgUsage, RequiredMasterScope,
};
pub use self::quota::count_presented;
use crate::app::App;
use crate::app::connection_shares::with_share_owner;
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::http::context::RequestContext;
use crate::http::family::Family;
use crate::http::query::KnownParameters;
use crate::http::rate_limits::{count_address, count_anonymous};
use crate::http::rejection::RejectedCaller;
use crate::http::{operator, shedding, trusted_origin};
use crate::model::caller::{Credential, Identity};
use crate::model::rate_limit::{LimitSubject, RateLimit};

/// What was found out, for the guard to take.
#[derive(Clone)]
struct IdentityResult(Result<Option<Identity>, Arc<Error>>);

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
    State((app, known)): State<(App, Arc<KnownParameters>)>,
    mut request: Request,
    next: Next,
) -> Result<Response> {
    let context = RequestContext::from_extensions(request.extensions())?;
    known.record_unknown(&mut request, &context.route);
    let place = shedding::acquire_permit(&app, &context, request.method())?;
    if !operator::dialect::is_not_master_key_route(&context.path) {
        let subject = LimitSubject::from_address(context.client_address);
        let _held =
            shedding::acquire_caller_permit(&app, &context, (request.method(), place), subject)?;
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    let identity = find_identity(&app, &context, &parts).await;
    count_unidentified(&app, &context, &parts.headers, &identity)?;
    if let Ok(Some(identity)) = &identity {
        let _ = context.identity.set(identity.clone());
    }
    let payer = context.identity.get().and_then(Identity::share_owner);
    let subject = payer.unwrap_or_else(|| LimitSubject::from_address(context.client_address));
    let _held = shedding::acquire_caller_permit(&app, &context, (&parts.method, place), subject)?;
    parts.extensions.insert(IdentityResult(identity.map_err(Arc::new)));
    let answering = next.run(Request::from_parts(parts, body));
    Ok(match payer {
        Some(payer) => with_share_owner(payer, answering).await,
        None => answering.await,
    })
}

/// Counts a request that nobody is known to make against what its address may do; others are
/// counted by their guards, which know in whose name they are made.
fn count_unidentified(
    app: &App,
    context: &RequestContext,
    headers: &HeaderMap,
    identity: &Result<Option<Identity>>,
) -> Result<()> {
    match identity {
        Ok(Some(_)) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::Unauthenticated(_)) => {
            count_address(app, context, RateLimit::UnknownKeys)
        }
        Ok(None) | Err(_) => count_anonymous(app, context, headers),
    }
}

/// An explicit credential counts before the cookie that a browser adds by itself, even where it is
/// not good.
async fn find_identity(
    app: &App,
    context: &RequestContext,
    parts: &Parts,
) -> Result<Option<Identity>> {
    let headers = &parts.headers;
    let identity = match Shown::from_headers(headers)? {
        Some(shown @ Shown::Key(text)) => {
            let found = identify_key(app, context, text).await;
            found.map_err(|refused| shown.explain(refused))?
        }
        Some(shown @ Shown::Bearer(text)) => {
            let found = identify_bearer(app, context, text).await;
            found.map_err(|refused| shown.explain(refused))?
        }
        Some(Shown::Unreadable) => {
            return Err(Error::unauthenticated(AuthFailure::InvalidKey, SEND_KEY_MESSAGE));
        }
        None => {
            let found = identify_cookies(app, context, parts).await?;
            let Some(identity) = found else { return Ok(None) };
            if !trusted_origin::is_safe(&parts.method) {
                let checked = trusted_origin::check(headers, app);
                checked.inspect_err(|_| set_rejected_caller(context, &identity))?;
            }
            identity
        }
    };
    let family = Family::from_path(&context.path);
    match identity.credential() {
        Some(credential) if accepts(family, credential) => Ok(Some(identity)),
        _ => {
            set_rejected_caller(context, &identity);
            Err(Error::forbidden("This kind of credential is not taken here"))
        }
    }
}

/// Leaves behind whose credential is good and still not taken.
fn set_rejected_caller(context: &RequestContext, identity: &Identity) {
    let _ =
        RejectedCaller::from_identity(identity).map(|denied| context.rejected_caller.set(denied));
}

/// Which kinds of credential a family takes at all (contract §1, *Who may call what*); what else a
/// route asks for is its guard's business.
fn accepts(family: Family, credential: &Credential) -> bool {
    match (family, credential) {
        (Family::Account, Credential::Session(..))
        | (Family::Operator, Credential::Key(_, None)) => true,
        (Family::Account | Family::Operator, _)
        | (Family::Organization, Credential::Session(..)) => false,
        (Family::Onboarding | Family::Organization | Family::User | Family::Other, _) => true,
    }
}
