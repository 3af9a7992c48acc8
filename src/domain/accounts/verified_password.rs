//! Verifies the password of an account. [`VerifiedPassword`] proves to an operation that this was
//! done.

use sqlx::PgConnection;

use crate::app::App;
use crate::app::password_hasher::PasswordCheck;
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::model::ids::AccountId;
use crate::model::secret::Secret;
use crate::repo::accounts;
use crate::repo::accounts::AccountCredentials;

/// An account whose password was verified.
pub struct VerifiedPassword {
    account: AccountCredentials,
    rehash: Option<String>,
}

/// Verifies a password against the one of `known`. Without an account this fails after the same
/// work.
///
/// # Errors
/// Unauthenticated for a wrong password.
pub async fn verify_password(
    app: &App,
    known: Option<AccountCredentials>,
    password: Secret,
) -> Result<VerifiedPassword> {
    let stored = known.as_ref().and_then(|account| account.password_hash.clone());
    let verified = app.password_hasher.verify(password, stored).await?;
    match (verified, known) {
        (PasswordCheck::Match { rehash }, Some(account)) => {
            Ok(VerifiedPassword { account, rehash })
        }
        _ => Err(wrong_password()),
    }
}

/// Verifies the password of an account whose session or mailed link the client has presented.
///
/// # Errors
/// Unauthenticated for a wrong password.
pub async fn reauthenticate(
    app: &App,
    account: AccountId,
    password: Secret,
) -> Result<VerifiedPassword> {
    let account = app.db.run(async |db| accounts::lock(db, account).await).await;
    verify_password(app, Some(account.map_err(not_found_to_wrong_password)?), password).await
}

/// Replaces the error for an account that was deleted meanwhile.
fn not_found_to_wrong_password(error: Error) -> Error {
    if *error.kind() == ErrorKind::NotFound { wrong_password() } else { error }
}

fn wrong_password() -> Error {
    Error::unauthenticated(
        AuthFailure::InvalidPassword,
        "The e-mail address or the password is wrong",
    )
}

impl VerifiedPassword {
    /// Returns the account as it was when its password was verified.
    #[must_use]
    pub const fn account(&self) -> &AccountCredentials {
        &self.account
    }

    /// Locks the account until the transaction ends, and replaces a hash with outdated parameters.
    ///
    /// # Errors
    /// Unauthenticated if the password was changed, or the account deactivated or deleted,
    /// meanwhile.
    pub async fn lock_account(&self, tx: &mut PgConnection) -> Result<AccountCredentials> {
        let account =
            accounts::lock(tx, self.account.id).await.map_err(not_found_to_wrong_password)?;
        if account.password_version != self.account.password_version || !account.is_active {
            return Err(wrong_password());
        }
        if let Some(hash) = &self.rehash {
            accounts::update_password_hash(tx, account.id, hash).await?;
        }
        Ok(account)
    }
}
