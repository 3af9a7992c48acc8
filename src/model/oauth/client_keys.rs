//! The public keys of clients that prove who they are with a private key (`private_key_jwt`).

use crate::model::ValidationError;
use crate::model::public_key_set::{KeySetUrl, PublicKeySet};

/// Where the keys of a client are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientKeys {
    /// The client's own metadata contain them (`jwks`).
    Registered(PublicKeySet),
    /// The client publishes them at this URL (`jwks_uri`).
    Published(KeySetUrl),
}

impl ClientKeys {
    /// Returns the keys of the metadata, or those that are published at the URL.
    ///
    /// # Errors
    /// Both are given.
    pub fn of(
        registered: Option<PublicKeySet>,
        published: Option<KeySetUrl>,
    ) -> Result<Option<Self>, ValidationError> {
        match (registered, published) {
            (Some(_), Some(_)) => Err("must not be sent with the keys themselves".into()),
            (Some(set), None) => Ok(Some(Self::Registered(set))),
            (None, url) => Ok(url.map(Self::Published)),
        }
    }

    /// Returns the keys that the metadata contain.
    #[must_use]
    pub const fn registered(&self) -> Option<&PublicKeySet> {
        match self {
            Self::Registered(set) => Some(set),
            Self::Published(_) => None,
        }
    }

    /// Returns the URL at which the keys are published.
    #[must_use]
    pub const fn published(&self) -> Option<&KeySetUrl> {
        match self {
            Self::Registered(_) => None,
            Self::Published(url) => Some(url),
        }
    }
}
