//! Introspection (RFC 7662): whether a credential is valid, for a service that checks scopes and
//! limits by itself.
//!
//! It counts against no rate limit or quota of an organization, and an exceeded one does not make a
//! credential inactive.

use std::sync::Arc;

use metrics::counter;
use tokio::time::Instant;

use super::record::record_rejection;
use super::{CheckRequest, Found, Verdict, Verifier};
use super::{count_invalid, find_credential, for_verifier, query_for, rehash_later, rejection};
use crate::app::App;
use crate::app::meter::CheckOutcome;
use crate::app::verification_lookup::VerificationQuery;
use crate::domain::keys::presented::{jwt_access_token_digests, possible_digests};
use crate::error::Result;
use crate::model::audit::AuditContext;
use crate::model::oauth::client::OauthClient;
use crate::model::secret::Secret;
use crate::model::verification::{
    CredentialKind, KnownCredential, RequiredScopes, VerdictClass, VerificationCode,
};
use crate::repo::known_credentials;

/// Returns a presented credential if it is active; `None` for every other one, whatever the reason.
/// The client's address is not known, so a key with allowed addresses is not active.
///
/// An invalid credential counts against the same rate limit as in a [check](super::check), but the
/// limit does not change the answer. The rejection of a known one is recorded for its organization.
///
/// # Errors
/// Unavailable if the database does not respond in time.
pub async fn introspect(
    app: &App,
    verifier: &Verifier,
    token: &Secret,
    audit: &AuditContext,
) -> Result<Option<Arc<KnownCredential>>> {
    let request = check_request();
    let deadline = Instant::now() + app.config.verification.timeout;
    let found = find_introspected(app, token, deadline).await;
    let verdict = match found.map(|found| for_verifier(app, verifier, found)) {
        Ok(Ok(credential)) => {
            let code = rejection(app, &credential, &request);
            Verdict::new(code.unwrap_or(VerificationCode::Valid), Some(credential))
        }
        Ok(Err(code)) => Verdict::new(code, None),
        Err(error) => {
            counter!("verifications_total", "code" => "unavailable").increment(1);
            return Err(error);
        }
    };
    counter!("verifications_total", "code" => verdict.code.as_str()).increment(1);
    if verdict.code.class() == VerdictClass::Unauthenticated {
        let _ = count_invalid(app, verifier, &request);
    }
    if verdict.code != VerificationCode::Valid {
        record_rejection(app, verifier, (token, &request), &verdict, audit);
        return Ok(None);
    }
    rehash_later(app, token, verdict.credential.as_deref());
    if let Some(credential) = &verdict.credential {
        record_use(app, credential, audit);
    }
    Ok(verdict.credential)
}

/// Returns a presented OAuth access token of this client if it is active; `None` for every other
/// credential. The lookup does not use the connections for checks, which are reserved for
/// verifiers.
///
/// # Errors
/// Unavailable if the database does not respond.
pub async fn introspect_own(
    app: &App,
    client: &OauthClient,
    token: &Secret,
) -> Result<Option<Arc<KnownCredential>>> {
    let digests = match possible_digests(app, token.expose()) {
        Some((CredentialKind::OauthToken, digests)) => Some(digests),
        _ => jwt_access_token_digests(app, token.expose()),
    };
    let Some(digests) = digests else { return Ok(None) };
    let digests = digests.into_iter().map(|digest| (CredentialKind::OauthToken, digest));
    let found = app.db.run(async |db| known_credentials::find(db, digests).await).await?;
    let found = found.into_values().next();
    let is_own = |credential: &Arc<KnownCredential>| {
        credential.oauth.as_ref().is_some_and(|oauth| oauth.client == client.id)
    };
    let own = found.filter(is_own);
    Ok(own.filter(|credential| rejection(app, credential, &check_request()).is_none()))
}

/// Returns the credential with this text. A JWT may also be a key that was imported.
async fn find_introspected(app: &App, token: &Secret, deadline: Instant) -> Result<Found> {
    if let Some(candidates) = jwt_access_token_digests(app, token.expose()) {
        let query = VerificationQuery { kind: CredentialKind::OauthToken, candidates };
        let found = find_credential(app, Some(query), deadline).await?;
        let imported = query_for(app, token).filter(|_| found.is_err());
        return match imported {
            Some(query) => find_credential(app, Some(query), deadline).await,
            None => Ok(found),
        };
    }
    find_credential(app, query_for(app, token), deadline).await
}

/// Returns the check of an introspection, which requires no scopes and costs nothing.
fn check_request() -> CheckRequest {
    CheckRequest {
        scopes: RequiredScopes::default(),
        cost: 0,
        limits: Vec::new(),
        attribution: Arc::default(),
        client_address: None,
        client_origin: None,
        is_dry_run: false,
        method_and_path: ("POST".into(), "/oauth2/introspect".into()),
    }
}

/// Records when a credential was used, without counting its use.
fn record_use(app: &App, credential: &KnownCredential, audit: &AuditContext) {
    app.meter.count_check(
        (credential.id, credential.kind.as_used()),
        credential.organization.as_ref().map(|organization| organization.id),
        (CheckOutcome { admitted: 0, counted: 0, is_rejected: false }, &Arc::default()),
        audit.at,
    );
}
