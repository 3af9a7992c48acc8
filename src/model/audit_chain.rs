//! The seal on the trails: one chain of digests for each organization, and what is wrong with it.
//!
//! Nothing here is the database's own judgement: it hands over rows, and their digests, MACs and
//! seals are computed here. A chain finds out what was changed within it, not that its end was cut
//! off. Its head does, where it was written down elsewhere: in the log, or by hand.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::model::audit_digest::{StoredEvent, digest};
use crate::model::audit_findings::{Fault, Finding};
use crate::model::audit_seal::{AuditSigner, Proof, SignedHead};
use crate::model::ids::OrganizationId;
use crate::model::{Invalid, hex};

/// What a head begins with where it stands in a longer text.
const MARK: &str = "audit head ";

/// What stands in the log before the time since when events carry MACs.
pub const SINCE: &str = "audit events are signed since ";

/// The time since when events carry MACs, where a line of a log says it.
#[must_use]
pub fn signing_since(line: &str) -> Option<DateTime<Utc>> {
    let (_, said) = line.split_once(SINCE)?;
    let end = said.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(said.len());
    said[..end].parse().ok()
}

/// Where a chain ended when it was looked at. `Display` writes it with its mark, as logs hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The organization's handle.
    pub organization: String,
    /// How many links there were.
    pub position: i64,
    /// The digest of the last.
    pub digest: [u8; 32],
}

impl Head {
    /// Reads `ORG:POSITION:DIGEST`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let parts = || {
            let (organization, rest) = text.split_once(':')?;
            let (position, digest) = rest.split_once(':')?;
            let position = position.parse().ok().filter(|position| *position > 0)?;
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            let is_handle = !organization.is_empty() && organization.bytes().all(is_name);
            let organization = organization.to_owned();
            is_handle.then_some(Self { organization, position, digest: hex::decode(digest)? })
        };
        parts().ok_or("must be ORG:POSITION:DIGEST, as the log has it".into())
    }

    /// The head that a line of a log (text or JSON) or of a list holds; `None` where it holds none.
    ///
    /// # Errors
    /// A line with the mark of a head, and none behind it.
    pub fn find(line: &str) -> Result<Option<Self>, Invalid> {
        let Some((_, marked)) = line.split_once(MARK) else {
            return Ok(Self::parse(line.trim()).ok());
        };
        let is_part = |c: char| c.is_ascii_alphanumeric() || "-_:".contains(c);
        let end = marked.find(|c| !is_part(c)).unwrap_or(marked.len());
        Self::parse(&marked[..end]).map(Some)
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { organization, position, digest } = self;
        write!(f, "{MARK}{organization}:{position}:{}", hex::encode(digest))
    }
}

/// One link, as the database holds it.
pub struct Link {
    /// Whose chain.
    pub organization: OrganizationId,
    /// The organization's handle.
    pub handle: String,
    /// The head that was published last.
    pub head: Option<SignedHead>,
    /// Its place in the chain.
    pub position: i64,
    /// Its digest.
    pub digest: [u8; 32],
    /// What its seal is made with, and the seal; `None` where it has none.
    pub seal: Option<(Uuid, [u8; 32])>,
    /// The place of its event in the table.
    pub event: i64,
    /// Its event; `None` where it is gone.
    pub stored: Option<StoredEvent>,
}

/// What was learnt about an audit log.
#[derive(Debug, PartialEq, Eq)]
pub enum Observation {
    /// Something is wrong.
    Wrong(Finding),
    /// A chain is whole, from its first link to this head.
    Whole(Head),
}

/// Looks at every link once, chain after chain, each from its first link on.
pub struct Verification {
    signer: AuditSigner,
    /// What is known of the chains' pasts: by handle in lower case and position.
    heads: HashMap<String, BTreeMap<i64, Vec<[u8; 32]>>>,
    /// Which nonces were seen: by their first halves, a bit for each second half.
    nonces: HashMap<[u8; 8], Vec<u64>>,
    current: Option<Chain>,
    /// How many chains and links were seen.
    pub seen: (u64, u64),
    /// How many events are older than MACs.
    pub unsigned: u64,
}

/// The chain that is looked at.
struct Chain {
    organization: OrganizationId,
    head: Head,
    /// Up to which position events may lack a MAC.
    unsigned_until: i64,
    /// Whether that can not be told for want of a pepper.
    lacks_pepper: Option<String>,
    is_whole: bool,
    /// Faults that go on from one position to the next.
    run: Option<Run>,
}

/// From, to, and what is wrong with all of them.
struct Run(i64, i64, RunFault);

#[derive(PartialEq, Eq)]
enum RunFault {
    Moved(i64),
    NoPepper(String),
}

impl Verification {
    /// One that also compares what it sees to these heads.
    #[must_use]
    pub fn against(signer: AuditSigner, given: impl IntoIterator<Item = Head>) -> Self {
        let mut heads = HashMap::<_, BTreeMap<_, Vec<_>>>::new();
        for Head { organization, position, digest } in given {
            let of_one = heads.entry(organization.to_ascii_lowercase()).or_default();
            of_one.entry(position).or_default().push(digest);
        }
        let (nonces, current, seen) = (HashMap::new(), None, (0, 0));
        Self { signer, heads, nonces, current, seen, unsigned: 0 }
    }

    /// The link that was seen last: whose it is, and its position.
    #[must_use]
    pub fn last(&self) -> (OrganizationId, i64) {
        let last = self.current.as_ref();
        last.map_or((OrganizationId(Uuid::nil()), 0), |chain| {
            (chain.organization, chain.head.position)
        })
    }

    /// Looks at the next link.
    pub fn see(&mut self, link: &Link) -> Vec<Observation> {
        let mut observed = Vec::new();
        if self.current.as_ref().is_none_or(|chain| chain.organization != link.organization) {
            observed.extend(self.end_chain());
            observed.extend(self.begin_chain(link));
        }
        self.seen.1 += 1;
        let Some(mut chain) = self.current.take() else { return observed };
        let faults = self.faults(&mut chain, link);
        chain.is_whole &= faults.is_empty() && chain.run.is_none();
        observed.extend(faults.into_iter().map(|fault| wrong(&link.handle, fault)));
        (chain.head.position, chain.head.digest) = (link.position, link.digest);
        self.current = Some(chain);
        observed
    }

    fn begin_chain(&mut self, link: &Link) -> Option<Observation> {
        self.seen.0 += 1;
        let (mut unsigned_until, mut lacks_pepper, mut fault) = (0, None, None);
        if let Some(head) = &link.head {
            match self.signer.check_head(link.organization, head) {
                Proof::Good => {
                    unsigned_until = head.unsigned_until;
                    let known = self.heads.entry(link.handle.to_ascii_lowercase()).or_default();
                    known.entry(head.position).or_default().push(head.digest);
                }
                Proof::Wrong => fault = Some(Fault::ForgedHead),
                Proof::NoPepper(pepper) => {
                    unsigned_until = head.unsigned_until;
                    lacks_pepper = (unsigned_until > 0).then(|| pepper.clone());
                    fault = Some(Fault::NoPepperOfHead(pepper));
                }
            }
        }
        let organization = link.organization;
        let head = Head { organization: link.handle.clone(), position: 0, digest: [0; 32] };
        let (is_whole, run) = (fault.is_none(), None);
        let chain = Chain { organization, head, unsigned_until, lacks_pepper, is_whole, run };
        self.current = Some(chain);
        fault.map(|fault| wrong(&link.handle, fault))
    }

    /// What is wrong with a link, and what it ends of what was wrong before.
    fn faults(&mut self, chain: &mut Chain, link: &Link) -> Vec<Fault> {
        let (position, before) = (link.position, chain.head.position);
        let mut faults = Vec::new();
        if position > before + 1 {
            faults.push(Fault::Missing(before + 1, position - 1));
        }
        let wrong = match &link.stored {
            None => Some(Err(Fault::NoEvent(position, link.event))),
            Some(event) => self.fault_of(chain, link, event),
        };
        let run = match wrong {
            Some(Ok(run)) => Some(run),
            Some(Err(fault)) => {
                faults.push(fault);
                None
            }
            None => None,
        };
        faults.splice(0..0, chain.go_on(position, run));
        let known = self.heads.get_mut(&link.handle.to_ascii_lowercase());
        let known = known.and_then(|heads| heads.remove(&position)).unwrap_or_default();
        if known.iter().any(|known| *known != link.digest) {
            faults.push(Fault::Rewritten(position));
        }
        faults
    }

    /// What is wrong with an event: the first of what can be, for one is enough.
    fn fault_of(
        &mut self,
        chain: &Chain,
        link: &Link,
        event: &StoredEvent,
    ) -> Option<Result<RunFault, Fault>> {
        let (position, row) = (link.position, link.event);
        let before = (position > 1).then_some(chain.head.digest);
        // Behind a gap nothing is known of what a link was made from.
        let is_next = position == chain.head.position + 1;
        let fits = !is_next || digest(before, position, event) == link.digest;
        if !fits || event.organization != link.organization {
            return Some(Err(Fault::Changed(position, row)));
        }
        let Some((nonce, pepper, _)) = &event.seal else {
            return self.unsigned_fault(chain, position, row);
        };
        match self.signer.check_event(event) {
            Proof::NoPepper(pepper) => return Some(Ok(RunFault::NoPepper(pepper))),
            Proof::Wrong => return Some(Err(Fault::Forged(position, row))),
            Proof::Good => {}
        }
        if !self.is_new(*nonce) {
            return Some(Err(Fault::Copied(position, row)));
        }
        let seal = link
            .seal
            .map(|(nonce, seal)| self.signer.check_link(pepper, nonce, &link.digest, &seal));
        (seal != Some(Proof::Good)).then_some(Ok(RunFault::Moved(row)))
    }

    fn unsigned_fault(
        &mut self,
        chain: &Chain,
        position: i64,
        row: i64,
    ) -> Option<Result<RunFault, Fault>> {
        if position > chain.unsigned_until {
            return Some(Err(Fault::Unsigned(position, row)));
        }
        if let Some(pepper) = &chain.lacks_pepper {
            return Some(Ok(RunFault::NoPepper(pepper.clone())));
        }
        self.unsigned += 1;
        None
    }

    /// Whether an event with this nonce, whose MAC is good, was not seen before.
    fn is_new(&mut self, nonce: Uuid) -> bool {
        let (process, number) = nonce.as_u64_pair();
        let bits = self.nonces.entry(process.to_be_bytes()).or_default();
        let Ok(at) = usize::try_from(number / 64) else { return true };
        if bits.len() <= at {
            bits.resize(at + 1, 0);
        }
        let bit = 1 << (number % 64);
        let is_new = bits[at] & bit == 0;
        bits[at] |= bit;
        is_new
    }

    /// Ends the last chain, when all were seen. `without_chain` names organizations whose head was
    /// published, and that have no chain.
    pub fn finish(&mut self, without_chain: Vec<String>) -> Vec<Observation> {
        let mut observed = self.end_chain();
        let mut unseen: Vec<_> = self.heads.drain().map(|(organization, _)| organization).collect();
        unseen.extend(
            without_chain.into_iter().map(|organization| organization.to_ascii_lowercase()),
        );
        unseen.sort_unstable();
        unseen.dedup();
        observed.extend(unseen.iter().map(|organization| wrong(organization, Fault::NoChain)));
        observed
    }

    fn end_chain(&mut self) -> Vec<Observation> {
        let Some(mut chain) = self.current.take() else { return Vec::new() };
        let mut faults = chain.go_on(0, None);
        let Chain { head, is_whole, .. } = chain;
        let known = self.heads.remove(&head.organization.to_ascii_lowercase()).unwrap_or_default();
        if let Some((known, _)) =
            known.last_key_value().filter(|(known, _)| **known > head.position)
        {
            faults.push(Fault::Cut(head.position, *known));
        }
        if faults.is_empty() && is_whole {
            return vec![Observation::Whole(head)];
        }
        faults.into_iter().map(|fault| wrong(&head.organization, fault)).collect()
    }
}

impl Chain {
    /// Goes on with the run of faults, where this one is of the same kind and next to it; else ends
    /// it, and begins another.
    fn go_on(&mut self, position: i64, fault: Option<RunFault>) -> Vec<Fault> {
        if let (Some(Run(_, to, running)), Some(fault)) = (&mut self.run, &fault)
            && *to + 1 == position
            && running.is_like(fault)
        {
            *to = position;
            return Vec::new();
        }
        let ended = self.run.take().map(|Run(from, to, fault)| match fault {
            RunFault::Moved(event) if from == to => Fault::Moved(from, event),
            RunFault::Moved(_) => Fault::AllMoved(from, to),
            RunFault::NoPepper(pepper) => Fault::NoPepper(from, to, pepper),
        });
        self.run = fault.map(|fault| Run(position, position, fault));
        ended.into_iter().collect()
    }
}

impl RunFault {
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Moved(_), Self::Moved(_)) => true,
            (one, other) => one == other,
        }
    }
}

fn wrong(organization: &str, fault: Fault) -> Observation {
    Observation::Wrong(Finding { organization: organization.to_owned(), fault })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn a_head_is_found_in_either_log_and_in_a_list() {
        let head = format!("Ac-me_1:42:{DIGEST}");
        let text = format!("2036-05-08T09:56:42Z  INFO tenantry: audit head {head}");
        let json = format!(r#"{{"level":"INFO","message":"audit head {head}","target":"x"}}"#);
        for line in [&text, &json, &head, &format!("audit head {head}\n")] {
            let found = Head::find(line).unwrap().unwrap();
            assert_eq!(found.to_string(), format!("audit head {head}"));
        }
        assert_eq!(Head::find(r#"{"message":"answered"}"#), Ok(None));
    }

    #[test]
    fn a_mark_without_a_head_is_not_passed_over() {
        let short = format!("audit head acme:42:{}", &DIGEST[1..]);
        for line in [&short, "audit head acme", "audit head :1:x", "audit head acme:0:00"] {
            assert!(Head::find(line).is_err(), "{line}");
        }
        assert!(Head::parse(&format!("ac me:1:{DIGEST}")).is_err());
    }
}
