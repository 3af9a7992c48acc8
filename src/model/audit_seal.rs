//! Proves that an audit event was written by this application, with this content and at this
//! position of its chain: MACs under keys that are derived from the deployment's peppers, which the
//! database does not have.
//!
//! The event's MAC is computed before the database receives the event. Its position is known only
//! when the transaction commits, so the database seals the link, with a key for that event only,
//! which it discards with the transaction. An attacker who reads such a key can seal a link of
//! that event at another position, but can neither forge an event nor move another one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::entropy::Entropy;
use crate::model::audit_digest::AuditEventRow;
use crate::model::ids::OrganizationId;

/// The labels for key derivation: each label yields a different key.
const EVENT_LABEL: &[u8] = b"tenantry audit event 1";
const LINK_LABEL: &[u8] = b"tenantry audit link 1";
const HEAD_LABEL: &[u8] = b"tenantry audit head 1";
const SIGNING_LABEL: &[u8] = b"tenantry audit signing 1";

/// Signs events and heads, and checks them; cheap to clone.
#[derive(Clone)]
pub struct AuditSigner(Arc<SignerState>);

struct SignerState {
    /// The ids of the peppers and the keys derived from them, newest first.
    by_pepper: Vec<(String, DerivedKeys)>,
    /// Prefix and counter together form nonces that are unique across all servers.
    nonce_prefix: [u8; 8],
    nonce_counter: AtomicU64,
}

struct DerivedKeys {
    event: Hmac<Sha256>,
    link: Hmac<Sha256>,
    head: Hmac<Sha256>,
    signing: Hmac<Sha256>,
}

impl fmt::Debug for AuditSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditSigner(…)")
    }
}

/// The seal of an event, and the key for the seal of its link.
pub struct EventSeal {
    /// Unique to the event.
    pub nonce: Uuid,
    /// The pepper that the keys are derived from.
    pub pepper_id: String,
    /// The event's MAC.
    pub mac: [u8; 32],
    /// The key with which the database seals the event's link. It is not stored.
    pub link_key: [u8; 32],
}

/// The result of checking a MAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MacCheck {
    /// It is correct.
    Valid,
    /// It is wrong or missing.
    Invalid,
    /// It cannot be checked: this pepper is not configured.
    UnknownPepper(String),
}

/// The head of a chain, as it was stored. A head at position 0 was not published: it only states up
/// to which position the chain may contain events without a MAC.
#[derive(Clone, Debug)]
pub struct SignedHead {
    /// The position of the chain's last link.
    pub position: i64,
    /// The digest at this position.
    pub digest: [u8; 32],
    /// Events up to this position may lack a MAC: they were written before signing began, or by
    /// servers of the previous version.
    pub unsigned_until: i64,
    /// The beginning of the chain, which retention removed.
    pub pruned: PrunedPrefix,
    /// The pepper that the key is derived from.
    pub pepper_id: String,
    /// The MAC of the organization and the fields above, without `pepper_id`.
    pub mac: [u8; 32],
}

/// The beginning of a chain that retention removed; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrunedPrefix {
    /// The last removed position; 0 if nothing was removed.
    pub until: i64,
    /// The digest at that position, from which the chain continues.
    pub digest: [u8; 32],
}

/// The start of the signing of events.
#[derive(Clone, Debug)]
pub struct SigningStart {
    /// When the first server that signs events started.
    pub started_at: DateTime<Utc>,
    /// Until when servers of the previous version may insert unsigned events.
    pub unsigned_until: DateTime<Utc>,
    /// The pepper that the key is derived from.
    pub pepper_id: String,
    /// The MAC of both times.
    pub mac: [u8; 32],
}

impl AuditSigner {
    /// Creates a signer that signs with the first pepper (id and bytes) and checks with all.
    pub fn new<'a>(
        peppers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        entropy: &dyn Entropy,
    ) -> Self {
        let keys = peppers
            .into_iter()
            .filter_map(|(id, pepper)| Some((id.to_owned(), DerivedKeys::derive(pepper)?)));
        let mut nonce_prefix = [0; 8];
        entropy.fill(&mut nonce_prefix);
        Self(Arc::new(SignerState {
            by_pepper: keys.collect(),
            nonce_prefix,
            nonce_counter: AtomicU64::new(0),
        }))
    }

    /// Signs the content that `content` returns for a new nonce. `None` only if there is no
    /// pepper, which no configuration allows.
    pub(super) fn seal<C: Serialize>(
        &self,
        content: impl FnOnce(String) -> C,
    ) -> Option<EventSeal> {
        let (pepper_id, key) = self.0.by_pepper.first()?;
        let nonce = self.next_nonce();
        let mac = mac(&key.event, &content(nonce.to_string()));
        let link_key = bytes(key.link.clone().chain_update(nonce.as_bytes()));
        Some(EventSeal { nonce, pepper_id: pepper_id.clone(), mac, link_key })
    }

    fn next_nonce(&self) -> Uuid {
        let number = self.0.nonce_counter.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.0.nonce_prefix);
        nonce[8..].copy_from_slice(&number);
        Uuid::from_bytes(nonce)
    }

    /// Checks whether the application wrote an event with this content.
    #[must_use]
    pub fn check_event(&self, event: &AuditEventRow) -> MacCheck {
        let (Some((nonce, pepper_id, stored_mac)), Ok(detail)) =
            (&event.seal, serde_json::from_str::<Value>(&event.detail))
        else {
            return MacCheck::Invalid;
        };
        let content = (
            nonce.to_string(),
            event.organization.0.to_string(),
            &event.event_type,
            &event.actor,
            &event.target,
            &event.method,
            &event.path,
            event.status,
            &event.address,
            &event.request_id,
            &event.key_display_id,
            CanonicalJson(&detail),
            event.created_at,
        );
        self.check(pepper_id, stored_mac, |key| mac(&key.event, &content))
    }

    /// Checks whether a link with this digest was sealed for the event with this nonce, in a
    /// transaction of the application.
    #[must_use]
    pub fn check_link(
        &self,
        (pepper_id, nonce): (&str, Uuid),
        digest: &[u8; 32],
        seal: &[u8; 32],
    ) -> MacCheck {
        self.check(pepper_id, seal, |key| {
            let link_key = bytes(key.link.clone().chain_update(nonce.as_bytes()));
            Sha256::new().chain_update(link_key).chain_update(digest).finalize().into()
        })
    }

    /// Signs the head of a chain. `None` only if there is no pepper, as for
    /// [`NewAuditEvent::seal`](crate::model::audit::NewAuditEvent::seal).
    #[must_use]
    pub fn sign_head(
        &self,
        organization: OrganizationId,
        (position, digest): (i64, [u8; 32]),
        unsigned_until: i64,
        pruned: PrunedPrefix,
    ) -> Option<SignedHead> {
        let (pepper_id, key) = self.0.by_pepper.first()?;
        let (pepper_id, mac) = (pepper_id.clone(), [0; 32]);
        let mut head = SignedHead { position, digest, unsigned_until, pruned, pepper_id, mac };
        head.mac = head_mac(key, organization, &head);
        Some(head)
    }

    /// Checks whether the application signed this head of the organization's chain.
    #[must_use]
    pub fn check_head(&self, organization: OrganizationId, head: &SignedHead) -> MacCheck {
        self.check(&head.pepper_id, &head.mac, |key| head_mac(key, organization, head))
    }

    /// Signs the start of signing. `None` only if there is no pepper, as for
    /// [`NewAuditEvent::seal`](crate::model::audit::NewAuditEvent::seal).
    #[must_use]
    pub fn sign_start(
        &self,
        started_at: DateTime<Utc>,
        unsigned_until: DateTime<Utc>,
    ) -> Option<SigningStart> {
        let (pepper_id, key) = self.0.by_pepper.first()?;
        let (pepper_id, mac) = (pepper_id.clone(), [0; 32]);
        let mut start = SigningStart { started_at, unsigned_until, pepper_id, mac };
        start.mac = start_mac(key, &start);
        Some(start)
    }

    /// Checks whether the application signed this start of signing.
    #[must_use]
    pub fn check_start(&self, start: &SigningStart) -> MacCheck {
        self.check(&start.pepper_id, &start.mac, |key| start_mac(key, start))
    }

    /// Returns whether this pepper is not the newest, so that its MACs should be renewed.
    #[must_use]
    pub fn is_outdated(&self, pepper_id: &str) -> bool {
        self.0.by_pepper.first().is_none_or(|(newest, _)| newest != pepper_id)
    }

    fn check(
        &self,
        pepper_id: &str,
        stored_mac: &[u8; 32],
        compute: impl FnOnce(&DerivedKeys) -> [u8; 32],
    ) -> MacCheck {
        match self.0.by_pepper.iter().find(|(id, _)| id == pepper_id) {
            None => MacCheck::UnknownPepper(pepper_id.to_owned()),
            Some((_, key)) if compute(key).ct_eq(stored_mac).into() => MacCheck::Valid,
            Some(_) => MacCheck::Invalid,
        }
    }
}

impl DerivedKeys {
    /// Derives the keys; never `None`, because HMAC-SHA-256 accepts keys of any length.
    fn derive(pepper: &[u8]) -> Option<Self> {
        let derive = |label: &[u8]| {
            let derived = bytes(Hmac::<Sha256>::new_from_slice(pepper).ok()?.chain_update(label));
            Hmac::new_from_slice(&derived).ok()
        };
        let (event, link) = (derive(EVENT_LABEL)?, derive(LINK_LABEL)?);
        Some(Self { event, link, head: derive(HEAD_LABEL)?, signing: derive(SIGNING_LABEL)? })
    }
}

fn head_mac(key: &DerivedKeys, organization: OrganizationId, head: &SignedHead) -> [u8; 32] {
    let [digest, pruned] = [head.digest, head.pruned.digest].map(hex::encode);
    let organization = organization.0.to_string();
    let pruned = (head.pruned.until, pruned);
    mac(&key.head, &(organization, head.position, digest, head.unsigned_until, pruned))
}

fn start_mac(key: &DerivedKeys, start: &SigningStart) -> [u8; 32] {
    let [started, until] = [start.started_at, start.unsigned_until].map(|at| at.timestamp_micros());
    mac(&key.signing, &(started, until))
}

/// Returns the MAC of content as JSON. Content that cannot be serialized counts as empty.
fn mac(key: &Hmac<Sha256>, content: &impl Serialize) -> [u8; 32] {
    let text = serde_json::to_vec(content).unwrap_or_default();
    bytes(key.clone().chain_update(text))
}

fn bytes(mac: Hmac<Sha256>) -> [u8; 32] {
    mac.finalize().into_bytes().into()
}

/// A value that is serialized with its members in one order, whatever order the database returns.
///
/// Invariant: details contain no fractional numbers, which the database formats differently.
pub(super) struct CanonicalJson<'a>(pub(super) &'a Value);

impl Serialize for CanonicalJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(members) => {
                let members: BTreeMap<_, _> =
                    members.iter().map(|(name, value)| (name, CanonicalJson(value))).collect();
                members.serialize(serializer)
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(CanonicalJson)),
            plain => plain.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

    fn signer(ids: &[&'static str]) -> AuditSigner {
        AuditSigner::new(ids.iter().map(|id| (*id, id.as_bytes())), &SystemEntropy)
    }

    #[test]
    fn a_head_is_valid_only_for_its_organization_and_content_under_a_known_pepper() {
        let old = signer(&["p1"]);
        let (one, other) = (OrganizationId(Uuid::from_u128(1)), OrganizationId(Uuid::from_u128(2)));
        let head = old.sign_head(one, (7, [7; 32]), 3, PrunedPrefix::default()).unwrap();
        let both = signer(&["p2", "p1"]);
        assert_eq!(both.check_head(one, &head), MacCheck::Valid);
        assert_eq!(both.check_head(other, &head), MacCheck::Invalid);
        for changed in [
            SignedHead { position: 8, ..head.clone() },
            SignedHead { digest: [8; 32], ..head.clone() },
            SignedHead { unsigned_until: 4, ..head.clone() },
            SignedHead {
                pruned: PrunedPrefix { until: 1, ..PrunedPrefix::default() },
                ..head.clone()
            },
            SignedHead {
                pruned: PrunedPrefix { digest: [1; 32], ..PrunedPrefix::default() },
                ..head.clone()
            },
            SignedHead { pepper_id: "p2".to_owned(), ..head.clone() },
        ] {
            assert_eq!(both.check_head(one, &changed), MacCheck::Invalid, "{changed:?}");
        }
        assert_eq!(
            signer(&["p2"]).check_head(one, &head),
            MacCheck::UnknownPepper("p1".to_owned())
        );
        assert!(both.is_outdated(&head.pepper_id) && !old.is_outdated(&head.pepper_id));
    }

    #[test]
    fn members_of_an_object_are_serialized_in_sorted_order() {
        let value: Value =
            serde_json::from_str(r#"{"bb":[{"z":1,"a":2}],"c":null,"a":"é"}"#).unwrap();
        let text = serde_json::to_string(&CanonicalJson(&value)).unwrap();
        assert_eq!(text, r#"{"a":"é","bb":[{"a":2,"z":1}],"c":null}"#);
    }

    #[test]
    fn nonces_are_unique_across_signers() {
        let (one, other) = (signer(&["p1"]), signer(&["p1"]));
        let nonces: std::collections::HashSet<_> =
            (0..1000).flat_map(|_| [one.next_nonce(), other.next_nonce()]).collect();
        assert_eq!(nonces.len(), 2000);
    }
}
