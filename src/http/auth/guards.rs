//! The guards: what a handler's signature can ask of whoever calls.

use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::app::App;
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::http::auth::{IdentityResult, quota};
use crate::http::context::RequestContext;
use crate::http::path::PathOrganization;
use crate::http::{query, rate_limits};
use crate::model::caller::{Caller, Credential, Identity, Person};
use crate::model::ids::SessionId;
use crate::model::org_handle::OrgHandle;
use crate::model::rate_limit::LimitSubject;
use crate::model::role::{Permission, Role};
use crate::repo::account_callers;

/// What the middleware found out; `None` where no credential was shown.
fn take_identity(parts: &mut Parts) -> Result<Option<Identity>> {
    let found = parts.extensions.remove::<IdentityResult>();
    let IdentityResult(identity) =
        found.ok_or_else(|| Error::internal("a guard outside its middleware"))?;
    // The guard is the only one who holds the failure: the middleware has handed it over.
    let shared = || Error::internal("a guard's failure is held by another");
    identity.map_err(|error| Arc::into_inner(error).unwrap_or_else(shared))
}

fn require_identity(parts: &mut Parts) -> Result<Identity> {
    let nothing = || {
        let message = "This needs a credential: a key, an access token or a session";
        Error::unauthenticated(AuthFailure::MissingCredential, message)
    };
    take_identity(parts)?.ok_or_else(nothing)
}

/// Guard: somebody who acts in an organization that is not suspended and has not spent its monthly
/// quota.
pub struct Authenticated(pub Arc<Caller>);

impl FromRequestParts<App> for Authenticated {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let nowhere = || Error::forbidden("This credential acts in no organization");
        let context = RequestContext::from_request_parts(parts, app).await?;
        let identity = require_identity(parts)?;
        rate_limits::count_identity(app, &context, &identity)?;
        let caller = identity.caller.ok_or_else(nowhere)?;
        caller.require_active()?;
        quota::admit(app, &context, &caller)?;
        query::require_known(&parts.extensions)?;
        count_change(app, &context, &caller).await?;
        Ok(Self(caller))
    }
}

/// Counts what people change in an organization; what its own keys do counts against its plan.
async fn count_change(app: &App, context: &RequestContext, caller: &Caller) -> Result<()> {
    match caller.credential {
        Credential::Key(..) => Ok(()),
        Credential::PersonalToken(..) | Credential::Session(..) => {
            rate_limits::count_change(app, context, LimitSubject::from_id(caller.organization.0))
                .await
        }
    }
}

/// A scope, as a type that a guard can name.
pub trait RequiredScope {
    /// The scope's text.
    const SCOPE: &'static str;
    /// The line of the table of rights, where it is not the scope's usual one.
    const RIGHT: Option<Permission> = None;
}

/// Guard: somebody who acts in an organization and may use the scope `S` there.
pub struct Scoped<S>(pub Arc<Caller>, pub PhantomData<S>);

impl<S: RequiredScope> FromRequestParts<App> for Scoped<S> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, app).await?;
        caller.authorize(S::SCOPE)?;
        Ok(Self(caller, PhantomData))
    }
}

/// Guard: somebody who acts in the organization that the path names, whatever they may do there.
/// An organization that is not theirs, or is none, is the same 403. One that has spent its monthly
/// quota is refused.
pub struct InOrganization(pub Arc<Caller>);

impl FromRequestParts<App> for InOrganization {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let identity = require_identity(parts)?;
        let context = RequestContext::from_request_parts(parts, app).await?;
        // What can not be read is the id of no organization.
        let handle = match PathOrganization::from_request_parts(parts, app).await {
            Ok(PathOrganization(handle)) => handle,
            Err(error) if *error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let caller = find_caller(app, &context, identity, &handle).await?;
        let _ = context.path_organization.set(caller.organization);
        rate_limits::count_request(app, &context, &caller)?;
        caller.require_active()?;
        quota::admit(app, &context, &caller)?;
        query::require_known(&parts.extensions)?;
        count_change(app, &context, &caller).await?;
        Ok(Self(caller))
    }
}

/// Guard: the same, who may also use the scope `S` there.
pub struct OrganizationScoped<S>(pub Arc<Caller>, pub PhantomData<S>);

impl<S: RequiredScope> FromRequestParts<App> for OrganizationScoped<S> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let InOrganization(caller) = InOrganization::from_request_parts(parts, app).await?;
        let role = S::RIGHT.map_or_else(|| Role::required_for(S::SCOPE), |it| it.minimum_role());
        if S::RIGHT.is_some_and(|it| it.session_only)
            && !matches!(caller.credential, Credential::Session(..))
        {
            return Err(session_required());
        }
        caller.require_scope(S::SCOPE)?;
        caller.require_role(role)?;
        Ok(Self(caller, PhantomData))
    }
}

/// The caller in the organization with this handle. Whoever asks for organizations that are not
/// theirs is counted for it, and not asked about any more where that was too often.
async fn find_caller(
    app: &App,
    context: &RequestContext,
    identity: Identity,
    handle: &str,
) -> Result<Arc<Caller>> {
    let found = match &identity {
        Identity { caller, person: None } => {
            caller.clone().filter(|caller| caller.organization_handle.eq_ignore_ascii_case(handle))
        }
        Identity { person: Some(person), .. } => match OrgHandle::parse(handle) {
            Ok(handle) => {
                rate_limits::check_person_limit(app, context, person.account)?;
                app.db
                    .run(async |db| {
                        account_callers::find_caller_by_handle(db, person, &handle).await
                    })
                    .await?
            }
            Err(_) => None,
        },
    };
    let Some(caller) = found else {
        rate_limits::count_person_first(app, context, &identity)?;
        return Err(Error::forbidden("This is not your organization"));
    };
    Ok(caller)
}

/// Guard: a person, in a session or with a personal token.
pub struct AuthenticatedPerson(pub Arc<Person>);

impl FromRequestParts<App> for AuthenticatedPerson {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let nobody = || Error::forbidden("An organization's key is nobody's account");
        let identity = require_identity(parts)?;
        let context = RequestContext::from_request_parts(parts, app).await?;
        rate_limits::count_person_first(app, &context, &identity)?;
        let Identity { caller, person } = identity;
        let person = person.ok_or_else(nobody)?;
        // What is done with a pinned token is counted in its organization, whatever it is about.
        if let Some(caller) = &caller {
            quota::admit(app, &context, caller)?;
        }
        query::require_known(&parts.extensions)?;
        rate_limits::count_own_change(app, &context, &person).await?;
        Ok(Self(person))
    }
}

/// Guard: a person whose credential holds the scope `S`.
pub struct PersonScoped<S>(pub Arc<Person>, pub PhantomData<S>);

impl<S: RequiredScope> FromRequestParts<App> for PersonScoped<S> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let AuthenticatedPerson(person) =
            AuthenticatedPerson::from_request_parts(parts, app).await?;
        person.require_scope(S::SCOPE)?;
        Ok(Self(person, PhantomData))
    }
}

/// Guard: a person in a session, by its cookie or an access token. A personal token is not enough.
pub struct InSession {
    /// The person.
    pub person: Arc<Person>,
    /// The session.
    pub session: SessionId,
    /// The person in their home organization; `None` where that is gone.
    pub caller: Option<Arc<Caller>>,
}

fn session_required() -> Error {
    Error::forbidden("This can be done in a session only")
}

impl InSession {
    pub(super) fn from_identity(identity: Identity) -> Result<Self> {
        let person = identity.person.ok_or_else(session_required)?;
        let Credential::Session(_, session) = person.credential else {
            return Err(session_required());
        };
        Ok(Self { person, session, caller: identity.caller })
    }
}

impl FromRequestParts<App> for InSession {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let identity = require_identity(parts)?;
        let context = RequestContext::from_request_parts(parts, app).await?;
        rate_limits::count_person_first(app, &context, &identity)?;
        query::require_known(&parts.extensions)?;
        let in_session = Self::from_identity(identity)?;
        rate_limits::count_own_change(app, &context, &in_session.person).await?;
        Ok(in_session)
    }
}

/// Whether a request shows a credential beside its cookies.
pub(super) fn has_explicit_credential(parts: &Parts) -> bool {
    parts.headers.contains_key("authorization") || parts.headers.contains_key("x-api-key")
}

/// Guard: a person in a session, or nobody. A session that has ended is nobody's; an explicit
/// credential that is not good is refused all the same.
pub struct MaybeInSession(pub Option<InSession>);

impl FromRequestParts<App> for MaybeInSession {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let is_explicit = has_explicit_credential(parts);
        let context = RequestContext::from_request_parts(parts, app).await?;
        let found = take_identity(parts);
        query::require_known(&parts.extensions)?;
        match found {
            Ok(None) => Ok(Self(None)),
            Ok(Some(identity)) => {
                rate_limits::count_person_first(app, &context, &identity)?;
                InSession::from_identity(identity).map(Some).map(Self)
            }
            Err(error) if !is_explicit && matches!(error.kind(), ErrorKind::Unauthenticated(_)) => {
                Ok(Self(None))
            }
            Err(error) => Err(error),
        }
    }
}

/// Guard: a request whose credential nobody asks for. It is counted all the same, once.
pub struct CountedRequest;

impl FromRequestParts<App> for CountedRequest {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let context = RequestContext::from_request_parts(parts, app).await?;
        match context.identity.get() {
            _ if context.has_rate_limit_decision() => {}
            Some(identity) => rate_limits::count_person_first(app, &context, identity)?,
            None => rate_limits::count_anonymous(app, &context, &parts.headers)?,
        }
        query::require_known(&parts.extensions).map(|()| Self)
    }
}

/// For what only an owner may do, and in a session only.
pub struct OwnerInSession;

impl RequiredScope for OwnerInSession {
    const SCOPE: &'static str = "organization:write";
    const RIGHT: Option<Permission> = Some(Permission::DELETE_ORGANIZATION);
}

/// `members:read`, for what only those see who run the organization.
pub struct InvitesRead;

impl RequiredScope for InvitesRead {
    const SCOPE: &'static str = "members:read";
    const RIGHT: Option<Permission> = Some(Permission::READ_INVITES);
}

/// `members:write`, for what people may do to their own seat, too.
pub struct OwnMembership;

impl RequiredScope for OwnMembership {
    const SCOPE: &'static str = "members:write";
    const RIGHT: Option<Permission> = Some(Permission::LEAVE);
}

macro_rules! scopes {
    ($($name:ident = $scope:literal;)*) => {$(
        #[doc = concat!("`", $scope, "`")]
        pub struct $name;

        impl RequiredScope for $name {
            const SCOPE: &'static str = $scope;
        }
    )*};
}

scopes! {
    ApiKeysRead = "api-keys:read";
    ApiKeysWrite = "api-keys:write";
    AuditRead = "audit:read";
    BillingRead = "billing:read";
    MembersRead = "members:read";
    MembersWrite = "members:write";
    OrganizationRead = "organization:read";
    OrganizationWrite = "organization:write";
    ProjectsRead = "projects:read";
    ProjectsWrite = "projects:write";
    UsageRead = "usage:read";
    UserRead = "user:read";
    UserWrite = "user:write";
}
