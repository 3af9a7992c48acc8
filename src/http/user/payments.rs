//! `GET /api/user/organizations/{organizationId}/payments`: the organization's payments.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::Result;
use crate::http::auth::{BillingRead, OrganizationScoped};
use crate::http::render::user::{BadRequest, Forbidden, Unauthorized, Unavailable};
use crate::http::user::offset_page::OffsetPage;
use crate::http::user::responses::OffsetList;
use crate::http::wire::Timestamp;
use crate::model;
use crate::repo;

/// A payment for an organization, successful or failed.
#[derive(Serialize, ToSchema)]
#[schema(as = user::Payment)]
#[serde(rename_all = "camelCase")]
pub struct Payment {
    #[schema(examples("pay_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    /// The amount in the currency's smallest unit, such as cents.
    #[schema(examples(2900))]
    amount: i64,
    /// The currency (ISO 4217), in lower case.
    #[schema(examples("usd"))]
    currency: String,
    /// `paid` or `failed`.
    #[schema(examples("paid"))]
    status: &'static str,
    #[schema(required, examples("1 × Starter (at $29.00 / month)"))]
    description: Option<String>,
    created_at: Timestamp,
}

impl From<model::payment::Payment> for Payment {
    fn from(payment: model::payment::Payment) -> Self {
        Self {
            id: payment.id.to_string(),
            amount: payment.amount,
            currency: payment.currency,
            status: payment.status.as_str(),
            description: payment.description,
            created_at: Timestamp(payment.created_at),
        }
    }
}

/// List the payments of an organization, including failed ones, newest first.
#[utoipa::path(get, path = "/api/user/organizations/{organizationId}/payments",
    operation_id = "listPayments", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("offset" = Option<i64>, Query, description = "How many items to skip. Default: 0."),
           ("limit" = Option<i64>, Query, description = "Page size, 1 to 100. Default: 20."),
           ("q" = Option<String>, Query,
            description = "Text that the description must contain.")),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The payments.", body = OffsetList<Payment>), BadRequest,
              Unauthorized, Forbidden, Unavailable))]
pub(super) async fn list(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<BillingRead>,
    page: OffsetPage,
) -> Result<Json<OffsetList<Payment>>> {
    let organization = caller.organization;
    page.respond(
        &app,
        organization,
        ("Payments fetched", Payment::from),
        async |db, search, window| repo::payments::list(db, organization, search, window).await,
    )
    .await
}
