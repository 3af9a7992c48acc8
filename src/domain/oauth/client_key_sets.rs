//! The public keys of clients that prove who they are with a private key (`private_key_jwt`).

use std::sync::Arc;

use crate::app::App;
use crate::domain::key_sets::{KeySetOwner, NeededKeySet};
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::client_assertion::UnverifiedAssertion;
use crate::model::oauth::client_keys::ClientKeys;
use crate::model::public_key_set::PublicKeySet;

/// Returns the keys with which an assertion of a client can be verified; `None` if there are none,
/// or they must be fetched.
#[must_use]
pub fn find(
    app: &App,
    client: &OauthClient,
    assertion: &UnverifiedAssertion,
) -> Option<Arc<PublicKeySet>> {
    match client.keys.as_ref()? {
        ClientKeys::Registered(keys) => Some(Arc::new(keys.clone())),
        ClientKeys::Published(_) => needed(client, assertion)?.find(app),
    }
}

/// Returns the key set of a client if it must be fetched; `None` if it is known, or a fetch of it
/// failed less than a minute ago.
#[must_use]
pub fn find_stale(
    app: &App,
    client: &OauthClient,
    assertion: &UnverifiedAssertion,
) -> Option<NeededKeySet> {
    needed(client, assertion).filter(|set| set.must_be_fetched(app))
}

/// Returns the set that a client publishes; `None` if it publishes none.
fn needed(client: &OauthClient, assertion: &UnverifiedAssertion) -> Option<NeededKeySet> {
    Some(NeededKeySet {
        url: client.keys.as_ref()?.published()?.clone(),
        owner: KeySetOwner::Client(client.kind, client.client_id.clone()),
        key_id: assertion.key_id().map(str::to_owned),
    })
}
