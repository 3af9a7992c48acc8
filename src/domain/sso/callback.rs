//! The end of a sign-in: the provider has sent the browser back.

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::accounts::sessions::StartedSession;
use crate::domain::sso::admission::{SignedIn, admit};
use crate::domain::sso::provider::{ProviderFailure, authenticate};
use crate::domain::sso::sign_in::FlowSecrets;
use crate::error::{ErrorKind, Result};
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::ids::{AccountId, ConnectionId};
use crate::model::key_format::KeyFormat;
use crate::model::secret::{Digest, Secret};
use crate::model::session::SessionClient;
use crate::model::sso::connection::{ConnectionStatus, SsoConnection};
use crate::model::sso::flow::SignInFlow;
use crate::model::sso::provider_identity::ProviderIdentity;
use crate::model::sso::sign_in_rejection::SignInRejection;
use crate::repo::{audit_events, sso_connections, sso_flows};

/// How often a sign-in is tried again because another one changed what it depends on.
const MAX_ATTEMPTS: usize = 3;

/// The answer of a provider.
pub struct ProviderAnswer {
    /// The state that was sent to it.
    pub state: Secret,
    /// The code, or the error code.
    pub outcome: Result<Secret, String>,
    /// The issuer that it states (RFC 9207).
    pub issuer: Option<String>,
}

/// A completed sign-in.
pub struct CompletedSignIn {
    /// The session.
    pub session: StartedSession,
    /// The account.
    pub account: AccountId,
    /// Where the browser is sent.
    pub callback_url: Option<String>,
}

/// Completes a sign-in with the answer of a provider, in a browser with a cookie that has one of
/// these digests. Of several concurrent calls with one answer, one succeeds. The inner error says
/// why the person was not signed in; the organization's audit log has the details.
///
/// # Errors
/// The outer errors are those of the database.
pub async fn complete(
    app: &App,
    connection: ConnectionId,
    (answer, browsers): (&ProviderAnswer, &[Digest]),
    client: &SessionClient,
    audit: &AuditContext,
) -> Result<Result<CompletedSignIn, SignInRejection>> {
    let Some((connection, flow)) = consume(app, connection, (answer, browsers), audit).await?
    else {
        return Ok(Err(SignInRejection::State));
    };
    match sign_in(app, &connection, (&flow, answer), client, audit).await? {
        Ok((session, account)) => {
            Ok(Ok(CompletedSignIn { session, account, callback_url: flow.callback_url }))
        }
        // Anyone can send an error to the callback.
        Err((SignInRejection::Denied, _)) => Ok(Err(SignInRejection::Denied)),
        Err((rejection, detail)) => {
            let rejected = (rejection, detail);
            let record =
                async |tx: &mut _| record_rejection(tx, &connection, &rejected, audit).await;
            app.db.transaction(record).await?;
            Ok(Err(rejection))
        }
    }
}

/// Returns the connection, which is active, and the sign-in, which cannot be completed again.
async fn consume(
    app: &App,
    connection: ConnectionId,
    (answer, browsers): (&ProviderAnswer, &[Digest]),
    audit: &AuditContext,
) -> Result<Option<(SsoConnection, SignInFlow)>> {
    if !KeyFormat::sso_state().matches(answer.state.expose()) || browsers.is_empty() {
        return Ok(None);
    }
    let states = app.peppers.candidates(answer.state.expose());
    let consume = async |tx: &mut PgConnection| {
        let digests = (&states[..], browsers);
        let flow = sso_flows::consume(tx, connection, digests, audit.at).await?;
        let connection = sso_connections::find_by_id(tx, connection).await?;
        let connection = connection.filter(|it| it.status == ConnectionStatus::Active);
        Ok(connection.zip(flow))
    };
    app.db.transaction(consume).await
}

/// Why a person was not signed in, and the detail of the audit event.
type Rejected = (SignInRejection, serde_json::Value);

async fn sign_in(
    app: &App,
    connection: &SsoConnection,
    (flow, answer): (&SignInFlow, &ProviderAnswer),
    client: &SessionClient,
    audit: &AuditContext,
) -> Result<Result<(StartedSession, AccountId), Rejected>> {
    let rejected = |rejection, why: &str| Ok(Err((rejection, json!({ "why": why }))));
    let code = match &answer.outcome {
        Ok(code) => code,
        Err(error) => {
            let why = format!("the provider responded with the error {error}");
            return rejected(SignInRejection::Denied, &why);
        }
    };
    if answer.issuer.as_ref().is_some_and(|issuer| *issuer != connection.issuer) {
        return rejected(SignInRejection::Provider, "the answer is from another issuer");
    }
    let Some(secrets) = FlowSecrets::derive(app, &flow.pepper_id, &answer.state) else {
        return Ok(Err((SignInRejection::State, json!({ "why": "its pepper was removed" }))));
    };
    let identity = match authenticate(app, connection, code, &secrets).await {
        Ok(identity) => identity,
        Err(ProviderFailure(why)) => return rejected(SignInRejection::Provider, &why),
    };
    match admit_again(app, (connection, &identity), client, audit).await? {
        Ok(SignedIn { session, account }) => Ok(Ok((session, account))),
        Err(rejection) => Ok(Err((rejection, describe(&identity)))),
    }
}

/// Admits a person. If another sign-in of the same person changed what it depends on, it is tried
/// again.
async fn admit_again(
    app: &App,
    person: (&SsoConnection, &ProviderIdentity),
    client: &SessionClient,
    audit: &AuditContext,
) -> Result<Result<SignedIn, SignInRejection>> {
    let mut attempt = 1;
    loop {
        let admitting = app.db.transaction(async |tx| admit(app, tx, person, client, audit).await);
        match admitting.await {
            Err(error)
                if attempt < MAX_ATTEMPTS
                    && matches!(error.kind(), ErrorKind::Conflict | ErrorKind::EmailTaken) =>
            {
                attempt += 1;
            }
            Err(error) if matches!(error.kind(), ErrorKind::PlanLimit { .. }) => {
                return Ok(Err(SignInRejection::SeatLimit));
            }
            result => return result,
        }
    }
}

/// Returns what the audit log shows of a person that was not admitted.
fn describe(identity: &ProviderIdentity) -> serde_json::Value {
    json!({
        "subject": identity.subject,
        "email": identity.email().map(|email| email.as_str().to_owned()),
        "is_email_disputed": identity.is_email_disputed(),
    })
}

async fn record_rejection(
    tx: &mut PgConnection,
    connection: &SsoConnection,
    (rejection, detail): &Rejected,
    audit: &AuditContext,
) -> Result<()> {
    let mut detail = detail.clone();
    detail["code"] = json!(rejection.code());
    detail["reason"] = json!(rejection.as_str());
    let connection_id = connection.id.to_string();
    let event = NewAuditEvent {
        organization: connection.organization,
        event_type: AuditEventType::SsoSignInRejected,
        actor: &connection_id,
        target: &connection_id,
        key_display_id: None,
        detail,
        audit,
    };
    audit_events::insert(tx, &event).await
}
