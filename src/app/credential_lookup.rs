//! Finds the identity that a credential belongs to. Every authenticated request needs this lookup,
//! so lookups of concurrent requests are batched.

use std::collections::HashMap;

use metrics::counter;
use sqlx::PgConnection;

use crate::app::batch_lookup::{BatchLookup, BatchQuery};
use crate::app::database::Database;
use crate::error::Result;
use crate::model::caller::CredentialStatus;
use crate::model::ids::SessionId;
use crate::model::secret::Digest;
use crate::repo::{account_callers, callers};

/// The number of batches that may run at once, each on its own connection.
pub const CONNECTIONS: u32 = 2;

/// A credential to look up.
pub enum CredentialQuery {
    /// The API key with one of these digests (one for each pepper).
    Key(Vec<Digest>),
    /// The session that an API key was exchanged for.
    KeySession(SessionId),
    /// The personal access token with one of these digests.
    PersonalToken(Vec<Digest>),
    /// The session of an account.
    Session(SessionId),
    /// The session of an account whose token has one of these digests.
    SessionToken(Vec<Digest>),
}

/// Looks up credentials in the database, in batches.
pub struct CredentialLookup(BatchLookup<CredentialQuery>);

impl CredentialLookup {
    /// Starts the workers. They stop when the lookup is dropped.
    #[must_use]
    pub fn start(db: &Database) -> Self {
        Self(BatchLookup::start(db, CONNECTIONS))
    }

    /// Returns the status of the credential, valid or rejected; `None` if it is unknown.
    ///
    /// # Errors
    /// Unavailable if the database is unreachable or the queue is full.
    pub async fn find(&self, query: CredentialQuery) -> Result<Option<CredentialStatus>> {
        let status = self.0.query(query).await;
        let outcome = match &status {
            Ok(Some(CredentialStatus::Valid(_))) => "found",
            Ok(Some(CredentialStatus::Rejected(_))) => "refused",
            Ok(None) => "unknown",
            Err(_) => "failed",
        };
        counter!("key_lookups_total", "outcome" => outcome).increment(1);
        status
    }
}

impl BatchQuery for CredentialQuery {
    type Answer = CredentialStatus;
    const NAME: &'static str = "keys";

    async fn answer(
        db: &mut PgConnection,
        queries: &[Self],
    ) -> Result<Vec<Option<CredentialStatus>>> {
        let mut batch = QueryBatch::default();
        for query in queries {
            match query {
                Self::Key(candidates) => batch.keys.extend_from_slice(candidates),
                Self::KeySession(session) => batch.key_sessions.push(*session),
                Self::PersonalToken(candidates) => batch.tokens.extend_from_slice(candidates),
                Self::Session(session) => batch.sessions.push(*session),
                Self::SessionToken(candidates) => batch.cookies.extend_from_slice(candidates),
            }
        }
        let credentials = batch.find(db).await?;
        Ok(queries.iter().map(|query| credentials.get(query).cloned()).collect())
    }
}

/// The queries of a batch, grouped so that each kind of credential needs one statement.
#[derive(Default)]
struct QueryBatch {
    keys: Vec<Digest>,
    key_sessions: Vec<SessionId>,
    tokens: Vec<Digest>,
    sessions: Vec<SessionId>,
    cookies: Vec<Digest>,
}

impl QueryBatch {
    async fn find(&self, db: &mut PgConnection) -> Result<FoundCredentials> {
        let mut credentials = FoundCredentials::default();
        if !self.keys.is_empty() {
            credentials.by_digest = callers::find_by_digests(db, &self.keys).await?;
        }
        if !self.key_sessions.is_empty() {
            credentials.by_session = callers::find_by_sessions(db, &self.key_sessions).await?;
        }
        if !self.tokens.is_empty() {
            let rows = account_callers::find_by_tokens(db, &self.tokens).await?.into_iter();
            credentials
                .by_digest
                .extend(rows.map(|(digest, identity)| (digest, CredentialStatus::Valid(identity))));
        }
        if !self.sessions.is_empty() || !self.cookies.is_empty() {
            for (id, digest, identity) in
                account_callers::find_by_sessions(db, &self.sessions, &self.cookies).await?
            {
                credentials.by_session.insert(id, CredentialStatus::Valid(identity.clone()));
                credentials.by_digest.insert(digest, CredentialStatus::Valid(identity));
            }
        }
        Ok(credentials)
    }
}

/// The results of a batch. A digest or an id belongs to one kind of credential only.
#[derive(Default)]
struct FoundCredentials {
    by_digest: HashMap<Digest, CredentialStatus>,
    by_session: HashMap<SessionId, CredentialStatus>,
}

impl FoundCredentials {
    fn get(&self, query: &CredentialQuery) -> Option<&CredentialStatus> {
        match query {
            CredentialQuery::Key(candidates)
            | CredentialQuery::PersonalToken(candidates)
            | CredentialQuery::SessionToken(candidates) => {
                candidates.iter().find_map(|digest| self.by_digest.get(digest))
            }
            CredentialQuery::KeySession(session) | CredentialQuery::Session(session) => {
                self.by_session.get(session)
            }
        }
    }
}
