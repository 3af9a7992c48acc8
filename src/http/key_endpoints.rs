//! The shared part of the families' endpoints for organization keys: rate limits, idempotency, and
//! the permissions that a replay requires of its caller. The families differ in their fields and in
//! their responses.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use crate::app::App;
use crate::domain::keys::changes::{self, KeyChanges};
use crate::domain::keys::containment;
use crate::domain::keys::{self, CreatedKey, KeySpec};
use crate::error::{Error, Result};
use crate::http::body::RequestFingerprint;
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency};
use crate::http::edge::rate_limits;
use crate::model::api_key::ApiKey;
use crate::model::caller::Caller;
use crate::model::ids::KeyId;
use crate::model::member::KeyInvitedMembership;
use crate::model::rate_limit::RateLimit;

/// A change to an organization's keys by a caller in it.
pub struct KeyChangeRequest<'a> {
    /// The state of the server.
    pub app: &'a App,
    /// The caller that makes the change.
    pub caller: &'a Arc<Caller>,
    /// The request.
    pub context: &'a RequestContext,
    /// The idempotency key of the request.
    pub idempotency: Idempotency,
}

impl KeyChangeRequest<'_> {
    /// Creates a key. `spec` returns its settings, for the caller as read in the transaction.
    ///
    /// # Errors
    /// Rate limited; the errors of [`keys::create`].
    pub async fn create<T: Serialize>(
        self,
        fingerprint: RequestFingerprint,
        spec: impl Fn(&Caller) -> KeySpec,
        respond: impl FnOnce(CreatedKey) -> T,
    ) -> Result<Response> {
        let Self { app, caller, context, idempotency } = self;
        let limit = (RateLimit::KeyMint, caller.organization);
        let count = rate_limits::count_for_organization(app, context, limit);
        idempotency.count_unless_replay(app, caller, &fingerprint, count).await?;
        let permissions = spec(caller).permissions();
        let check = async |_: &mut _| permissions.require_within(caller);
        idempotency
            .run_checked(app, caller, fingerprint, check, async |tx| {
                let audit = context.audit_context_for(StatusCode::CREATED);
                let created = keys::create(app, tx, caller, spec, &audit).await?;
                Ok(ChangeResponse::created(respond(created)))
            })
            .await
    }

    /// Updates a key's settings.
    ///
    /// # Errors
    /// The errors of [`changes::update`].
    pub async fn update<T: Serialize>(
        self,
        fingerprint: RequestFingerprint,
        id: KeyId,
        changes: KeyChanges,
        respond: impl FnOnce(ApiKey) -> T,
    ) -> Result<Response> {
        let Self { app, caller, context, idempotency } = self;
        let check = async |tx: &mut _| containment::require_updatable(tx, caller, id).await;
        idempotency
            .run_checked(app, caller, fingerprint, check, async |tx| {
                let audit = context.audit_context();
                let key = changes::update(tx, caller, id, &changes, &audit).await?;
                Ok(ChangeResponse::ok(respond(key)))
            })
            .await
    }

    /// Replaces a key by a new one; the old key works for `grace` more seconds.
    ///
    /// # Errors
    /// Rate limited; the errors of [`changes::rotate`].
    pub async fn rotate<T: Serialize>(
        self,
        fingerprint: RequestFingerprint,
        id: KeyId,
        grace: i32,
        respond: impl FnOnce(CreatedKey) -> T,
    ) -> Result<Response> {
        let Self { app, caller, context, idempotency } = self;
        let limit = (RateLimit::KeyMint, caller.organization);
        let count = rate_limits::count_for_organization(app, context, limit);
        idempotency.count_unless_replay(app, caller, &fingerprint, count).await?;
        let check = async |tx: &mut _| containment::require_updatable(tx, caller, id).await;
        idempotency
            .run_checked(app, caller, fingerprint, check, async |tx| {
                let audit = context.audit_context();
                let created = changes::rotate(app, tx, caller, id, grace, &audit).await?;
                Ok(ChangeResponse::ok(respond(created)))
            })
            .await
    }

    /// Revokes a key. `respond` receives the memberships that were created by accepting its
    /// invitations.
    ///
    /// # Errors
    /// The errors of [`keys::revoke`].
    pub async fn revoke<T: Serialize>(
        self,
        id: KeyId,
        (reason, status): (Option<&str>, StatusCode),
        respond: impl FnOnce(Vec<KeyInvitedMembership>) -> ChangeResponse<T>,
    ) -> Result<Response> {
        let Self { app, caller, context, idempotency } = self;
        let check = async |tx: &mut _| containment::require_revocable(tx, caller, id).await;
        idempotency
            .run_checked(app, caller, RequestFingerprint::NOTHING, check, async |tx| {
                let audit = context.audit_context_for(status);
                keys::revoke(tx, caller, id, reason, &audit).await.map(respond)
            })
            .await
    }
}

/// Parses the id of a key in a path.
///
/// # Errors
/// Not found if the text is not the id of a key.
pub fn parse_key_id(text: &str) -> Result<KeyId> {
    KeyId::parse(text).ok_or_else(|| Error::not_found("There is no such key"))
}
