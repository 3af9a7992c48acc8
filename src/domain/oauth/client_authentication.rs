//! Authenticates clients (RFC 6749 §2.3).

use sqlx::PgConnection;

use crate::app::App;
use crate::domain::oauth::client_key_sets;
use crate::error::Result;
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::client_assertion::UnverifiedAssertion;
use crate::model::oauth::{ClientAuthMethod, is_client_id};
use crate::model::secret::Secret;
use crate::repo::{oauth_assertions, oauth_clients, oauth_tokens};

/// How a client presents itself.
pub struct PresentedClient {
    /// Its public id.
    pub client_id: String,
    /// How it proves that it is this client.
    pub proof: ClientProof,
}

/// How a client proves who it is.
pub enum ClientProof {
    /// Not at all: a public client.
    None,
    /// With its secret in HTTP Basic.
    BasicSecret(Secret),
    /// With its secret in the body.
    PostedSecret(Secret),
    /// With an assertion that it signed.
    Assertion(UnverifiedAssertion),
}

impl ClientProof {
    const fn method(&self) -> ClientAuthMethod {
        match self {
            Self::None => ClientAuthMethod::None,
            Self::BasicSecret(_) => ClientAuthMethod::SecretBasic,
            Self::PostedSecret(_) => ClientAuthMethod::SecretPost,
            Self::Assertion(_) => ClientAuthMethod::PrivateKeyJwt,
        }
    }
}

/// Returns the client if it is enabled, and registered with the presented method. It has not proven
/// anything yet.
///
/// # Errors
/// Unavailable.
pub async fn find(app: &App, presented: &PresentedClient) -> Result<Option<OauthClient>> {
    // The database stores no other text, and would reject it with an error.
    if !is_client_id(&presented.client_id) {
        return Ok(None);
    }
    let find = async |db: &mut PgConnection| oauth_clients::find(db, &presented.client_id).await;
    let client = app.db.run(find).await?;
    let client = client.filter(|client| app.config.oauth.accepts_kind(client.kind));
    Ok(client.filter(|client| client.auth_method == presented.proof.method()))
}

/// Returns whether a client proves who it is. An assertion is accepted once.
///
/// # Errors
/// Unavailable.
pub async fn prove(app: &App, client: &OauthClient, proof: &ClientProof) -> Result<bool> {
    match proof {
        ClientProof::None => Ok(true),
        ClientProof::BasicSecret(secret) | ClientProof::PostedSecret(secret) => {
            let candidates = app.peppers.candidates(secret.expose());
            let use_secret = async |db: &mut _| {
                oauth_tokens::use_client_secret(db, &candidates, client.id).await
            };
            app.db.run(use_secret).await
        }
        ClientProof::Assertion(assertion) => {
            let issuer = &app.config.oauth.issuer;
            let audiences = [issuer.clone(), format!("{issuer}/oauth2/token")];
            let Some(keys) = client_key_sets::find(app, client, assertion) else {
                return Ok(false);
            };
            let Some(verified) = assertion.verify(&keys, &audiences, app.clock.now()) else {
                return Ok(false);
            };
            app.db.run(async |db| oauth_assertions::insert(db, client, &verified).await).await
        }
    }
}
