//! The requests to an identity provider that complete a sign-in: for the tokens, for its keys, and
//! for claims that the ID token lacks.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::timeout;

use crate::app::App;
use crate::app::http_client::{DOCUMENT_MAX_BYTES, Fetched, FormRequest, GetRequest};
use crate::domain::key_sets::{self, KeySetOwner, NeededKeySet};
use crate::domain::sso::sign_in::{FlowSecrets, redirect_uri};
use crate::error::Error;
use crate::model::public_key_set::{KeySetUrl, PublicKeySet};
use crate::model::secret::Secret;
use crate::model::sso::connection::SsoConnection;
use crate::model::sso::id_token::{ExpectedIdToken, UnverifiedIdToken};
use crate::model::sso::provider_identity::ProviderIdentity;

/// How long all requests to the provider may take together.
const DEADLINE: Duration = Duration::from_secs(5);

/// The response of the token endpoint (`OpenID` Connect Core §3.1.3.3).
#[derive(Deserialize)]
struct TokenResponse {
    id_token: String,
    access_token: String,
}

/// What was wrong with a provider's response, for the organization's audit log.
pub(super) struct ProviderFailure(pub String);

impl From<&str> for ProviderFailure {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<Error> for ProviderFailure {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

/// Exchanges a code, and returns the person that the ID token is about.
///
/// # Errors
/// The provider did not respond in time, or not as it should.
pub(super) async fn authenticate(
    app: &App,
    connection: &SsoConnection,
    code: &Secret,
    secrets: &FlowSecrets,
) -> Result<ProviderIdentity, ProviderFailure> {
    let authenticating = authenticate_without_deadline(app, connection, code, secrets);
    match timeout(DEADLINE, authenticating).await {
        Ok(identity) => identity,
        Err(_) => Err("the provider did not respond in time".into()),
    }
}

async fn authenticate_without_deadline(
    app: &App,
    connection: &SsoConnection,
    code: &Secret,
    secrets: &FlowSecrets,
) -> Result<ProviderIdentity, ProviderFailure> {
    let TokenResponse { id_token, access_token } =
        exchange(app, connection, code, &secrets.verifier).await?;
    let access_token = Secret::new(access_token);
    let token = UnverifiedIdToken::parse(Secret::new(id_token));
    let token = token.ok_or("the ID token is malformed, or signed with another algorithm")?;
    let keys = find_keys(app, connection, token.key_id()).await?;
    let expected = ExpectedIdToken {
        issuer: &connection.issuer,
        client_id: &connection.client_id,
        nonce: secrets.nonce.expose(),
        access_token: &access_token,
        now: app.clock.now(),
        clock_skew: app.config.sso.clock_skew,
    };
    let mut identity = token.verify(&keys, &expected)?;
    if identity.email().is_none()
        && let Some(url) = &connection.metadata.userinfo_endpoint
    {
        let request = GetRequest {
            url,
            accept: "application/json",
            etag: None,
            bearer: Some(&access_token),
            max_bytes: DOCUMENT_MAX_BYTES,
        };
        let response = app.http_client.get(&request).await;
        let claims: Map<String, Value> = read(response, "the userinfo endpoint")?;
        identity.add_userinfo(claims)?;
    }
    Ok(identity)
}

async fn exchange(
    app: &App,
    connection: &SsoConnection,
    code: &Secret,
    verifier: &Secret,
) -> Result<TokenResponse, ProviderFailure> {
    let secret = app.sealing_keys.open(connection.id.uuid(), &connection.client_secret);
    let secret = secret.map_err(|error| {
        tracing::error!(connection = %connection.id, cause = %error.cause(),
                        "a client secret cannot be opened");
        "the client secret cannot be read; enter it again"
    })?;
    let redirect_uri = redirect_uri(app, connection.id);
    let mut fields = vec![
        ("grant_type", "authorization_code"),
        ("code", code.expose()),
        ("redirect_uri", redirect_uri.as_str()),
        ("code_verifier", verifier.expose()),
    ];
    let id = connection.client_id.as_str();
    let basic = if connection.metadata.takes_secret_in_body {
        fields.extend([("client_id", id), ("client_secret", secret.expose())]);
        None
    } else {
        Some((id, &secret))
    };
    let request = FormRequest {
        url: &connection.metadata.token_endpoint,
        fields: &fields,
        basic,
        max_bytes: DOCUMENT_MAX_BYTES,
    };
    read(app.http_client.post_form(&request).await, "the token endpoint")
}

async fn find_keys(
    app: &App,
    connection: &SsoConnection,
    key_id: Option<&str>,
) -> Result<Arc<PublicKeySet>, ProviderFailure> {
    let needed = || -> Result<NeededKeySet, ProviderFailure> {
        let url = KeySetUrl::parse(connection.metadata.jwks_uri.as_str());
        let url = url.map_err(|_| "the URL of the provider's keys is not valid")?;
        let owner = KeySetOwner::Provider(connection.id);
        Ok(NeededKeySet { url, owner, key_id: key_id.map(str::to_owned) })
    };
    let set = needed()?;
    if set.must_be_fetched(app) {
        key_sets::refresh(app, set).await?;
    }
    let keys = needed()?.find(app);
    keys.ok_or_else(|| "the provider's keys cannot be fetched".into())
}

/// Reads a response of the provider as JSON. What it sent is not repeated, except for the error
/// code of a token endpoint.
fn read<T: DeserializeOwned>(
    response: Result<Fetched, impl std::fmt::Display>,
    from: &str,
) -> Result<T, ProviderFailure> {
    let response = response.map_err(|error| {
        // The organization must not learn what exists inside the network.
        tracing::info!(from, cause = %error, "an identity provider did not respond");
        ProviderFailure(format!("{from} did not respond"))
    })?;
    if response.status != 200 {
        let error = error_code(&response.body).map(|code| format!(" and the error {code}"));
        let (status, error) = (response.status, error.unwrap_or_default());
        return Err(ProviderFailure(format!("{from} responded with status {status}{error}")));
    }
    let body = serde_json::from_slice(&response.body);
    body.map_err(|_| ProviderFailure(format!("{from} did not respond with the expected JSON")))
}

/// Returns the error code of a response (RFC 6749 §5.2), if it is one of the kind that is defined:
/// lower-case letters and underscores.
fn error_code(body: &[u8]) -> Option<String> {
    let body: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let code = body.get("error")?.as_str()?;
    let is_code = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    (code.len() <= 64 && code.bytes().all(is_code)).then(|| code.to_owned())
}
