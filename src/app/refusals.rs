//! Credentials that were refused, gathered and told to the trail: at most one row for one of them
//! and a reason every few seconds, however many tried, so that a flood of requests is not a second
//! flood in the table.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::app::database::Database;
use crate::error::Result;
use crate::model::audit::{AuditEvent, EventType, Trail};
use crate::model::caller::RefusedKey;
use crate::model::ids::OrganizationId;
use crate::model::limit::Subject;
use crate::model::master_scope::MasterScope;
use crate::repo::audit_events;

/// How many refusals are kept between two flushes.
const MOST: usize = 200;
/// How many of them may be one organization's: one alone can not crowd the others out.
const MOST_OF_ONE: usize = 10;

/// What was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// A key that is known: told to its organization's trail.
    Key(RefusedKey),
    /// A master key that was missing or wrong, or another scope's, from one client or, where there
    /// is no room for that, from anywhere: told to the deployment's trail.
    MasterKey(MasterScope, Option<Subject>),
}

impl Refused {
    const fn organization(&self) -> OrganizationId {
        match self {
            Self::Key(key) => key.organization,
            Self::MasterKey(..) => OrganizationId::SYSTEM,
        }
    }

    fn event<'a>(&'a self, actor: &'a str, count: u64, trail: &'a Trail) -> AuditEvent<'a> {
        let (event_type, key_display_id) = match self {
            Self::Key(key) => (EventType::KeyRefused, Some(key.key_display_id.as_str())),
            Self::MasterKey(..) => (EventType::MasterKeyRefused, None),
        };
        let (organization, detail) = (self.organization(), self.detail(count));
        let target = actor;
        AuditEvent { organization, event_type, actor, target, key_display_id, detail, trail }
    }

    /// The public id of what was refused.
    fn name(&self) -> String {
        match self {
            Self::Key(key) => key.key.to_string(),
            Self::MasterKey(scope, _) => scope.as_str().to_owned(),
        }
    }

    fn detail(&self, count: u64) -> Value {
        match self {
            Self::Key(key) => json!({ "reason": key.reason.as_str(), "count": count }),
            Self::MasterKey(scope, _) => json!({ "scope": scope.as_str(), "count": count }),
        }
    }
}

/// Gathers refusals.
pub struct Refusals {
    db: Database,
    pending: Mutex<HashMap<Refused, (Trail, u64)>>,
}

impl Refusals {
    /// Refusals that are written to `db`.
    #[must_use]
    pub fn new(db: Database) -> Self {
        Self { db, pending: Mutex::default() }
    }

    /// Notes one refusal; of several, the first request is told of.
    pub fn note(&self, refused: Refused, trail: impl FnOnce() -> Trail) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let organization = refused.organization();
        let of_one = pending.keys().filter(|it| it.organization() == organization).count();
        let is_full = match refused {
            Refused::Key(_) => pending.len() >= MOST || of_one >= MOST_OF_ONE,
            // Nobody crowds these out, their own kind included: the scopes alone always have room.
            Refused::MasterKey(_, client) => client.is_some() && of_one >= MOST_OF_ONE,
        };
        let refused = match refused {
            Refused::MasterKey(scope, _) if is_full && !pending.contains_key(&refused) => {
                Refused::MasterKey(scope, None)
            }
            refused => refused,
        };
        let is_full = is_full && matches!(refused, Refused::Key(_));
        match pending.entry(refused) {
            Entry::Occupied(mut place) => place.get_mut().1 += 1,
            Entry::Vacant(place) if !is_full => {
                place.insert((trail(), 1));
            }
            Entry::Vacant(_) => {}
        }
    }

    /// Writes down what was noted so far.
    ///
    /// # Errors
    /// The database's own; what could not be written is then lost: a trail of refusals is not
    /// worth a memory that grows while the database is away.
    pub async fn flush(&self) -> Result<()> {
        let noted = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *pending)
        };
        if noted.is_empty() {
            return Ok(());
        }
        // In the order of organizations, or two servers could wait for each other's trails.
        let mut noted: Vec<_> = noted.into_iter().collect();
        noted.sort_unstable_by_key(|(refused, _)| refused.organization().0);
        self.db
            .transaction(async |tx| {
                for (refused, (trail, count)) in &noted {
                    let actor = refused.name();
                    audit_events::insert(tx, &refused.event(&actor, *count, trail)).await?;
                }
                Ok(())
            })
            .await
    }
}
