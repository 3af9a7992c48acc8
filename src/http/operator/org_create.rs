//! `POST /v1/admin/org/create`: an organization and its first key, once for each name.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::keys::Minted;
use crate::domain::provisioning::{self, Order};
use crate::error::Result;
use crate::http::body::{Fields, FromFields, JsonBody, text};
use crate::http::caller::{Master, OrgCreate};
use crate::http::context::RequestContext;
use crate::http::idempotency::Reply;
use crate::http::operator::dialect::{
    BadRequest, Conflict, Invalid, RateLimited, TooLarge, Unauthorized, Unavailable,
    UnsupportedMediaType,
};
use crate::http::operator::idempotency::{Named, RequiredHeader};
use crate::http::operator::wire::{Stamp, WARNING, by};
use crate::http::wire::Timestamp;
use crate::model::org_handle::OrgHandle;
use crate::model::organization::{Domain, OrganizationName};
use crate::model::origin::{Origin, parse_listed};
use crate::model::plan::Plan;
use axum::http::StatusCode;

/// An organization to be.
#[derive(ToSchema)]
#[schema(as = operator::CreateOrganizationRequest)]
pub struct CreateRequest {
    /// The organization's id. No two differ in case only.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9_-]{1,64}$",
             examples("org_acme_2026_example"))]
    org_id: OrgHandle,
    #[schema(value_type = String, min_length = 1, max_length = 128, examples("Acme Corp"))]
    name: OrganizationName,
    /// Its line of business: `general`, `healthcare`, `financial`, `employment`, `education`,
    /// `housing`, `insurance` or `government`.
    #[schema(value_type = String, examples("general"))]
    domain: Domain,
    /// What it pays for: `trial`, `starter`, `standard`, `pro`, `scale` or `enterprise`.
    #[schema(value_type = String, examples("starter"))]
    tier: Plan,
    /// Whose pages' scripts may use its keys: 1 to 50 origins, separated by commas.
    #[schema(value_type = String, examples("https://acme.example.com"))]
    allowed_origins: Vec<Origin>,
}

impl FromFields for CreateRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let org_id = fields.required("org_id", text(OrgHandle::parse));
        let name = fields.required("name", text(OrganizationName::parse));
        let domain = fields.required_choice("domain", &Domain::ALL);
        let tier = fields.required_choice("tier", &Plan::ALL);
        let allowed_origins = fields.required("allowed_origins", text(parse_listed));
        Some(Self {
            org_id: org_id?,
            name: name?,
            domain: domain?,
            tier: tier?,
            allowed_origins: allowed_origins?,
        })
    }
}

/// An organization just made.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::CreatedOrganization)]
pub struct Created {
    #[schema(examples("org_acme_2026_example"))]
    org_id: String,
    /// The key's text: in the first answer, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("tnt_live_a1b2c3d4…"))]
    api_key: Option<String>,
    /// The 8 characters of the key that may be shown.
    #[schema(examples("a1b2c3d4"))]
    prefix: String,
    created_at: Timestamp,
    #[schema(examples("This API key is shown ONCE. Store it securely."))]
    warning: &'static str,
    /// In the answer to a repetition.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    already_provisioned: Option<bool>,
    #[serde(flatten)]
    stamp: Stamp,
}

/// Make an organization and its first key, which may do everything in it.
///
/// The key's text is in this answer and nowhere else. The owner's seat is nobody's until somebody
/// is invited as an owner.
#[utoipa::path(post, path = "/v1/admin/org/create", operation_id = "provisionOrganization",
    tag = "operator", request_body = CreateRequest, params(RequiredHeader),
    security(("master_key" = [])),
    responses((status = 201, description = "Made, now or by the first request of this name.",
               body = Created),
              BadRequest, Unauthorized, Conflict, TooLarge, UnsupportedMediaType, Invalid,
              RateLimited, Unavailable))]
pub(super) async fn create(
    State(app): State<App>,
    Master(scope, _): Master<OrgCreate>,
    context: RequestContext,
    Named(idempotency): Named,
    JsonBody { value: request, said }: JsonBody<CreateRequest>,
) -> Result<Response> {
    let CreateRequest { org_id, name, domain, tier, allowed_origins } = request;
    let order = Order { handle: org_id, name, domain: Some(domain), plan: tier, allowed_origins };
    idempotency
        .run(&app, scope, said, async |tx| {
            let trail = context.trail_of(StatusCode::CREATED);
            let minted = provisioning::provision(&app, tx, &order, &by(scope), &trail).await?;
            let Minted { secret, key } = minted;
            let envelope = |already_provisioned| Created {
                org_id: order.handle.as_str().to_owned(),
                api_key: None,
                prefix: key.display_id.clone(),
                created_at: Timestamp(trail.at),
                warning: WARNING,
                already_provisioned,
                stamp: Stamp::from(&context),
            };
            let first = Reply::created(envelope(None)).or_again(envelope(Some(true)));
            Ok(first.showing(secret, |body| &mut body.api_key))
        })
        .await
}
