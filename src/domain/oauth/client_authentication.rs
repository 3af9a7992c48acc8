//! Whether a client is who it says (RFC 6749 §2.3).

use crate::app::App;
use crate::error::Result;
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::{ClientAuthMethod, is_client_id};
use crate::model::secret::Secret;
use crate::repo::{oauth_clients, oauth_tokens};

/// How a client presents itself.
pub struct PresentedClient {
    /// Its public id.
    pub client_id: String,
    /// Its secret; `None` for a public client.
    pub secret: Option<Secret>,
    /// The method by which it authenticates.
    pub method: ClientAuthMethod,
}

/// Returns the client if it is enabled, is registered with the presented method and has the
/// presented secret.
///
/// # Errors
/// Unavailable.
pub async fn authenticate(app: &App, presented: &PresentedClient) -> Result<Option<OauthClient>> {
    let PresentedClient { client_id, secret, method } = presented;
    // The database stores no other text, and would reject it with an error.
    if !is_client_id(client_id) {
        return Ok(None);
    }
    let digests = secret.as_ref().map(|secret| app.peppers.candidates(secret.expose()));
    app.db
        .run(async |db| {
            let client = oauth_clients::find(db, client_id).await?;
            let client = client.filter(|client| app.config.oauth.accepts_kind(client.kind));
            let Some(client) = client else { return Ok(None) };
            let is_authentic = match &digests {
                _ if client.auth_method != *method => false,
                None => true,
                Some(digests) => oauth_tokens::use_client_secret(db, digests, client.id).await?,
            };
            Ok(is_authentic.then_some(client))
        })
        .await
}
