//! Who is calling: found out once for every request, before its handler runs.
//!
//! Routes that need to know say so with a guard in their handler's signature. The others do not
//! ask.

mod cookies;
mod credential;
mod guards;
mod holder;
mod master_key;
mod quota;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;

use self::cookies::holder_of_cookies;
pub use self::cookies::{SigningOut, end_sessions_of_others};
use self::credential::{Credential as Shown, HOW_TO_SEND};
pub use self::guards::{
    ApiKeysRead, ApiKeysWrite, AsPerson, AuditRead, Authenticated, BillingRead, Counted, InSession,
    InTenant, InvitesRead, MaybeInSession, MembersRead, MembersWrite, OrganizationRead,
    OrganizationWrite, OwnMembership, OwnedInSession, PersonScoped, ProjectsRead, ProjectsWrite,
    RequiredScope, Scoped, Tenant, UsageRead, UserRead, UserWrite,
};
use self::holder::holder_of_bearer;
pub use self::holder::holder_of_key;
pub use self::master_key::{
    BillingPlan, BillingRotate, BillingSuspend, Master, MasterScoped, OrgCreate, OrgForceRevoke,
    OrgForceRotate, OrgSuspend, OrgUsage,
};
pub use self::quota::count_shown;
use crate::app::App;
use crate::app::shares::paid_by;
use crate::error::{Error, Kind, Proof, Result};
use crate::http::context::RequestContext;
use crate::http::denial::Denied;
use crate::http::dialect::Family;
use crate::http::limits::{count_address, count_anonymous};
use crate::http::query::KnownParameters;
use crate::http::{operator, shedding, trusted_page};
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
    State((app, known)): State<(App, Arc<KnownParameters>)>,
    mut request: Request,
    next: Next,
) -> Result<Response> {
    let context = RequestContext::in_extensions(request.extensions())?;
    known.note_unknown(&mut request, &context.route);
    let place = shedding::enter(&app, &context, request.method())?;
    if !operator::dialect::is_for_keys_or_elsewhere(&context.path) {
        let subject = Subject::address(context.address);
        let _held = shedding::hold(&app, &context, (request.method(), place), subject)?;
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    let identity = find(&app, &context, &parts).await;
    count(&app, &context, &parts.headers, &identity)?;
    if let Ok(Some(identity)) = &identity {
        let _ = context.caller.set(identity.clone());
    }
    let payer = context.caller.get().and_then(Identity::payer);
    let subject = payer.unwrap_or_else(|| Subject::address(context.address));
    let _held = shedding::hold(&app, &context, (&parts.method, place), subject)?;
    parts.extensions.insert(Found(identity.map_err(Arc::new)));
    let answering = next.run(Request::from_parts(parts, body));
    Ok(match payer {
        Some(payer) => paid_by(payer, answering).await,
        None => answering.await,
    })
}

/// Counts a request that nobody is known to make against what its address may do; others are
/// counted by their guards, which know in whose name they are made.
fn count(
    app: &App,
    context: &RequestContext,
    headers: &HeaderMap,
    identity: &Result<Option<Identity>>,
) -> Result<()> {
    match identity {
        Ok(Some(_)) => Ok(()),
        Err(error) if matches!(error.kind(), Kind::Unauthenticated(_)) => {
            count_address(app, context, Limit::UnknownKeys)
        }
        Ok(None) | Err(_) => count_anonymous(app, context, headers),
    }
}

/// An explicit credential counts before the cookie that a browser adds by itself, even where it is
/// not good.
async fn find(app: &App, context: &RequestContext, parts: &Parts) -> Result<Option<Identity>> {
    let headers = &parts.headers;
    let identity = match Shown::of(headers)? {
        Some(shown @ Shown::Key(text)) => {
            let found = holder_of_key(app, context, text).await;
            found.map_err(|refused| shown.explain(refused))?
        }
        Some(shown @ Shown::Bearer(text)) => {
            let found = holder_of_bearer(app, context, text).await;
            found.map_err(|refused| shown.explain(refused))?
        }
        Some(Shown::Unreadable) => return Err(Error::unauthenticated(Proof::Key, HOW_TO_SEND)),
        None => {
            let found = holder_of_cookies(app, context, parts).await?;
            let Some(identity) = found else { return Ok(None) };
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
