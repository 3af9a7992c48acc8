//! `GET /auth/me`

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::accounts;
use crate::error::Result;
use crate::http::account::wire::{Account, DataEnvelope};
use crate::http::auth::InAnySession;
use crate::http::render::account::{BadRequest, Forbidden, Unauthorized, Unavailable};
use crate::http::wire::Timestamp;

/// The account that is signed in.
#[derive(Serialize, ToSchema)]
#[schema(as = account::Me)]
pub struct Me {
    #[serde(flatten)]
    account: Account,
    created_at: Timestamp,
}

/// Show the account that is signed in.
#[utoipa::path(get, path = "/auth/me", operation_id = "getAccount", tag = "account",
    security(("bearer" = []), ("session" = [])),
    responses((status = 200, description = "The account.", body = DataEnvelope<Me>), BadRequest,
              Unauthorized, Forbidden, Unavailable))]
pub(super) async fn show(
    State(app): State<App>,
    InAnySession { person, .. }: InAnySession,
) -> Result<Json<DataEnvelope<Me>>> {
    let account = app.db.run(async |db| accounts::find(db, person.account).await).await?;
    let created_at = Timestamp(account.created_at);
    Ok(Json(DataEnvelope { data: Me { account: Account::from(&account), created_at } }))
}
