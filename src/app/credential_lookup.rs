//! Finds the identity that a credential belongs to. Every authenticated request needs this lookup,
//! so lookups of concurrent requests are batched.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use metrics::counter;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::app::batch_lookup::{BatchLookup, BatchQuery};
use crate::app::database::Database;
use crate::app::lookup_cache::{self, Cacheable, Found, LookupCache};
use crate::error::Result;
use crate::model::caller::{Credential, CredentialStatus};
use crate::model::ids::SessionId;
use crate::model::secret::Digest;
use crate::repo::{account_callers, callers, oauth_callers};

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
    /// The OAuth access token with one of these digests.
    OauthToken(Vec<Digest>),
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
    pub fn start(db: &Database, cache: LookupCache<CredentialStatus>) -> Self {
        Self(BatchLookup::start(db, CONNECTIONS, cache))
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
    type Shared = LookupCache<CredentialStatus>;
    const NAME: &'static str = "keys";

    async fn answer(
        db: &mut PgConnection,
        cache: &Self::Shared,
        queries: &[Self],
    ) -> Result<Vec<Option<CredentialStatus>>> {
        lookup_cache::answer(db, cache, queries, Self::candidates, read).await
    }
}

impl CredentialQuery {
    /// Returns the digests under which the answer may be cached, one for each pepper; none for
    /// sessions, which are always read.
    fn candidates(&self) -> &[Digest] {
        match self {
            Self::Key(candidates)
            | Self::PersonalToken(candidates)
            | Self::OauthToken(candidates) => candidates,
            Self::KeySession(_) | Self::Session(_) | Self::SessionToken(_) => &[],
        }
    }
}

impl Cacheable for CredentialStatus {
    fn subjects(&self) -> Option<impl Iterator<Item = Uuid>> {
        let Self::Valid(identity) = self else { return None };
        let of_credential = match identity.credential()? {
            Credential::Key(key, _) | Credential::PersonalToken(_, key) => vec![key.id.uuid()],
            Credential::OauthToken(_, token) => {
                let ids = [token.token, token.grant.uuid(), token.client.uuid()];
                let ids = ids.into_iter().chain([token.client_organization.0]);
                ids.chain(token.session).collect()
            }
            Credential::Session(..) => return None,
        };
        let (caller, person) = (identity.caller.as_deref(), identity.person.as_deref());
        // A pinned token without a caller is not cached: a new membership may give it one.
        let is_pinned = person.is_none_or(|person| person.pinned_to.is_some());
        if caller.is_none() && is_pinned {
            return None;
        }
        let of_caller = caller.map(|it| [it.organization.0, it.membership.0]);
        let of_person = person.map(|it| it.account.uuid());
        Some(of_credential.into_iter().chain(of_caller.into_iter().flatten()).chain(of_person))
    }

    fn bytes(&self) -> usize {
        let Self::Valid(identity) = self else { return 0 };
        let key = identity.credential().and_then(Credential::key);
        key.map_or(0, |key| key.allowed_origins.iter().map(String::len).sum())
    }

    fn expires_at(&self) -> Option<DateTime<Utc>> {
        let Self::Valid(identity) = self else { return None };
        match identity.credential()? {
            Credential::OauthToken(_, token) => Some(token.expires_at),
            other => other.key()?.expires_at,
        }
    }
}

async fn read(
    db: &mut PgConnection,
    queries: &[&CredentialQuery],
) -> Result<Vec<Option<Found<CredentialStatus>>>> {
    let mut batch = QueryBatch::default();
    for query in queries {
        match query {
            CredentialQuery::Key(candidates) => batch.keys.extend_from_slice(candidates),
            CredentialQuery::KeySession(session) => batch.key_sessions.push(*session),
            CredentialQuery::PersonalToken(candidates) => {
                batch.tokens.extend_from_slice(candidates);
            }
            CredentialQuery::OauthToken(candidates) => {
                batch.oauth_tokens.extend_from_slice(candidates);
            }
            CredentialQuery::Session(session) => batch.sessions.push(*session),
            CredentialQuery::SessionToken(candidates) => {
                batch.cookies.extend_from_slice(candidates);
            }
        }
    }
    let credentials = batch.find(db).await?;
    Ok(queries.iter().map(|query| credentials.get(query)).collect())
}

/// The queries of a batch, grouped so that each kind of credential needs one statement.
#[derive(Default)]
struct QueryBatch {
    keys: Vec<Digest>,
    key_sessions: Vec<SessionId>,
    tokens: Vec<Digest>,
    oauth_tokens: Vec<Digest>,
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
        if !self.oauth_tokens.is_empty() {
            let rows = oauth_callers::find_by_tokens(db, &self.oauth_tokens).await?.into_iter();
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
    fn get(&self, query: &CredentialQuery) -> Option<Found<CredentialStatus>> {
        match query {
            CredentialQuery::Key(candidates)
            | CredentialQuery::PersonalToken(candidates)
            | CredentialQuery::OauthToken(candidates)
            | CredentialQuery::SessionToken(candidates) => candidates
                .iter()
                .find_map(|digest| Some((Some(*digest), self.by_digest.get(digest)?.clone()))),
            CredentialQuery::KeySession(session) | CredentialQuery::Session(session) => {
                Some((None, self.by_session.get(session)?.clone()))
            }
        }
    }
}
