//! Successful responses of this family (contract §6).

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// An answer of this family.
#[expect(clippy::struct_field_names, reason = "the contract's names")]
#[derive(Serialize, ToSchema)]
#[schema(as = user::Success)]
pub struct Success<T> {
    success: bool,
    /// The status of the answer.
    #[schema(examples(200))]
    status: u16,
    #[schema(examples("OK"))]
    code: &'static str,
    /// What was done.
    message: &'static str,
    /// What was asked for, or made.
    pub data: T,
}

impl<T: Serialize> Success<T> {
    /// An answer with status 200.
    pub const fn ok(message: &'static str, data: T) -> Self {
        Self { success: true, status: 200, code: "OK", message, data }
    }

    /// What was made, with status 201.
    pub const fn created(message: &'static str, data: T) -> Self {
        Self { success: true, status: 201, code: "OK", message, data }
    }
}

impl<T: Serialize> IntoResponse for Success<T> {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

/// That it was done, where there is nothing else to say.
#[derive(Serialize, ToSchema)]
#[schema(as = user::Done)]
pub struct Done {
    /// Always true.
    success: bool,
}

/// The data of an answer that has nothing else to say.
pub const DONE: Done = Done { success: true };

/// A part of a list.
#[derive(Serialize, ToSchema)]
#[schema(as = user::Listed)]
pub struct OffsetList<T> {
    success: bool,
    /// The status of the answer.
    #[schema(examples(200))]
    status: u16,
    #[schema(examples("OK"))]
    code: &'static str,
    /// What was done.
    message: &'static str,
    /// The items.
    data: Vec<T>,
    /// Which part of the list this is.
    meta: OffsetListMeta,
}

/// Which part of a list it is.
#[derive(Serialize, ToSchema)]
#[schema(as = user::PartOf)]
#[serde(rename_all = "camelCase")]
pub struct OffsetListMeta {
    /// How many items the whole list has.
    pub total: i64,
    /// How many were passed over.
    pub offset: i64,
    /// How many there are at most.
    pub limit: i64,
    /// Whether there are more.
    pub has_more: bool,
}

impl<T: Serialize> OffsetList<T> {
    /// A part of a list, with status 200.
    #[must_use]
    pub const fn ok(message: &'static str, data: Vec<T>, meta: OffsetListMeta) -> Self {
        Self { success: true, status: 200, code: "OK", message, data, meta }
    }
}
