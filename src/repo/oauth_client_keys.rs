//! The columns of `oauth_clients` with the public keys of a client.

use serde_json::Value;

use crate::model::oauth::client_keys::ClientKeys;
use crate::model::public_key_set::{KeySetUrl, PublicKeySet};

/// The columns `jwks` and `jwks_uri`, of which one is set if the client has keys.
pub(super) struct StoredKeys(pub Option<Value>, pub Option<String>);

impl StoredKeys {
    /// Returns the keys of a client; `None` if it has none, or this version cannot read them: then
    /// the client cannot authenticate.
    pub fn into_keys(self) -> Option<ClientKeys> {
        let registered = self.0.and_then(|jwks| PublicKeySet::parse(&jwks).ok());
        let published = self.1.and_then(|url| KeySetUrl::parse(&url).ok());
        ClientKeys::of(registered, published).ok().flatten()
    }
}

impl From<Option<&ClientKeys>> for StoredKeys {
    fn from(keys: Option<&ClientKeys>) -> Self {
        let registered = keys.and_then(ClientKeys::registered);
        let published = keys.and_then(ClientKeys::published);
        Self(registered.map(PublicKeySet::to_json), published.map(|it| it.url().to_string()))
    }
}
