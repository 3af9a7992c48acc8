//! Verifies the chains of digests that protect the audit logs, one for each organization.
//!
//! Results that the database computes are not trusted: it returns rows, and their digests, MACs and
//! seals are computed here. A chain reveals changes to its links, but not the removal of its last
//! links. A published head, which was recorded in a log or by hand, reveals that.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use crate::model::audit_digest::{AuditEventRow, link_digest};
use crate::model::audit_findings::{AuditFault, AuditFinding};
use crate::model::audit_head::ChainHead;
use crate::model::audit_seal::{AuditSigner, MacCheck, PrunedPrefix, SignedHead};
use crate::model::ids::OrganizationId;

/// A stored link of a chain.
pub struct ChainLink {
    /// The chain's organization.
    pub organization: OrganizationId,
    /// The organization's handle.
    pub handle: String,
    /// The chain's stored head, if there is one.
    pub head: Option<SignedHead>,
    /// Its position in the chain.
    pub position: i64,
    /// Its digest.
    pub digest: [u8; 32],
    /// Its seal, if it has one.
    pub seal: Option<[u8; 32]>,
    /// The id of its event's row.
    pub event_id: i64,
    /// Its event; `None` if the row does not exist.
    pub stored: Option<AuditEventRow>,
}

/// A result of the verification.
#[derive(Debug, PartialEq, Eq)]
pub enum ChainObservation {
    /// A fault was found.
    Faulty(AuditFinding),
    /// A chain has no faults, up to this head.
    Intact(ChainHead),
}

impl ChainObservation {
    /// Returns the fault, if there is one.
    #[must_use]
    pub fn finding(self) -> Option<AuditFinding> {
        match self {
            Self::Faulty(finding) => Some(finding),
            Self::Intact(_) => None,
        }
    }
}

/// Verifies all links in one pass: chain by chain, each from its first link.
pub struct ChainVerifier {
    signer: AuditSigner,
    /// The digests of known heads, by lower-case handle and position.
    heads: HashMap<String, BTreeMap<i64, Vec<[u8; 32]>>>,
    /// The nonces seen so far: by their first halves, one bit for each second half.
    nonces: HashMap<[u8; 8], Vec<u64>>,
    current: Option<Chain>,
    /// The organization and the position of the last link that was verified.
    last: (OrganizationId, i64),
    /// The numbers of chains and links that were verified.
    pub counts: (u64, u64),
    /// The number of accepted events without a MAC: they were written before signing began, or by
    /// servers of the previous version.
    pub unsigned: u64,
    /// The number of events that retention removed.
    pub pruned: i64,
}

/// The chain that is being verified.
struct Chain {
    organization: OrganizationId,
    head: ChainHead,
    /// The last position at which an event may lack a MAC.
    unsigned_until: i64,
    /// The unknown pepper of the head; without it, `unsigned_until` and `unproven` cannot be
    /// checked.
    lacks_pepper: Option<String>,
    /// The last position that retention removed, according to a head that cannot be checked;
    /// otherwise 0.
    unproven: i64,
    is_whole: bool,
    /// The current run of consecutive faults of one kind.
    run: Option<FaultRun>,
}

/// Consecutive faults of one kind: the first position, the last position and the fault.
struct FaultRun(i64, i64, RunFault);

#[derive(PartialEq, Eq)]
enum RunFault {
    Moved(i64),
    NoPepper(String),
}

impl ChainVerifier {
    /// Creates a verifier that also compares the chains with these heads.
    #[must_use]
    pub fn with_known_heads(
        signer: AuditSigner,
        known_heads: impl IntoIterator<Item = ChainHead>,
    ) -> Self {
        let mut heads = HashMap::<_, BTreeMap<_, Vec<_>>>::new();
        for ChainHead { organization, position, digest } in known_heads {
            let by_position = heads.entry(organization.to_ascii_lowercase()).or_default();
            by_position.entry(position).or_default().push(digest);
        }
        let (nonces, current, counts) = (HashMap::new(), None, (0, 0));
        let last = (OrganizationId(Uuid::nil()), i64::MIN);
        Self { signer, heads, nonces, current, last, counts, unsigned: 0, pruned: 0 }
    }

    /// Returns the faults of consecutive links of one chain. The first link follows those that
    /// retention removed.
    #[must_use]
    pub fn verify_part(signer: AuditSigner, links: &[ChainLink]) -> Vec<AuditFinding> {
        let mut verification = Self::with_known_heads(signer, []);
        let mut observed: Vec<_> =
            links.iter().flat_map(|link| verification.verify_link(link)).collect();
        // The chain does not end with these links, so it must not be reported as truncated.
        verification.heads.clear();
        observed.extend(verification.end_chain());
        observed.into_iter().filter_map(ChainObservation::finding).collect()
    }

    /// Returns the organization and the position of the last link that was verified.
    #[must_use]
    pub const fn last(&self) -> (OrganizationId, i64) {
        self.last
    }

    /// Verifies the next link. Returns its faults, and the result of the previous chain if this
    /// link begins another.
    pub fn verify_link(&mut self, link: &ChainLink) -> Vec<ChainObservation> {
        let mut observed = Vec::new();
        if self.current.as_ref().is_none_or(|chain| chain.organization != link.organization) {
            observed.extend(self.end_chain());
            observed.extend(self.begin_chain(link));
        }
        self.last = (link.organization, link.position);
        let Some(mut chain) = self.current.take() else { return observed };
        self.skip_pruned(&mut chain, link);
        if link.position <= chain.head.position.max(chain.unproven) {
            // The first link stays when retention removes its event, since transactions lock it to
            // append. Retention leaves no other link, and no link with an event.
            if link.position != 1 || link.stored.is_some() {
                chain.is_whole = false;
                let fault = AuditFault::PositionReused(link.position, link.event_id);
                observed.push(faulty(&link.handle, fault));
            }
            self.current = Some(chain);
            return observed;
        }
        self.counts.1 += 1;
        let faults = self.faults(&mut chain, link);
        chain.is_whole &= faults.is_empty() && chain.run.is_none();
        observed.extend(faults.into_iter().map(|fault| faulty(&link.handle, fault)));
        (chain.head.position, chain.head.digest) = (link.position, link.digest);
        self.current = Some(chain);
        observed
    }

    /// Skips links that retention removed after the verification of the chain began.
    fn skip_pruned(&mut self, chain: &mut Chain, link: &ChainLink) {
        let Some(head) = &link.head else { return };
        let (previous, pruned) = (chain.head.position, head.pruned);
        if link.position > previous + 1
            && pruned.until > previous
            && self.signer.check_head(link.organization, head) == MacCheck::Valid
        {
            self.pruned = self.pruned.saturating_add(pruned.until - previous);
            (chain.head.position, chain.head.digest) = (pruned.until, pruned.digest);
        }
    }

    fn begin_chain(&mut self, link: &ChainLink) -> Option<ChainObservation> {
        self.counts.0 += 1;
        let (mut unsigned_until, mut lacks_pepper, mut fault) = (0, None, None);
        let (mut pruned, mut unproven) = (PrunedPrefix::default(), 0);
        if let Some(head) = &link.head {
            match self.signer.check_head(link.organization, head) {
                MacCheck::Valid => {
                    (unsigned_until, pruned) = (head.unsigned_until, head.pruned);
                    let known = self.heads.entry(link.handle.to_ascii_lowercase()).or_default();
                    known.entry(head.position).or_default().push(head.digest);
                }
                MacCheck::Invalid => fault = Some(AuditFault::ForgedHead),
                MacCheck::UnknownPepper(pepper) => {
                    (unsigned_until, unproven) = (head.unsigned_until, head.pruned.until);
                    lacks_pepper = (unsigned_until > 0 || unproven > 0).then(|| pepper.clone());
                    fault = Some(AuditFault::UnknownHeadPepper(pepper));
                }
            }
        }
        let organization = link.organization;
        let PrunedPrefix { until: position, digest } = pruned;
        self.pruned = self.pruned.saturating_add(position);
        let head = ChainHead { organization: link.handle.clone(), position, digest };
        let (is_whole, run) = (fault.is_none(), None);
        let chain =
            Chain { organization, head, unsigned_until, lacks_pepper, unproven, is_whole, run };
        self.current = Some(chain);
        fault.map(|fault| faulty(&link.handle, fault))
    }

    /// Returns the faults of a link, and a run of earlier faults that ends before it.
    fn faults(&mut self, chain: &mut Chain, link: &ChainLink) -> Vec<AuditFault> {
        let (position, previous) = (link.position, chain.head.position);
        let mut faults = Vec::new();
        if position > previous + 1 {
            faults.push(match &chain.lacks_pepper {
                Some(pepper) if chain.unproven == position - 1 => {
                    AuditFault::UnknownPepper(previous + 1, position - 1, pepper.clone())
                }
                _ => AuditFault::Missing(previous + 1, position - 1),
            });
        }
        let found = match &link.stored {
            None => Some(Err(AuditFault::MissingEvent(position, link.event_id))),
            Some(event) => self.event_fault(chain, link, event),
        };
        let run = match found {
            Some(Ok(run)) => Some(run),
            Some(Err(fault)) => {
                faults.push(fault);
                None
            }
            None => None,
        };
        faults.splice(0..0, chain.extend_run(position, run));
        let known = self.heads.get_mut(&link.handle.to_ascii_lowercase());
        let known = known.and_then(|heads| heads.remove(&position)).unwrap_or_default();
        if known.iter().any(|known| *known != link.digest) {
            faults.push(AuditFault::Rewritten(position));
        }
        faults
    }

    /// Returns the first fault of an event, if it has one. A fault that can form a run is `Ok`.
    fn event_fault(
        &mut self,
        chain: &Chain,
        link: &ChainLink,
        event: &AuditEventRow,
    ) -> Option<Result<RunFault, AuditFault>> {
        let (position, row) = (link.position, link.event_id);
        // After a gap, the digest that a link was computed from is unknown.
        let follows_known = position == chain.head.position + 1;
        let is_digest_valid =
            !follows_known || link_digest(chain.head.digest, position, event) == link.digest;
        if !is_digest_valid || event.organization != link.organization {
            return Some(Err(AuditFault::Changed(position, row)));
        }
        let Some((nonce, pepper, _)) = &event.seal else {
            return self.unsigned_fault(chain, position, row);
        };
        match self.signer.check_event(event) {
            MacCheck::UnknownPepper(pepper) => return Some(Ok(RunFault::NoPepper(pepper))),
            MacCheck::Invalid => return Some(Err(AuditFault::Forged(position, row))),
            MacCheck::Valid => {}
        }
        if !self.is_new(*nonce) {
            return Some(Err(AuditFault::Duplicated(position, row)));
        }
        let seal =
            link.seal.map(|seal| self.signer.check_link((pepper, *nonce), &link.digest, &seal));
        (seal != Some(MacCheck::Valid)).then_some(Ok(RunFault::Moved(row)))
    }

    fn unsigned_fault(
        &mut self,
        chain: &Chain,
        position: i64,
        row: i64,
    ) -> Option<Result<RunFault, AuditFault>> {
        if position > chain.unsigned_until {
            return Some(Err(AuditFault::Unsigned(position, row)));
        }
        if let Some(pepper) = &chain.lacks_pepper {
            return Some(Ok(RunFault::NoPepper(pepper.clone())));
        }
        self.unsigned += 1;
        None
    }

    /// Records the nonce of an event with a valid MAC. Returns whether it was not seen before.
    fn is_new(&mut self, nonce: Uuid) -> bool {
        let (prefix, counter) = nonce.as_u64_pair();
        let bits = self.nonces.entry(prefix.to_be_bytes()).or_default();
        let Ok(index) = usize::try_from(counter / 64) else { return true };
        if bits.len() <= index {
            bits.resize(index + 1, 0);
        }
        let bit = 1 << (counter % 64);
        let is_new = bits[index] & bit == 0;
        bits[index] |= bit;
        is_new
    }

    /// Ends the verification after the last link. `without_chain` lists the organizations that have
    /// a stored head and no chain.
    pub fn finish(&mut self, without_chain: Vec<String>) -> Vec<ChainObservation> {
        let mut observed = self.end_chain();
        let mut unseen: Vec<_> = self.heads.drain().map(|(organization, _)| organization).collect();
        unseen.extend(
            without_chain.into_iter().map(|organization| organization.to_ascii_lowercase()),
        );
        unseen.sort_unstable();
        unseen.dedup();
        observed.extend(
            unseen.iter().map(|organization| faulty(organization, AuditFault::MissingChain)),
        );
        observed
    }

    fn end_chain(&mut self) -> Vec<ChainObservation> {
        let Some(mut chain) = self.current.take() else { return Vec::new() };
        let mut faults = chain.extend_run(0, None);
        let Chain { head, is_whole, .. } = chain;
        let known = self.heads.remove(&head.organization.to_ascii_lowercase()).unwrap_or_default();
        if let Some((known, _)) =
            known.last_key_value().filter(|(known, _)| **known > head.position)
        {
            faults.push(AuditFault::Truncated(head.position, *known));
        }
        if faults.is_empty() && is_whole {
            return vec![ChainObservation::Intact(head)];
        }
        faults.into_iter().map(|fault| faulty(&head.organization, fault)).collect()
    }
}

impl Chain {
    /// Adds a fault to the current run if it is of the same kind and at the next position.
    /// Otherwise ends the run, which is returned, and begins another with this fault, if there is
    /// one.
    fn extend_run(&mut self, position: i64, fault: Option<RunFault>) -> Vec<AuditFault> {
        if let (Some(FaultRun(_, to, running)), Some(fault)) = (&mut self.run, &fault)
            && *to + 1 == position
            && running.is_same_kind(fault)
        {
            *to = position;
            return Vec::new();
        }
        let ended = self.run.take().map(|FaultRun(from, to, fault)| match fault {
            RunFault::Moved(event) if from == to => AuditFault::Moved(from, event),
            RunFault::Moved(_) => AuditFault::RangeMoved(from, to),
            RunFault::NoPepper(pepper) => AuditFault::UnknownPepper(from, to, pepper),
        });
        self.run = fault.map(|fault| FaultRun(position, position, fault));
        ended.into_iter().collect()
    }
}

impl RunFault {
    fn is_same_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Moved(_), Self::Moved(_)) => true,
            (one, other) => one == other,
        }
    }
}

fn faulty(organization: &str, fault: AuditFault) -> ChainObservation {
    ChainObservation::Faulty(AuditFinding { organization: organization.to_owned(), fault })
}
