//! `/api/user/organizations/{organizationId}/sso/connections`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use url::Url;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::sso::connections::{self, no_such_connection};
use crate::error::{Error, Result};
use crate::http::auth::{OrganizationScoped, SsoRead, SsoWrite};
use crate::http::body::JsonBody;
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::path::PathId;
use crate::http::render::user::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, NotFound, TooLarge, Unauthorized,
    Unavailable, UnsupportedMediaType,
};
use crate::http::switches::SsoIsOn;
use crate::http::user::offset_page::OffsetPage;
use crate::http::user::responses::{OffsetList, Success};
use crate::http::user::sso::connection_attributes::{CreateConnection, CreateConnectionRequest};
use crate::http::wire::Timestamp;
use crate::model::ids::ConnectionId;
use crate::model::sso::connection::{RoleMapping, SsoConnection};
use crate::model::sso::settings::adds_owner;
use crate::repo::sso_connections;

/// A connection of an organization to its identity provider.
#[derive(Serialize, ToSchema)]
#[schema(as = user::SsoConnection)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    #[schema(examples("conn_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    /// The protocol: `oidc`.
    #[schema(examples("oidc"))]
    kind: &'static str,
    /// `inactive` until the first activation, `active` while members can sign in with it, or
    /// `disabled`.
    #[schema(examples("active"))]
    status: &'static str,
    /// The provider's issuer identifier.
    #[schema(examples("https://idp.example.com"))]
    issuer: String,
    /// The id of the client at the provider.
    #[schema(examples("tenantry"))]
    client_id: String,
    /// The redirect URI to register at the provider.
    #[schema(examples(
        "https://api.example.com/api/auth/sso/callback/conn_01JZ3VQ0Xb1cT4yW8mK2pa"
    ))]
    redirect_uri: String,
    jit: Jit,
    /// Whether each sign-in sets the member's role again.
    #[schema(examples(false))]
    role_sync: bool,
    /// The roles that claims of the ID token give.
    role_mapping: Vec<Mapping>,
    /// After how many hours a session that began with this connection ends.
    #[schema(examples(24))]
    session_hours: i32,
    /// What was wrong with the provider when it was last used; null if nothing was.
    #[schema(required)]
    last_error: Option<String>,
    /// When the provider's metadata was last fetched.
    discovered_at: Timestamp,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// Who becomes a member by signing in for the first time.
#[derive(Serialize, ToSchema)]
#[schema(as = user::SsoJit)]
#[serde(rename_all = "camelCase")]
struct Jit {
    /// Whether an account without a membership gets one.
    #[schema(examples(true))]
    enabled: bool,
    /// The role of a new membership: `member` or `admin`.
    #[schema(examples("member"))]
    default_role: &'static str,
}

/// A role that a claim gives.
#[derive(Serialize, ToSchema)]
#[schema(as = user::SsoRoleMapping)]
struct Mapping {
    /// The name of the claim.
    #[schema(examples("groups"))]
    claim: String,
    /// The value that the claim has or contains.
    #[schema(examples("platform-admins"))]
    value: String,
    /// `owner`, `admin` or `member`.
    #[schema(examples("admin"))]
    role: &'static str,
}

impl From<RoleMapping> for Mapping {
    fn from(RoleMapping { claim, value, role }: RoleMapping) -> Self {
        Self { claim, value, role: role.as_str() }
    }
}

impl Connection {
    /// Returns a connection as the server at this URL shows it.
    pub(super) fn new(connection: SsoConnection, public_url: &Url) -> Self {
        let base = public_url.as_str().trim_end_matches('/');
        Self {
            id: connection.id.to_string(),
            kind: "oidc",
            status: connection.status.as_str(),
            issuer: connection.issuer,
            client_id: connection.client_id,
            redirect_uri: format!("{base}/api/auth/sso/callback/{}", connection.id),
            jit: Jit {
                enabled: connection.jit.is_enabled,
                default_role: connection.jit.default_role.as_str(),
            },
            role_sync: connection.jit.syncs_role,
            role_mapping: connection.role_mapping.into_iter().map(Mapping::from).collect(),
            session_hours: connection.session_hours,
            last_error: connection.last_error,
            discovered_at: Timestamp(connection.discovered_at),
            created_at: Timestamp(connection.created_at),
            updated_at: Timestamp(connection.updated_at),
        }
    }
}

/// Parses the id in a path.
///
/// # Errors
/// Not found if the text is not the id of a connection.
pub(super) fn parse_id(text: &str) -> Result<ConnectionId> {
    ConnectionId::parse(text).ok_or_else(no_such_connection)
}

/// List the organization's connections to identity providers, newest first.
#[utoipa::path(get, path = "/api/user/organizations/{organizationId}/sso/connections",
    operation_id = "listSsoConnections", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("offset" = Option<i64>, Query, description = "How many items to skip. Default: 0."),
           ("limit" = Option<i64>, Query, description = "Page size, 1 to 100. Default: 20."),
           ("q" = Option<String>, Query, description = "Text that the issuer must contain.")),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The connections.", body = OffsetList<Connection>),
              BadRequest, Unauthorized, Forbidden, NotFound, Unavailable))]
pub(super) async fn list(
    _: SsoIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<SsoRead>,
    page: OffsetPage,
) -> Result<Json<OffsetList<Connection>>> {
    let organization = caller.organization;
    let url = &app.config.http.public_url;
    let render = ("Connections fetched", |row| Connection::new(row, url));
    page.respond(&app, organization, render, async |db, search, window| {
        sso_connections::list(db, organization, search, window).await
    })
    .await
}

/// Show a connection to an identity provider.
#[utoipa::path(get, path = "/api/user/organizations/{organizationId}/sso/connections/{id}",
    operation_id = "getSsoConnection", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The connection's id.")),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The connection.", body = Success<Connection>),
              BadRequest, Unauthorized, Forbidden, NotFound, Unavailable))]
pub(super) async fn show(
    _: SsoIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<SsoRead>,
    PathId(id): PathId,
) -> Result<Json<Success<Connection>>> {
    let (id, organization) = (parse_id(&id)?, caller.organization);
    let find = async |db: &mut _| connections::find(db, organization, id).await;
    let found = app.db.tenant_transaction(organization, find).await?;
    let found = Connection::new(found, &app.config.http.public_url);
    Ok(Json(Success::ok("Connection fetched", found)))
}

/// Create a connection to an identity provider. Its metadata is fetched first.
///
/// The connection is inactive. Register `redirectUri` at the provider, and then activate it.
#[utoipa::path(post, path = "/api/user/organizations/{organizationId}/sso/connections",
    operation_id = "createSsoConnection", tag = "user", request_body = CreateConnectionRequest,
    params(("organizationId" = String, Path, description = "The organization's id."),
           IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 201, description = "Created.", body = Success<Connection>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, TooLarge, UnsupportedMediaType,
              IdempotencyReused, Unavailable))]
pub(super) async fn create(
    _: SsoIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<SsoWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value: CreateConnection(spec), fingerprint }: JsonBody<CreateConnection>,
) -> Result<Response> {
    let audit = context.audit_context_for(StatusCode::CREATED);
    let check = async |_: &mut _| {
        let adds_owner = adds_owner(&[], &spec.role_mapping);
        if adds_owner { caller.require_owner() } else { Ok(()) }
    };
    let mut discovered = None;
    if !idempotency.is_replay(&app, &caller, &fingerprint).await? {
        discovered = Some(connections::discover_for_create(&app, &spec.issuer).await?);
    }
    idempotency
        .run_checked(&app, &caller, fingerprint, check, async |tx| {
            let discovered = discovered.as_ref().ok_or_else(not_fetched)?;
            let new = (&spec, discovered);
            let created = connections::create(&app, tx, &caller, new, &audit).await?;
            let body = Connection::new(created, &app.config.http.public_url);
            Ok(ChangeResponse::created(Success::created("Connection created", body)))
        })
        .await
}

/// Returns the error for a change that is no replay although its response was stored.
pub(super) fn not_fetched() -> Error {
    Error::unavailable("the stored response of a replay is gone")
}
