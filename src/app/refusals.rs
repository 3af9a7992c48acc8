//! Known keys that were refused, gathered and told to their organizations' trails: at most one row
//! for a key and a reason every few seconds, however many tried, so that a flood of requests is
//! not a second flood in the table.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use serde_json::json;

use crate::app::database::Database;
use crate::error::Result;
use crate::model::audit::{AuditEvent, EventType, Trail};
use crate::model::caller::RefusedKey;
use crate::repo::audit_events;

/// How many keys and reasons are kept between two flushes.
const MOST: usize = 200;
/// How many of them may be one organization's: none can crowd the others out.
const MOST_OF_ONE: usize = 10;

/// Gathers refusals.
pub struct Refusals {
    db: Database,
    pending: Mutex<HashMap<RefusedKey, (Trail, u64)>>,
}

impl Refusals {
    /// Refusals that are written to `db`.
    #[must_use]
    pub fn new(db: Database) -> Self {
        Self { db, pending: Mutex::default() }
    }

    /// Notes one refusal; of several, the first request is told of.
    pub fn note(&self, refused: RefusedKey, trail: impl FnOnce() -> Trail) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = pending.keys().filter(|it| it.organization == refused.organization).count();
        let is_full = pending.len() >= MOST || of_one >= MOST_OF_ONE;
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
        noted.sort_unstable_by_key(|(refused, _)| refused.organization.0);
        self.db
            .transaction(async |tx| {
                for (refused, (trail, count)) in &noted {
                    let key = refused.key.to_string();
                    let event = AuditEvent {
                        organization: refused.organization,
                        event_type: EventType::KeyRefused,
                        actor: &key,
                        target: &key,
                        key_display_id: Some(&refused.key_display_id),
                        detail: json!({ "reason": refused.reason.as_str(), "count": count }),
                        trail,
                    };
                    audit_events::insert(tx, &event).await?;
                }
                Ok(())
            })
            .await
    }
}
