//! Who is calling: found out once for every request, before its handler runs.
//!
//! Routes that need a caller say so with a guard in their handler's signature: [`Authenticated`]
//! or [`Scoped`]. The others do not ask.

mod credential;
mod holder;

use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;

use self::credential::Credential;
pub use self::holder::holder_of_key;
use self::holder::{holder_of_session, refused};
use crate::app::App;
use crate::error::{Error, Result};
use crate::http::context::RequestContext;
use crate::model::caller::Caller;

/// What was found out, for the guard to take.
#[derive(Clone)]
struct Identity(Result<Option<Arc<Caller>>, Arc<Error>>);

/// The hashed-key middleware: reads the credential, asks whose it is, and leaves the answer, good
/// or bad, for a guard.
pub async fn identify(
    State(app): State<App>,
    context: RequestContext,
    mut request: Request,
    next: Next,
) -> Response {
    let identity = match Credential::of(request.headers()) {
        Ok(Some(credential)) => find(&app, &context, &credential).await.map(Some),
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    if let Ok(Some(caller)) = &identity {
        let _ = context.caller.set(Arc::clone(caller));
    }
    request.extensions_mut().insert(Identity(identity.map_err(Arc::new)));
    next.run(request).await
}

async fn find(
    app: &App,
    context: &RequestContext,
    credential: &Credential<'_>,
) -> Result<Arc<Caller>> {
    let caller = match credential {
        Credential::Key(text) => holder_of_key(app, context, text).await,
        Credential::Bearer(text) => match app.access_tokens.session(text, context.at) {
            Some(session) => holder_of_session(app, context, session).await,
            None => holder_of_key(app, context, text).await,
        },
        Credential::Unreadable => Err(refused()),
    };
    caller.map(Arc::new)
}

/// Guard: any good credential.
pub struct Authenticated(pub Arc<Caller>);

impl FromRequestParts<App> for Authenticated {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self> {
        let identity = parts.extensions.remove::<Identity>();
        let Identity(identity) =
            identity.ok_or_else(|| Error::internal("a guard outside the key middleware"))?;
        match identity {
            Ok(Some(caller)) => Ok(Self(caller)),
            Ok(None) => Err(Error::unauthenticated("This needs a key or an access token")),
            // The guard is the only one who holds it: the middleware has handed it over.
            Err(error) => Err(Arc::into_inner(error).unwrap_or_else(refused)),
        }
    }
}

/// A scope, as a type that a guard can name.
pub trait RequiredScope {
    /// The scope's text.
    const SCOPE: &'static str;
}

/// Guard: a good credential that holds the scope `S`.
pub struct Scoped<S>(pub Arc<Caller>, pub PhantomData<S>);

impl<S: RequiredScope> FromRequestParts<App> for Scoped<S> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, app).await?;
        caller.require(S::SCOPE)?;
        Ok(Self(caller, PhantomData))
    }
}

/// `api-keys:read`
pub struct ApiKeysRead;

impl RequiredScope for ApiKeysRead {
    const SCOPE: &'static str = "api-keys:read";
}

/// `api-keys:write`
pub struct ApiKeysWrite;

impl RequiredScope for ApiKeysWrite {
    const SCOPE: &'static str = "api-keys:write";
}

/// `audit:read`
pub struct AuditRead;

impl RequiredScope for AuditRead {
    const SCOPE: &'static str = "audit:read";
}

/// `billing:read`
pub struct BillingRead;

impl RequiredScope for BillingRead {
    const SCOPE: &'static str = "billing:read";
}
