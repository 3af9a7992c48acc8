//! Finds the credentials that verifiers check, in batches, on connections of their own: a busy
//! server delays no check of the operator's API.

use std::sync::Arc;

use sqlx::PgConnection;

use crate::app::batch_lookup::{BatchLookup, BatchQuery};
use crate::error::Result;
use crate::model::secret::Digest;
use crate::model::verification::{CredentialKind, KnownCredential};
use crate::repo::known_credentials;

/// Looks up credentials for verifiers in batches.
pub type VerificationLookup = BatchLookup<VerificationQuery>;

/// The number of batches that may run at once, each on its own connection.
pub const CONNECTIONS: u32 = 2;

/// Asks for the credential of a kind with one of these digests (one for each pepper).
pub struct VerificationQuery {
    /// The kind.
    pub kind: CredentialKind,
    /// The digests.
    pub candidates: Vec<Digest>,
}

impl BatchQuery for VerificationQuery {
    type Answer = Arc<KnownCredential>;
    const NAME: &'static str = "verifications";

    async fn answer(
        db: &mut PgConnection,
        queries: &[Self],
    ) -> Result<Vec<Option<Arc<KnownCredential>>>> {
        let digests = |query: &Self| {
            let kind = query.kind;
            query.candidates.iter().map(move |digest| (kind, *digest)).collect::<Vec<_>>()
        };
        let found = known_credentials::find(db, queries.iter().flat_map(digests)).await?;
        let answer = |query: &Self| query.candidates.iter().find_map(|it| found.get(it)).cloned();
        Ok(queries.iter().map(answer).collect())
    }
}
