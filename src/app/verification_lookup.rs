//! Finds the credentials that verifiers check, in batches, on connections of their own, so that a
//! busy server does not delay checks for the operator's API.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::app::batch_lookup::{BatchLookup, BatchQuery};
use crate::app::lookup_cache::{self, Cacheable, Found, LookupCache};
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
    type Shared = LookupCache<Self::Answer>;
    const NAME: &'static str = "verifications";

    async fn answer(
        db: &mut PgConnection,
        cache: &Self::Shared,
        queries: &[Self],
    ) -> Result<Vec<Option<Arc<KnownCredential>>>> {
        lookup_cache::answer(db, cache, queries, |query| &query.candidates, read).await
    }
}

async fn read(
    db: &mut PgConnection,
    queries: &[&VerificationQuery],
) -> Result<Vec<Option<Found<Arc<KnownCredential>>>>> {
    let mut digests = Vec::with_capacity(queries.len());
    for query in queries {
        digests.extend(query.candidates.iter().map(|digest| (query.kind, *digest)));
    }
    let found = known_credentials::find(db, digests).await?;
    let answer = |query: &&VerificationQuery| {
        let mut candidates = query.candidates.iter();
        candidates.find_map(|digest| Some((Some(*digest), Arc::clone(found.get(digest)?))))
    };
    Ok(queries.iter().map(answer).collect())
}

impl Cacheable for Arc<KnownCredential> {
    fn subjects(&self) -> Option<impl Iterator<Item = Uuid>> {
        let organization = self.organization.as_ref()?;
        // Credits change with every check, and by themselves.
        if self.defect.is_some() || self.has_credits() {
            return None;
        }
        let account = self.account.as_ref().map(|account| account.id.uuid());
        let ids = [self.id.uuid(), self.metered_key.uuid(), organization.id.0];
        let of_oauth = self.oauth.as_ref().map(|oauth| {
            let ids = [oauth.token, oauth.client, oauth.client_organization.0];
            ids.into_iter().chain(oauth.session)
        });
        Some(ids.into_iter().chain(account).chain(of_oauth.into_iter().flatten()))
    }

    fn bytes(&self) -> usize {
        let of_organization = self.organization.as_ref().map_or(0, |organization| {
            let origins = organization.allowed_origins.iter().map(String::len).sum::<usize>();
            origins + organization.metadata.memory_bytes()
        });
        self.metadata.memory_bytes() + of_organization
    }

    fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.expires_at
    }
}
