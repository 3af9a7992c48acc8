//! Whether a client is who it says (RFC 6749 §2.3).

use sqlx::PgConnection;

use crate::app::App;
use crate::domain::oauth::client_key_sets::{self, StaleKeySet};
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

/// Returns the key set that must be fetched before the client can be authenticated; `None` if none
/// is needed.
///
/// # Errors
/// Unavailable.
pub async fn find_stale_keys(
    app: &App,
    presented: &PresentedClient,
) -> Result<Option<StaleKeySet>> {
    let ClientProof::Assertion(assertion) = &presented.proof else { return Ok(None) };
    let client = app.db.run(async |db| find(app, db, presented).await).await?;
    Ok(client.and_then(|client| client_key_sets::find_stale(app, &client, assertion)))
}

/// Returns the client if it is enabled, is registered with the presented method and proves who it
/// is. An assertion is good once.
///
/// # Errors
/// Unavailable.
pub async fn authenticate(app: &App, presented: &PresentedClient) -> Result<Option<OauthClient>> {
    app.db
        .run(async |db| {
            let Some(client) = find(app, db, presented).await? else { return Ok(None) };
            let is_authentic = match &presented.proof {
                ClientProof::None => true,
                ClientProof::BasicSecret(secret) | ClientProof::PostedSecret(secret) => {
                    let candidates = app.peppers.candidates(secret.expose());
                    oauth_tokens::use_client_secret(db, &candidates, client.id).await?
                }
                ClientProof::Assertion(assertion) => {
                    use_assertion(app, db, &client, assertion).await?
                }
            };
            Ok(is_authentic.then_some(client))
        })
        .await
}

/// Returns the client if it is enabled, and registered with the presented method.
async fn find(
    app: &App,
    db: &mut PgConnection,
    presented: &PresentedClient,
) -> Result<Option<OauthClient>> {
    // The database stores no other text, and would reject it with an error.
    if !is_client_id(&presented.client_id) {
        return Ok(None);
    }
    let client = oauth_clients::find(db, &presented.client_id).await?;
    let client = client.filter(|client| app.config.oauth.accepts_kind(client.kind));
    Ok(client.filter(|client| client.auth_method == presented.proof.method()))
}

async fn use_assertion(
    app: &App,
    db: &mut PgConnection,
    client: &OauthClient,
    assertion: &UnverifiedAssertion,
) -> Result<bool> {
    let issuer = &app.config.oauth.issuer;
    let audiences = [issuer.clone(), format!("{issuer}/oauth2/token")];
    let keys = client_key_sets::find(app, client, assertion);
    let verified = keys.and_then(|keys| assertion.verify(&keys, &audiences, app.clock.now()));
    match verified {
        Some(verified) => oauth_assertions::insert(db, client, &verified).await,
        None => Ok(false),
    }
}
