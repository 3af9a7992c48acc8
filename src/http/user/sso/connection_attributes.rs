//! The attributes of connections in requests.

use utoipa::ToSchema;

use crate::http::body::{Fields, FromFields, JsonNode, parse_role, text};
use crate::model::ValidationError;
use crate::model::role::Role;
use crate::model::sso::client::{ProviderClientId, parse_client_secret};
use crate::model::sso::connection::{JitSettings, RoleMapping};
use crate::model::sso::issuer::Issuer;
use crate::model::sso::settings::{
    ConnectionChanges, ConnectionSpec, JitChanges, MAX_ROLE_MAPPINGS, MAX_SESSION_HOURS,
    parse_claim, parse_claim_value,
};

/// The kinds of connections.
const KINDS: [((), &str); 1] = [((), "oidc")];
/// The roles of new members.
const DEFAULT_ROLES: [(Role, &str); 2] = [(Role::Member, "member"), (Role::Admin, "admin")];

/// A connection to create.
#[derive(ToSchema)]
#[schema(as = user::CreateSsoConnectionRequest)]
#[expect(non_snake_case, dead_code, reason = "the contract's names; for the API description")]
pub struct CreateConnectionRequest {
    /// The protocol: `oidc`, which is the default.
    #[schema(examples("oidc"))]
    kind: Option<String>,
    /// The provider's issuer identifier, exactly as its metadata states it.
    #[schema(max_length = 512, examples("https://idp.example.com"))]
    issuer: String,
    /// The id of the client that you registered at the provider.
    #[schema(min_length = 1, max_length = 256, examples("tenantry"))]
    clientId: String,
    /// The secret of the client. No response contains it.
    #[schema(min_length = 1, max_length = 1024)]
    clientSecret: String,
    /// Who becomes a member by signing in. Default: no one does.
    jit: Option<JitRequest>,
    /// Whether each sign-in sets the member's role again, by `roleMapping` and the default role.
    /// Default: false.
    #[schema(examples(false))]
    roleSync: Option<bool>,
    /// The roles that claims of the ID token give. The highest applies. Only an owner can give the
    /// role `owner`.
    #[schema(max_items = 50)]
    roleMapping: Option<Vec<RoleMappingRequest>>,
    /// After how many hours a session that began with this connection ends. Default: 24.
    #[schema(minimum = 1, maximum = 24, examples(8))]
    sessionHours: Option<i32>,
}

/// Who becomes a member by signing in for the first time.
#[derive(ToSchema)]
#[schema(as = user::SsoJitRequest)]
#[expect(non_snake_case, dead_code, reason = "the contract's names; for the API description")]
pub struct JitRequest {
    /// Whether an account without a membership gets one. Default: false.
    #[schema(examples(true))]
    enabled: Option<bool>,
    /// The role of a new membership: `member` (the default) or `admin`.
    #[schema(examples("member"))]
    defaultRole: Option<String>,
}

/// A role that a claim gives.
#[derive(ToSchema)]
#[schema(as = user::SsoRoleMappingRequest)]
#[expect(dead_code, reason = "used only in the API description")]
pub struct RoleMappingRequest {
    /// The name of the claim.
    #[schema(min_length = 1, max_length = 128, examples("groups"))]
    claim: String,
    /// The value that the claim has or contains.
    #[schema(min_length = 1, max_length = 256, examples("platform-admins"))]
    value: String,
    /// `owner`, `admin` or `member`.
    #[schema(examples("admin"))]
    role: String,
}

/// A parsed [`CreateConnectionRequest`].
pub struct CreateConnection(pub ConnectionSpec);

impl FromFields for CreateConnection {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let hosts = &fields.context.config.outbound.allowed_hosts;
        fields.optional_choice("kind", &KINDS);
        let issuer = fields.required("issuer", text(|text| Issuer::parse(text, hosts)));
        let client_id = fields.required("clientId", text(ProviderClientId::parse));
        let client_secret =
            fields.required("clientSecret", |node| parse_client_secret(node.into_string()?));
        let jit: Jit = fields.optional_object("jit").unwrap_or_default();
        let syncs_role = fields.optional("roleSync", JsonNode::into_bool);
        let mapping = fields.optional_objects("roleMapping", 0..=MAX_ROLE_MAPPINGS);
        let session_hours = fields.optional("sessionHours", parse_session_hours);
        let role_mapping = to_distinct(fields, mapping).unwrap_or_default();
        Some(Self(ConnectionSpec {
            issuer: issuer?,
            client_id: client_id?,
            client_secret: client_secret?,
            jit: JitSettings {
                is_enabled: jit.0.is_enabled.unwrap_or(false),
                default_role: jit.0.default_role.unwrap_or(Role::Member),
                syncs_role: syncs_role.unwrap_or(false),
            },
            role_mapping,
            session_hours: session_hours.unwrap_or(MAX_SESSION_HOURS),
        }))
    }
}

/// The attributes to change, at least one. Omitted attributes keep their values.
#[derive(ToSchema)]
#[schema(as = user::UpdateSsoConnectionRequest)]
#[expect(non_snake_case, dead_code, reason = "the contract's names; for the API description")]
pub struct UpdateConnectionRequest {
    /// The provider's issuer identifier. It can be changed before the first activation, together
    /// with the secret.
    #[schema(nullable = false, max_length = 512, examples("https://idp.example.com"))]
    issuer: Option<String>,
    /// The id of the client. It can be changed before the first activation.
    #[schema(nullable = false, min_length = 1, max_length = 256, examples("tenantry"))]
    clientId: Option<String>,
    /// A new secret of the client.
    #[schema(nullable = false, min_length = 1, max_length = 1024)]
    clientSecret: Option<String>,
    /// Who becomes a member by signing in. Omitted members keep their values.
    #[schema(nullable = false)]
    jit: Option<UpdateJitRequest>,
    /// Whether each sign-in sets the member's role again.
    #[schema(nullable = false, examples(false))]
    roleSync: Option<bool>,
    /// Replaces the roles that claims of the ID token give.
    #[schema(nullable = false, max_items = 50)]
    roleMapping: Option<Vec<RoleMappingRequest>>,
    /// After how many hours a session that began with this connection ends.
    #[schema(nullable = false, minimum = 1, maximum = 24, examples(8))]
    sessionHours: Option<i32>,
}

/// A parsed [`UpdateConnectionRequest`].
pub struct UpdateConnection(pub ConnectionChanges);

impl FromFields for UpdateConnection {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        if fields.is_empty() {
            fields.add_body_issue("At least one setting is required");
        }
        let hosts = &fields.context.config.outbound.allowed_hosts;
        let mapping = fields.non_null_objects("roleMapping", 0..=MAX_ROLE_MAPPINGS);
        let changes = ConnectionChanges {
            issuer: fields.non_null("issuer", text(|text| Issuer::parse(text, hosts))),
            client_id: fields.non_null("clientId", text(ProviderClientId::parse)),
            client_secret: fields
                .non_null("clientSecret", |node| parse_client_secret(node.into_string()?)),
            jit: fields
                .non_null_object("jit")
                .map(|UpdateJit(changes)| changes)
                .unwrap_or_default(),
            syncs_role: fields.non_null("roleSync", JsonNode::into_bool),
            role_mapping: to_distinct(fields, mapping),
            session_hours: fields.non_null("sessionHours", parse_session_hours),
        };
        Some(Self(changes))
    }
}

/// A parsed [`JitRequest`].
#[derive(Default)]
struct Jit(JitChanges);

impl FromFields for Jit {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self(JitChanges {
            is_enabled: fields.optional("enabled", JsonNode::into_bool),
            default_role: fields.optional_choice("defaultRole", &DEFAULT_ROLES),
        }))
    }
}

/// A change of who becomes a member by signing in for the first time.
#[derive(ToSchema)]
#[schema(as = user::UpdateSsoJitRequest)]
#[expect(non_snake_case, dead_code, reason = "the contract's names; for the API description")]
pub struct UpdateJitRequest {
    /// Whether an account without a membership gets one.
    #[schema(nullable = false, examples(true))]
    enabled: Option<bool>,
    /// The role of a new membership: `member` or `admin`.
    #[schema(nullable = false, examples("member"))]
    defaultRole: Option<String>,
}

/// A parsed [`UpdateJitRequest`].
struct UpdateJit(JitChanges);

impl FromFields for UpdateJit {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self(JitChanges {
            is_enabled: fields.non_null("enabled", JsonNode::into_bool),
            default_role: fields.non_null_choice("defaultRole", &DEFAULT_ROLES),
        }))
    }
}

/// A parsed [`RoleMappingRequest`].
struct Mapping(RoleMapping);

impl FromFields for Mapping {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let claim = fields.required("claim", text(parse_claim));
        let value = fields.required("value", text(parse_claim_value));
        let role = fields.required("role", parse_role);
        Some(Self(RoleMapping { claim: claim?, value: value?, role: role? }))
    }
}

/// Returns the mappings, of which no two may be for the same value.
fn to_distinct(fields: &mut Fields<'_>, mapping: Option<Vec<Mapping>>) -> Option<Vec<RoleMapping>> {
    let mapping: Vec<RoleMapping> = mapping?.into_iter().map(|Mapping(mapping)| mapping).collect();
    let is_repeated = |(index, it): (usize, &RoleMapping)| {
        mapping[..index].iter().any(|other| (&other.claim, &other.value) == (&it.claim, &it.value))
    };
    if mapping.iter().enumerate().any(is_repeated) {
        fields.add_issue("roleMapping", "must not have a value of a claim twice".into());
    }
    Some(mapping)
}

fn parse_session_hours(node: JsonNode) -> Result<i32, ValidationError> {
    node.into_integer(1..=MAX_SESSION_HOURS)
}
