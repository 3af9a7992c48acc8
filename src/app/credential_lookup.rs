//! Who a credential belongs to: the question of the hot path, asked for many requests at once.

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

/// How many batches may be under way at once, each on its own connection.
pub const CONNECTIONS: u32 = 2;
/// What is asked of a credential.
pub enum CredentialQuery {
    /// Whose key has one of these digests (one for each pepper)?
    Key(Vec<Digest>),
    /// Whose key was exchanged for this session?
    KeySession(SessionId),
    /// Whose personal token has one of these digests?
    PersonalToken(Vec<Digest>),
    /// Which person's session is this?
    Session(SessionId),
    /// Which person's session has a token with one of these digests?
    SessionToken(Vec<Digest>),
}

/// Asks the database who is calling.
pub struct CredentialLookup(BatchLookup<CredentialQuery>);

impl CredentialLookup {
    /// Starts the workers; they end when the lookup is dropped.
    #[must_use]
    pub fn start(db: &Database) -> Self {
        Self(BatchLookup::start(db, CONNECTIONS))
    }

    /// Whose the credential is, good or not; `None` where it is nobody's.
    ///
    /// # Errors
    /// Unavailable where the database is away or too many questions wait.
    pub async fn find(&self, question: CredentialQuery) -> Result<Option<CredentialStatus>> {
        let found = self.0.query(question).await;
        let outcome = match &found {
            Ok(Some(CredentialStatus::Valid(_))) => "found",
            Ok(Some(CredentialStatus::Rejected(_))) => "refused",
            Ok(None) => "unknown",
            Err(_) => "failed",
        };
        counter!("key_lookups_total", "outcome" => outcome).increment(1);
        found
    }
}

impl BatchQuery for CredentialQuery {
    type Answer = CredentialStatus;
    const NAME: &'static str = "keys";

    async fn answer(
        db: &mut PgConnection,
        asked: &[Self],
    ) -> Result<Vec<Option<CredentialStatus>>> {
        let mut kinds = QueryBatch::default();
        for one in asked {
            match one {
                Self::Key(candidates) => kinds.keys.extend_from_slice(candidates),
                Self::KeySession(session) => kinds.key_sessions.push(*session),
                Self::PersonalToken(candidates) => kinds.tokens.extend_from_slice(candidates),
                Self::Session(session) => kinds.sessions.push(*session),
                Self::SessionToken(candidates) => kinds.cookies.extend_from_slice(candidates),
            }
        }
        let found = kinds.find(db).await?;
        Ok(asked.iter().map(|one| found.get(one).cloned()).collect())
    }
}

/// The questions of a batch, each kind for one statement.
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
        let mut found = FoundCredentials::default();
        if !self.keys.is_empty() {
            found.by_digest = callers::find_by_digests(db, &self.keys).await?;
        }
        if !self.key_sessions.is_empty() {
            found.by_session = callers::find_by_sessions(db, &self.key_sessions).await?;
        }
        if !self.tokens.is_empty() {
            let people = account_callers::find_by_tokens(db, &self.tokens).await?.into_iter();
            found
                .by_digest
                .extend(people.map(|(digest, person)| (digest, CredentialStatus::Valid(person))));
        }
        if !self.sessions.is_empty() || !self.cookies.is_empty() {
            for (id, digest, person) in
                account_callers::find_by_sessions(db, &self.sessions, &self.cookies).await?
            {
                found.by_session.insert(id, CredentialStatus::Valid(person.clone()));
                found.by_digest.insert(digest, CredentialStatus::Valid(person));
            }
        }
        Ok(found)
    }
}

/// The answers: a digest, or an id, is of one kind of credential only.
#[derive(Default)]
struct FoundCredentials {
    by_digest: HashMap<Digest, CredentialStatus>,
    by_session: HashMap<SessionId, CredentialStatus>,
}

impl FoundCredentials {
    fn get(&self, question: &CredentialQuery) -> Option<&CredentialStatus> {
        match question {
            CredentialQuery::Key(candidates)
            | CredentialQuery::PersonalToken(candidates)
            | CredentialQuery::SessionToken(candidates) => {
                candidates.iter().find_map(|it| self.by_digest.get(it))
            }
            CredentialQuery::KeySession(session) | CredentialQuery::Session(session) => {
                self.by_session.get(session)
            }
        }
    }
}
