//! The guards: extractors with which a handler's signature requires a caller. Each counts and
//! admits its request ([`admit`]).

use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::app::App;
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::http::auth::IdentityResult;
use crate::http::auth::admission::{AdmissionPolicy, admit, reject};
use crate::http::auth::required_scopes::RequiredScope;
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits;
use crate::http::path::PathOrganization;
use crate::http::query;
use crate::model::caller::{Caller, Credential, Identity, Person};
use crate::model::ids::SessionId;
use crate::model::oauth::OpenidScope;
use crate::model::organization_handle::OrganizationHandle;
use crate::model::role::Role;
use crate::model::scope::BuiltInScope;
use crate::repo::account_callers;

/// Takes the middleware's result. Returns `None` if no credential was presented.
fn take_identity(parts: &mut Parts) -> Result<Option<Identity>> {
    let result = parts.extensions.remove::<IdentityResult>();
    let IdentityResult(identity) =
        result.ok_or_else(|| Error::internal("a guard ran without the identity middleware"))?;
    // The middleware keeps no reference to the error.
    let shared = || Error::internal("the identity error is still shared");
    identity.map_err(|error| Arc::into_inner(error).unwrap_or_else(shared))
}

fn require_identity(parts: &mut Parts) -> Result<Identity> {
    take_identity(parts)?.ok_or_else(|| {
        let message = "This endpoint requires a credential: a key, an access token or a session";
        Error::unauthenticated(AuthFailure::MissingCredential, message)
    })
}

/// Guard: a caller in an organization that is active and within its monthly quota.
pub struct Authenticated(pub Arc<Caller>);

impl FromRequestParts<App> for Authenticated {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let context = RequestContext::from_request_parts(parts, app).await?;
        let identity = require_identity(parts)?;
        let Some(caller) = identity.caller.clone() else {
            let error = Error::forbidden("No organization is selected for this credential");
            return reject(app, &context, &identity, error);
        };
        admit(app, &context, &parts.extensions, AdmissionPolicy::Organization(&caller)).await?;
        Ok(Self(caller))
    }
}

/// Notes the scope that a route requires, for the challenge of a request without a credential.
fn note_scope(parts: &Parts, scope: BuiltInScope) -> Result<()> {
    let context = RequestContext::from_extensions(&parts.extensions)?;
    let _ = context.required_scope.set(scope);
    Ok(())
}

/// Guard: [`Authenticated`], with the scope `S`.
pub struct Scoped<S>(pub Arc<Caller>, pub PhantomData<S>);

impl<S: RequiredScope> FromRequestParts<App> for Scoped<S> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        note_scope(parts, S::SCOPE)?;
        let Authenticated(caller) = Authenticated::from_request_parts(parts, app).await?;
        caller.authorize(S::SCOPE)?;
        Ok(Self(caller, PhantomData))
    }
}

/// Guard: a caller in the organization that the path names, with any role. An organization that
/// does not exist and one that the caller is not a member of give the same 403.
pub struct InOrganization(pub Arc<Caller>);

impl FromRequestParts<App> for InOrganization {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let identity = require_identity(parts)?;
        let context = RequestContext::from_request_parts(parts, app).await?;
        // A path that cannot be decoded names no organization.
        let handle = match PathOrganization::from_request_parts(parts, app).await {
            Ok(PathOrganization(handle)) => handle,
            Err(error) if *error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let caller = find_caller(app, &context, identity, &handle).await?;
        let _ = context.path_organization.set(caller.organization);
        admit(app, &context, &parts.extensions, AdmissionPolicy::Organization(&caller)).await?;
        Ok(Self(caller))
    }
}

/// Guard: [`InOrganization`], with the scope `S` and the role that it requires.
pub struct OrganizationScoped<S>(pub Arc<Caller>, pub PhantomData<S>);

impl<S: RequiredScope> FromRequestParts<App> for OrganizationScoped<S> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        note_scope(parts, S::SCOPE)?;
        let InOrganization(caller) = InOrganization::from_request_parts(parts, app).await?;
        let role =
            S::PERMISSION.map_or_else(|| Role::required_for(S::SCOPE), |it| it.minimum_role());
        if S::PERMISSION.is_some_and(|it| it.session_only)
            && !matches!(caller.credential, Credential::Session(..))
        {
            return Err(session_required());
        }
        caller.require_scope(S::SCOPE)?;
        caller.require_role(role)?;
        Ok(Self(caller, PhantomData))
    }
}

/// Returns the caller in the organization with this handle. Requests for organizations that the
/// caller is not a member of are counted; beyond the limit, the database is not queried.
async fn find_caller(
    app: &App,
    context: &RequestContext,
    identity: Identity,
    handle: &str,
) -> Result<Arc<Caller>> {
    let caller = match &identity {
        Identity { caller, person: None } => {
            caller.clone().filter(|caller| caller.organization_handle.eq_ignore_ascii_case(handle))
        }
        Identity { person: Some(person), .. } => match OrganizationHandle::parse(handle) {
            Ok(handle) => {
                rate_limits::peek_account_limit(app, context, person.account.uuid())?;
                app.db
                    .run(async |db| {
                        account_callers::find_caller_by_handle(db, person, &handle).await
                    })
                    .await?
            }
            Err(_) => None,
        },
    };
    match caller {
        Some(caller) => Ok(caller),
        None => reject(app, context, &identity, no_access(&identity)),
    }
}

/// Returns the error for an organization in which an identity does not act.
fn no_access(identity: &Identity) -> Error {
    let scoped = identity.person.as_ref().and_then(|person| person.require_not_sso().err());
    scoped
        .unwrap_or_else(|| Error::forbidden("This credential does not belong to this organization"))
}

/// Guard: an account, by a session, a personal access token or an OAuth access token.
pub struct AuthenticatedPerson(pub Arc<Person>);

impl FromRequestParts<App> for AuthenticatedPerson {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let identity = require_identity(parts)?;
        let context = RequestContext::from_request_parts(parts, app).await?;
        let Some(person) = identity.person.clone() else {
            let error =
                Error::forbidden("This endpoint requires an account; an organization key has none");
            return reject(app, &context, &identity, error);
        };
        let policy = AdmissionPolicy::Account(&person, identity.caller.as_deref());
        admit(app, &context, &parts.extensions, policy).await?;
        Ok(Self(person))
    }
}

/// Guard: [`AuthenticatedPerson`], with the scope `S`.
pub struct PersonScoped<S>(pub Arc<Person>, pub PhantomData<S>);

impl<S: RequiredScope> FromRequestParts<App> for PersonScoped<S> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        note_scope(parts, S::SCOPE)?;
        let AuthenticatedPerson(person) =
            AuthenticatedPerson::from_request_parts(parts, app).await?;
        person.require_scope(S::SCOPE)?;
        Ok(Self(person, PhantomData))
    }
}

/// Guard: an OAuth access token with the scope `openid`, whose organization is not suspended.
pub struct OpenidScoped {
    /// The account that it acts for.
    pub person: Arc<Person>,
    /// The membership in the organization of the grant; `None` if it is about the account alone.
    pub caller: Option<Arc<Caller>>,
    /// Its scopes of `OpenID` Connect.
    pub scopes: Vec<OpenidScope>,
}

impl FromRequestParts<App> for OpenidScoped {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let context = RequestContext::from_request_parts(parts, app).await?;
        let AuthenticatedPerson(person) =
            AuthenticatedPerson::from_request_parts(parts, app).await?;
        let scopes = match &person.credential {
            Credential::OauthToken(_, token) => token.openid_scopes.clone(),
            _ => Vec::new(),
        };
        if !scopes.contains(&OpenidScope::Openid) {
            let missing = vec![OpenidScope::Openid.as_str().to_owned()];
            let message = "This token lacks the scope openid";
            return Err(Error::new(ErrorKind::MissingScopes(missing), message));
        }
        let caller = context.identity.get().and_then(|identity| identity.caller.clone());
        caller.as_ref().map_or(Ok(()), |caller| caller.require_active())?;
        Ok(Self { person, caller, scopes })
    }
}

/// Guard: [`InAnySession`], except for sessions that single sign-on began: those act in their
/// organization only, and not on the account itself.
pub struct InSession(pub InAnySession);

impl FromRequestParts<App> for InSession {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let in_session = InAnySession::from_request_parts(parts, app).await?;
        in_session.person.require_not_sso()?;
        Ok(Self(in_session))
    }
}

/// Guard: an account in a session, by cookie or access token. Other credentials are rejected. A
/// handler that names this guard acts within the reach of the [`Person`] only.
pub struct InAnySession {
    /// The account.
    pub person: Arc<Person>,
    /// The session.
    pub session: SessionId,
    /// The caller in the account's home organization; `None` if that was deleted or the account has
    /// left it.
    pub caller: Option<Arc<Caller>>,
}

fn session_required() -> Error {
    Error::forbidden("This endpoint requires a session")
}

impl InAnySession {
    /// Returns the account and the session.
    #[must_use]
    pub fn person_and_session(&self) -> (&Person, SessionId) {
        (&self.person, self.session)
    }

    pub(super) fn from_identity(identity: Identity) -> Result<Self> {
        let person = identity.person.ok_or_else(session_required)?;
        let Credential::Session(_, session) = person.credential else {
            return Err(session_required());
        };
        Ok(Self { person, session, caller: identity.caller })
    }
}

impl FromRequestParts<App> for InAnySession {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let identity = require_identity(parts)?;
        let context = RequestContext::from_request_parts(parts, app).await?;
        let in_session = match Self::from_identity(identity.clone()) {
            Ok(in_session) => in_session,
            Err(error) => return reject(app, &context, &identity, error),
        };
        let policy = AdmissionPolicy::Account(&in_session.person, None);
        admit(app, &context, &parts.extensions, policy).await?;
        Ok(in_session)
    }
}

/// Returns whether a request presents a credential in a header.
pub(super) fn has_explicit_credential(parts: &Parts) -> bool {
    parts.headers.contains_key("authorization") || parts.headers.contains_key("x-api-key")
}

/// Guard: an account in a session, or `None` without a live one. An invalid credential in a header
/// is still rejected.
pub struct MaybeInSession(pub Option<InAnySession>);

impl FromRequestParts<App> for MaybeInSession {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let is_explicit = has_explicit_credential(parts);
        let context = RequestContext::from_request_parts(parts, app).await?;
        let result = take_identity(parts);
        query::require_known(&parts.extensions)?;
        match result {
            Ok(None) => Ok(Self(None)),
            Ok(Some(identity)) => {
                rate_limits::count_account_first(app, &context, &identity)?;
                InAnySession::from_identity(identity).map(Some).map(Self)
            }
            Err(error) if !is_explicit && matches!(error.kind(), ErrorKind::Unauthenticated(_)) => {
                Ok(Self(None))
            }
            Err(error) => Err(error),
        }
    }
}

/// Guard: any request, with any credential or none. Counts it once.
pub struct CountedRequest;

impl FromRequestParts<App> for CountedRequest {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let context = RequestContext::from_request_parts(parts, app).await?;
        match context.identity.get() {
            _ if context.has_rate_limit_decision() => {}
            Some(identity) => rate_limits::count_account_first(app, &context, identity)?,
            None => rate_limits::count_anonymous(app, &context, &parts.headers)?,
        }
        query::require_known(&parts.extensions).map(|()| Self)
    }
}
