//! The start of a sign-in with an identity provider (`OpenID` Connect Core §3.1.2).

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use url::Url;

use crate::app::App;
use crate::entropy::random_base62;
use crate::error::{Error, ErrorKind, Result};
use crate::model::email::Email;
use crate::model::ids::{ConnectionId, OrganizationId};
use crate::model::key_format::KeyFormat;
use crate::model::organization_handle::OrganizationHandle;
use crate::model::secret::{Digest, Secret};
use crate::model::sso::connection::{ConnectionStatus, SsoConnection};
use crate::model::sso::domain_name::DomainName;
use crate::model::sso::flow::NewSignInFlow;
use crate::repo::{organizations, sso_connections, sso_domains, sso_flows};

/// The number of characters of a code verifier and a nonce: 256 random bits.
const SECRET_LENGTH: usize = 43;

/// What a person says about where they sign in.
pub enum SignInTarget {
    /// Their e-mail address, whose domain an organization has verified.
    Address(Email),
    /// Their organization.
    Organization(OrganizationHandle),
    /// The connection of their organization.
    Connection(ConnectionId),
}

/// Returns the active connection with which a person signs in, the oldest of several. The queries
/// for known and unknown organizations and addresses are the same.
///
/// # Errors
/// Not configured if there is none, or the organization was deleted.
pub async fn find_connection(app: &App, target: &SignInTarget) -> Result<SsoConnection> {
    let find = async |db: &mut PgConnection| {
        let organization = match target {
            SignInTarget::Connection(id) => {
                let found = sso_connections::find_by_id(db, *id).await?;
                return exists(db, found.filter(|it| it.status == ConnectionStatus::Active)).await;
            }
            SignInTarget::Organization(handle) => organizations::find_id(db, handle).await?,
            SignInTarget::Address(email) => find_organization(db, email).await?,
        };
        let organization = organization.unwrap_or(OrganizationId::SYSTEM);
        let active = sso_connections::find_active_of(db, organization).await?;
        exists(db, active.into_iter().next()).await
    };
    app.db.run(find).await?.ok_or_else(not_configured)
}

/// Returns the organization that has verified the domain of an address.
async fn find_organization(db: &mut PgConnection, email: &Email) -> Result<Option<OrganizationId>> {
    match DomainName::of_email(email) {
        Some(domain) => sso_domains::find_owner(db, &domain).await,
        None => Ok(None),
    }
}

/// Returns the connection if its organization exists.
async fn exists(
    db: &mut PgConnection,
    connection: Option<SsoConnection>,
) -> Result<Option<SsoConnection>> {
    let Some(connection) = connection else { return Ok(None) };
    let organization = organizations::find(db, connection.organization).await?;
    Ok(organization.map(|_| connection))
}

fn not_configured() -> Error {
    let message = "Single sign-on is not set up for this address, organization or connection";
    Error::new(ErrorKind::SsoNotConfigured, message)
}

/// Returns the name of a connection's organization.
///
/// # Errors
/// Not configured if the organization was deleted.
pub async fn organization_name(app: &App, connection: &SsoConnection) -> Result<String> {
    let find = async |db: &mut PgConnection| organizations::find(db, connection.organization).await;
    app.db.run(find).await?.map(|it| it.name).ok_or_else(not_configured)
}

/// Begins a sign-in for a browser with the cookie of this digest, and returns the URL of the
/// provider's page to send it to. `callback_url` is where the browser is sent in the end, and
/// `login_hint` the address that the person probably signs in with.
pub async fn begin(
    app: &App,
    connection: &SsoConnection,
    browser: Digest,
    (callback_url, login_hint): (Option<&str>, Option<&str>),
) -> Result<Secret> {
    let state = KeyFormat::sso_state().generate(&*app.entropy);
    let (digest, pepper_id) = app.peppers.digest(state.expose());
    let secrets = FlowSecrets::derive(app, pepper_id, &state);
    let secrets = secrets.ok_or_else(|| Error::internal("the newest pepper is missing"))?;
    let flow = NewSignInFlow {
        digest,
        pepper_id,
        connection: (connection.id, connection.organization),
        browser,
        callback_url,
    };
    app.db.run(async |db| sso_flows::insert(db, &flow).await).await?;
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(secrets.verifier.expose()));
    let mut url = connection.metadata.authorization_endpoint.clone();
    let mut query = url.query_pairs_mut();
    query
        .append_pair("response_type", "code")
        .append_pair("client_id", &connection.client_id)
        .append_pair("redirect_uri", redirect_uri(app, connection.id).as_str())
        .append_pair("scope", "openid email profile")
        .append_pair("state", state.expose())
        .append_pair("nonce", secrets.nonce.expose())
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256");
    if let Some(hint) = login_hint {
        query.append_pair("login_hint", hint);
    }
    drop(query);
    Ok(Secret::new(url.into()))
}

/// Returns the URL to which the provider of a connection sends its answers. Each connection has its
/// own, so that no provider can answer in the name of another (RFC 9700 §4.4).
#[must_use]
pub fn redirect_uri(app: &App, connection: ConnectionId) -> Url {
    let mut url = app.config.http.public_url.clone();
    url.set_path(&format!("/api/auth/sso/callback/{connection}"));
    url
}

/// What only this server can know of a sign-in: derived from its state, and not stored.
pub(super) struct FlowSecrets {
    /// The code verifier (RFC 7636 §4.1).
    pub verifier: Secret,
    /// The nonce that the ID token must contain.
    pub nonce: Secret,
}

impl FlowSecrets {
    /// Returns the secrets of the sign-in with this state; `None` if the pepper is not configured
    /// any more.
    pub fn derive(app: &App, pepper_id: &str, state: &Secret) -> Option<Self> {
        let derive = |salt: &[u8]| {
            let bytes = app.peppers.derive(pepper_id, salt, state.expose())?;
            Some(Secret::new(random_base62(&bytes, SECRET_LENGTH)))
        };
        Some(Self { verifier: derive(b"sso verifier ")?, nonce: derive(b"sso nonce ")? })
    }
}
