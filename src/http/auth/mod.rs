//! Authentication: a presented credential becomes an identity, and in an organization a caller.
//!
//! [`identify`] runs once for every request, before its handler. A handler that needs the caller
//! names a guard in its signature; the guard counts and admits the request.

mod admission;
mod basic;
mod cookie_session;
mod cookies;
mod credential;
mod guards;
mod identity;
mod master_key;
mod quota;
pub mod rejected_caller;
mod required_scopes;
pub mod session_cookie;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;

pub use self::basic::{authorization, basic_credentials, single_header_value};
pub use self::cookie_session::CookieSession;
use self::cookies::identify_cookies;
pub use self::cookies::{SignOutSessions, end_sessions_of_other_accounts};
pub use self::credential::PresentedCredential;
use self::credential::SEND_KEY_MESSAGE;
pub use self::guards::{
    Authenticated, AuthenticatedPerson, CountedRequest, InAnySession, InOrganization, InSession,
    MaybeInSession, OpenidScoped, OrganizationScoped, PersonScoped, Scoped,
};
use self::identity::identify_bearer;
pub use self::identity::identify_key;
pub use self::master_key::{
    BillingPlan, BillingRotate, BillingSuspend, MasterKeyGuard, OauthApps, OrgCreate,
    OrgForceRevoke, OrgForceRotate, OrgSettings, OrgSuspend, OrgUsage, RequiredMasterScope,
};
pub use self::quota::count_presented;
use self::rejected_caller::RejectedCaller;
pub use self::required_scopes::{
    ApiKeysRead, ApiKeysWrite, AppGrantsRead, AppPolicyRead, AppsRead, AppsWrite, AuditRead,
    BillingRead, InvitesRead, MembersRead, MembersWrite, OrganizationRead, OrganizationWrite,
    OwnMembership, OwnerInSession, ProjectsRead, ProjectsWrite, RequiredScope, SsoControl, SsoRead,
    SsoWrite, UsageRead, UserRead, UserWrite,
};
use crate::app::App;
use crate::app::connection_shares::with_share_owner;
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits::{count_address, count_anonymous};
use crate::http::edge::{shedding, trusted_origin};
use crate::http::family::{AcceptedCredentials, Family};
use crate::model::caller::Identity;
use crate::model::rate_limit::{LimitSubject, RateLimit};

/// The result of identifying a request, which its guard takes.
#[derive(Clone)]
struct IdentityResult(Result<Option<Identity>, Arc<Error>>);

/// Identifies the owner of the request's credential, as middleware, and stores the result for a
/// guard. Routes for master keys and for verifiers skip this, because their guards verify the
/// credential. So do routes that need no credential.
///
/// While the server works on it, the request has a permit among all requests and one among those of
/// its caller.
///
/// # Errors
/// Rate limited, or unavailable if no permit is left. An invalid credential is rejected by the
/// guard.
pub async fn identify(State(app): State<App>, request: Request, next: Next) -> Result<Response> {
    let context = RequestContext::from_extensions(request.extensions())?;
    if context.facts.credentials == AcceptedCredentials::Verifiers {
        // The guard of introspection acquires its permit, because OAuth clients call it, too.
        let is_check = context.facts.family == Family::Verification;
        let permit = is_check.then(|| shedding::acquire_check_permit(&app)).transpose()?;
        // A request that may wait for an event releases its permit at once.
        let _permit = permit.filter(|_| context.facts.kind.max_wait.is_zero());
        return Ok(next.run(request).await);
    }
    let permit = shedding::acquire_permit(&app, &context)?;
    if matches!(
        context.facts.credentials,
        AcceptedCredentials::MasterKeys | AcceptedCredentials::None
    ) {
        let subject = LimitSubject::from_address(context.client_address);
        let _permits = shedding::acquire_caller_permit(&app, &context, permit, subject)?;
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    let identity = find_identity(&app, &context, &parts).await;
    count_unidentified(&app, &context, &parts.headers, &identity)?;
    if let Ok(Some(identity)) = &identity {
        let _ = context.identity.set(identity.clone());
    }
    let owner = context.identity.get().and_then(Identity::share_owner);
    let subject = owner.unwrap_or_else(|| LimitSubject::from_address(context.client_address));
    let _permits = shedding::acquire_caller_permit(&app, &context, permit, subject)?;
    parts.extensions.insert(IdentityResult(identity.map_err(Arc::new)));
    let response = next.run(Request::from_parts(parts, body));
    Ok(match owner {
        Some(owner) => with_share_owner(owner, response).await,
        None => response.await,
    })
}

/// Counts a request without a valid credential by its address. Guards count the others, because
/// they know whose limits a request counts against.
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

/// Identifies the owner of the request's credential. A credential in a header, even an invalid one,
/// takes precedence over a session cookie, which browsers add by themselves.
async fn find_identity(
    app: &App,
    context: &RequestContext,
    parts: &Parts,
) -> Result<Option<Identity>> {
    let headers = &parts.headers;
    let identity = match PresentedCredential::from_headers(headers)? {
        Some(presented @ PresentedCredential::Key(text)) => {
            let result = identify_key(app, context, text).await;
            result.map_err(|error| presented.explain(error))?
        }
        Some(presented @ PresentedCredential::Bearer(text)) => {
            let result = identify_bearer(app, context, text).await;
            result.map_err(|error| presented.explain(error))?
        }
        Some(PresentedCredential::Unreadable) => {
            return Err(Error::unauthenticated(AuthFailure::InvalidKey, SEND_KEY_MESSAGE));
        }
        None if context.facts.credentials == AcceptedCredentials::OauthTokens => return Ok(None),
        None => {
            let Some(identity) = identify_cookies(app, context, parts).await? else {
                return Ok(None);
            };
            if !trusted_origin::is_safe(&parts.method) {
                let checked = trusted_origin::check(headers, app);
                checked.inspect_err(|_| set_rejected_caller(context, &identity))?;
            }
            identity
        }
    };
    let accepted = context.facts.credentials;
    if identity.credential().is_some_and(|credential| accepted.accepts(credential)) {
        return Ok(Some(identity));
    }
    set_rejected_caller(context, &identity);
    if accepted == AcceptedCredentials::OauthTokens {
        let message = "This endpoint requires an OAuth access token";
        return Err(Error::unauthenticated(AuthFailure::InvalidToken, message));
    }
    Err(Error::forbidden("This endpoint does not accept this type of credential"))
}

/// Records the owner of a valid credential that is rejected.
fn set_rejected_caller(context: &RequestContext, identity: &Identity) {
    if let Some(rejected) = RejectedCaller::from_identity(identity) {
        let _ = context.rejected_caller.set(rejected);
    }
}
