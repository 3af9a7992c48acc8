//! Types that several of this family's routes share.

use serde::Serialize;
use utoipa::ToSchema;

use crate::model::account;

/// The body of a successful response of `/auth`.
#[derive(Serialize, ToSchema)]
#[schema(as = account::Data)]
pub struct DataEnvelope<T> {
    /// The requested object.
    pub data: T,
}

/// An account.
#[derive(Serialize, ToSchema)]
#[schema(as = account::Account)]
pub struct Account {
    #[schema(examples("acc_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    pub id: String,
    /// In lower case.
    #[schema(format = Email, examples("dev@example.com"))]
    pub email: String,
    #[schema(required, examples("Jane Developer"))]
    pub name: Option<String>,
    /// The plan of the account's home organization.
    #[schema(examples("trial"))]
    pub plan: &'static str,
}

impl From<&account::Account> for Account {
    fn from(account: &account::Account) -> Self {
        Self {
            id: account.id.to_string(),
            email: account.email.clone(),
            name: account.name.clone(),
            plan: account.plan.as_str(),
        }
    }
}
