//! Successful responses of this family.

use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::shown_once::JsonWithSecrets;

/// The body of a successful response of `/api/auth` and `/api/user`.
#[expect(clippy::struct_field_names, reason = "the contract's names")]
#[derive(Serialize, ToSchema)]
#[schema(as = user::Success)]
pub struct Success<T> {
    success: bool,
    /// The HTTP status.
    #[schema(examples(200))]
    status: u16,
    #[schema(examples("OK"))]
    code: &'static str,
    /// What was done.
    message: &'static str,
    /// The requested or created object.
    pub data: T,
}

impl<T: Serialize> Success<T> {
    /// Returns a response with status 200.
    pub const fn ok(message: &'static str, data: T) -> Self {
        Self { success: true, status: 200, code: "OK", message, data }
    }

    /// Returns a response with status 201.
    pub const fn created(message: &'static str, data: T) -> Self {
        Self { success: true, status: 201, code: "OK", message, data }
    }
}

impl<T: Serialize> IntoResponse for Success<T> {
    fn into_response(self) -> Response {
        JsonWithSecrets(self).into_response()
    }
}

/// The data of a response without other data.
#[derive(Serialize, ToSchema)]
#[schema(as = user::Done)]
pub struct Done {
    /// Always true.
    success: bool,
}

/// The data of a response without other data.
pub const DONE: Done = Done { success: true };

/// A page of results.
#[derive(Serialize, ToSchema)]
#[schema(as = user::Listed)]
pub struct OffsetList<T> {
    success: bool,
    /// The HTTP status.
    #[schema(examples(200))]
    status: u16,
    #[schema(examples("OK"))]
    code: &'static str,
    /// What was done.
    message: &'static str,
    /// The items.
    data: Vec<T>,
    /// Which page this is.
    meta: OffsetListMeta,
}

/// The position of a page of results.
#[derive(Serialize, ToSchema)]
#[schema(as = user::PartOf)]
#[serde(rename_all = "camelCase")]
pub struct OffsetListMeta {
    /// How many items the list has.
    pub total: i64,
    /// How many items precede the page.
    pub offset: i64,
    /// The maximum number of items on the page.
    pub limit: i64,
    /// Whether more items follow.
    pub has_more: bool,
}

impl<T: Serialize> OffsetList<T> {
    /// Returns a page of results, with status 200.
    #[must_use]
    pub const fn ok(message: &'static str, data: Vec<T>, meta: OffsetListMeta) -> Self {
        Self { success: true, status: 200, code: "OK", message, data, meta }
    }
}
