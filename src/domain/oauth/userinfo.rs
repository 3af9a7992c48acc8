//! Finds the account that the userinfo endpoint describes (`OpenID` Connect Core §5.3).

use crate::app::App;
use crate::domain::accounts;
use crate::error::Result;
use crate::model::account::Account;
use crate::model::ids::AccountId;

/// Returns the account that a token acts for.
///
/// # Errors
/// Not found if the account was deleted meanwhile.
pub async fn find_account(app: &App, id: AccountId) -> Result<Account> {
    app.db.run(async |db| accounts::find(db, id).await).await
}
