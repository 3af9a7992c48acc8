//! OAuth clients.

use uuid::Uuid;

use crate::model::ids::OrganizationId;
use crate::model::oauth::client_keys::ClientKeys;
use crate::model::oauth::redirect_uri::RedirectUri;
use crate::model::oauth::{
    ApplicationType, ClientAuthMethod, ClientKind, ClientVisibility, IdTokenAlgorithm,
};

/// A client as the authorization server knows it.
#[derive(Clone, Debug)]
pub struct OauthClient {
    /// Its internal id. An app's public id is derived from it.
    pub id: Uuid,
    /// Its public id (RFC 6749 §2.2).
    pub client_id: String,
    /// How it came to be known.
    pub kind: ClientKind,
    /// The organization that registered it; [`OrganizationId::SYSTEM`] for other kinds.
    pub organization: OrganizationId,
    /// The name of that organization.
    pub organization_name: String,
    /// Its name.
    pub name: String,
    /// Where the responses to its requests may be sent.
    pub redirect_uris: Vec<RedirectUri>,
    /// Where it runs.
    pub application_type: ApplicationType,
    /// How it authenticates.
    pub auth_method: ClientAuthMethod,
    /// The public keys of a client that authenticates with a private key.
    pub keys: Option<ClientKeys>,
    /// How its ID tokens are signed.
    pub id_token_algorithm: IdTokenAlgorithm,
    /// The scopes that it may request, `offline_access` included if it may. If no organization
    /// registered it: those that are requested if a request names none.
    pub scopes: Vec<String>,
    /// Who may grant access to it.
    pub visibility: ClientVisibility,
    /// Whether the operator has published it as it is now.
    pub is_published: bool,
}

impl OauthClient {
    /// Returns whether it has neither a secret nor a key, so that anyone can pretend to be it.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.auth_method == ClientAuthMethod::None
    }

    /// Returns whether it is an app that the operator has published with its present name, home
    /// page, redirect URIs and scopes.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.is_published && self.kind == ClientKind::Registered
    }

    /// Returns whether it may request the scope, if the deployment lets clients request it at all.
    /// A client that no organization registered may request every such scope.
    #[must_use]
    pub fn may_request(&self, scope: &str) -> bool {
        self.kind != ClientKind::Registered || self.scopes.iter().any(|it| it == scope)
    }
}
