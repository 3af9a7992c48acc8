//! The key sets that OAuth clients and identity providers publish, each kept for a short time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use crate::app::document_fetches::DocumentFetches;
use crate::model::oauth::ClientKind;
use crate::model::public_key_set::{KeySetUrl, PublicKeySet};

/// For how long a set is used without being fetched again.
const MAX_AGE: TimeDelta = TimeDelta::minutes(5);
/// For how long a set that lacks a request's key is used: its owner may just have added the key.
const MAX_AGE_WITHOUT_KEY: TimeDelta = TimeDelta::seconds(60);
/// The maximum number of sets that are kept.
const MAX_KEPT: usize = 1_024;

/// The sets of all OAuth clients and identity providers. Those of registered apps are separate:
/// strangers choose the URLs of the other clients, whose sets must not displace them.
#[derive(Default)]
pub struct PublishedKeySets {
    registered: KeySets,
    others: KeySets,
    /// The sets of identity providers, which organizations choose.
    pub providers: KeySets,
}

impl PublishedKeySets {
    /// Returns the sets of clients of a kind.
    #[must_use]
    pub const fn of(&self, kind: ClientKind) -> &KeySets {
        match kind {
            ClientKind::Registered => &self.registered,
            ClientKind::Document | ClientKind::Dynamic => &self.others,
        }
    }
}

/// The sets that are kept, and the fetches of sets.
#[derive(Default)]
pub struct KeySets {
    kept: Mutex<HashMap<String, KeptSet>>,
    /// The running fetches, and the recently rejected sets.
    pub fetches: DocumentFetches,
}

struct KeptSet {
    keys: Arc<PublicKeySet>,
    fetched_at: DateTime<Utc>,
}

impl KeySets {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, KeptSet>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the set of this URL if it may be used for a signature of the key with this id.
    #[must_use]
    pub fn find(
        &self,
        url: &KeySetUrl,
        key_id: Option<&str>,
        now: DateTime<Utc>,
    ) -> Option<Arc<PublicKeySet>> {
        let kept = self.lock();
        let set = kept.get(url.url().as_str())?;
        let max_age = if set.keys.contains(key_id) { MAX_AGE } else { MAX_AGE_WITHOUT_KEY };
        (now - set.fetched_at < max_age).then(|| Arc::clone(&set.keys))
    }

    /// Keeps a set that was fetched now. If there are too many, the oldest is forgotten: it can be
    /// fetched again.
    pub fn keep(&self, url: &KeySetUrl, keys: PublicKeySet, now: DateTime<Utc>) {
        let mut kept = self.lock();
        let is_new = !kept.contains_key(url.url().as_str());
        if is_new && kept.len() >= MAX_KEPT {
            let oldest = kept.iter().min_by_key(|(_, set)| set.fetched_at);
            if let Some(oldest) = oldest.map(|(url, _)| url.clone()) {
                kept.remove(&oldest);
            }
        }
        let set = KeptSet { keys: Arc::new(keys), fetched_at: now };
        kept.insert(url.url().to_string(), set);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(id: &str) -> PublicKeySet {
        let key = json!({ "kty": "OKP", "crv": "Ed25519", "kid": id,
                          "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
        PublicKeySet::parse(&json!({ "keys": [key] })).expect("a set")
    }

    fn url(number: usize) -> KeySetUrl {
        KeySetUrl::parse(&format!("https://app.example.com/{number}")).expect("a URL")
    }

    #[test]
    fn a_set_is_used_for_5_minutes_and_for_one_if_it_lacks_the_key() {
        let (sets, now) = (KeySets::default(), Utc::now());
        sets.keep(&url(1), set("a"), now);
        let is_used = |id: Option<&str>, seconds| {
            sets.find(&url(1), id, now + TimeDelta::seconds(seconds)).is_some()
        };
        assert!(is_used(Some("a"), 299) && is_used(None, 299) && is_used(Some("b"), 59));
        assert!(!is_used(Some("a"), 300) && !is_used(None, 300) && !is_used(Some("b"), 60));
        assert!(sets.find(&url(2), Some("a"), now).is_none());
    }

    #[test]
    fn the_oldest_of_too_many_sets_is_forgotten() {
        let (sets, now) = (KeySets::default(), Utc::now());
        sets.keep(&url(0), set("a"), now - TimeDelta::seconds(1));
        for number in 1..=MAX_KEPT {
            sets.keep(&url(number), set("a"), now);
        }
        assert!(sets.find(&url(0), Some("a"), now).is_none());
        assert!((1..=MAX_KEPT).all(|it| sets.find(&url(it), Some("a"), now).is_some()));
        assert_eq!(sets.lock().len(), MAX_KEPT);
    }
}
