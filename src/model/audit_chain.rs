//! The seal on the trails: one chain of digests for each organization, and what is wrong with it.
//!
//! A chain finds out what was changed within it, not that its end was cut off or that all of it was
//! made anew. Its head does, where it was written down elsewhere: in the log, or by hand.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use uuid::Uuid;

use crate::model::ids::{OrganizationId, event_id};
use crate::model::{Invalid, hex};

/// What a head begins with where it stands in a longer text.
const MARK: &str = "audit head ";

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

/// One link, as the database holds it and the database's own digest finds it.
pub struct Link {
    /// Whose chain.
    pub organization: OrganizationId,
    /// The organization's handle.
    pub handle: String,
    /// Its place in the chain.
    pub position: i64,
    /// The place of its event in the table.
    pub event: i64,
    /// Its digest.
    pub digest: [u8; 32],
    /// Whether its event is there.
    pub has_event: bool,
    /// Whether its digest is that of its event and the link before it.
    pub fits: bool,
}

/// Something wrong with a trail.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// The organization's handle.
    pub organization: String,
    /// What is wrong.
    pub fault: Fault,
}

/// What can be wrong with a trail.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// Links are missing, from one position to another.
    Missing(i64, i64),
    /// The event of the link at a position is missing.
    NoEvent(i64, i64),
    /// The event at a position, or its link, is not what was written.
    Changed(i64, i64),
    /// An event has no link.
    NoLink(i64),
    /// The chain ends at a position, before that of a head.
    Cut(i64, i64),
    /// The chain has another digest at a position than a head.
    Rewritten(i64),
    /// There is a head, and no chain.
    NoChain,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.organization)?;
        let row = |event: i64| format!("{} (row {event})", event_id(event));
        match self.fault {
            Fault::Missing(from, to) if from == to => {
                write!(f, "position {from} is missing: its event was removed from the chain")
            }
            Fault::Missing(from, to) => {
                write!(f, "positions {from} to {to} are missing: they were removed from the chain")
            }
            Fault::NoEvent(at, event) => {
                write!(f, "position {at}: its event {} is missing: it was removed", row(event))
            }
            Fault::Changed(at, event) => {
                let row = row(event);
                write!(f, "position {at}: the event {row}, or its link, was changed or moved")
            }
            Fault::NoLink(event) => {
                let row = row(event);
                write!(f, "the event {row} has no position: it was added past the chain, or its ")?;
                f.write_str("link was removed")
            }
            Fault::Cut(end, head) => {
                write!(
                    f,
                    "the chain ends at position {end}, before the head of position {head}: "
                )?;
                f.write_str("its end was cut off")
            }
            Fault::Rewritten(at) => {
                write!(f, "position {at} is not what its head says: the chain was made anew")
            }
            Fault::NoChain => f.write_str(
                "there is no chain of this name, but a head: the chain was removed, or renamed",
            ),
        }
    }
}

/// What was learnt about a trail.
#[derive(Debug, PartialEq, Eq)]
pub enum Observation {
    /// Something is wrong.
    Wrong(Finding),
    /// A chain is whole, from its first link to this head.
    Whole(Head),
}

/// Looks at every link once, chain after chain, each from its first link on.
#[derive(Default)]
pub struct Verification {
    /// What is known of the chains' pasts: by handle in lower case and position.
    heads: HashMap<String, BTreeMap<i64, Vec<[u8; 32]>>>,
    current: Option<Chain>,
    /// How many chains and links were seen.
    pub seen: (u64, u64),
}

/// The chain that is looked at.
struct Chain {
    organization: OrganizationId,
    head: Head,
    is_whole: bool,
}

impl Verification {
    /// One that also compares what it sees to these heads.
    #[must_use]
    pub fn against(given: impl IntoIterator<Item = Head>) -> Self {
        let mut heads = HashMap::<_, BTreeMap<_, Vec<_>>>::new();
        for Head { organization, position, digest } in given {
            let of_one = heads.entry(organization.to_ascii_lowercase()).or_default();
            of_one.entry(position).or_default().push(digest);
        }
        Self { heads, ..Self::default() }
    }

    /// The link that was seen last: whose it is, its position and its digest.
    #[must_use]
    pub fn last(&self) -> (OrganizationId, i64, Option<[u8; 32]>) {
        let last = self.current.as_ref();
        last.map_or((OrganizationId(Uuid::nil()), 0, None), |chain| {
            (chain.organization, chain.head.position, Some(chain.head.digest))
        })
    }

    /// Looks at the next link.
    pub fn see(&mut self, link: Link) -> Vec<Observation> {
        let mut observed = Vec::new();
        if self.last().0 != link.organization || self.current.is_none() {
            observed.extend(self.end_chain());
            self.seen.0 += 1;
        }
        self.seen.1 += 1;
        let before = self.current.as_ref().map_or(0, |chain| chain.head.position);
        let Link { organization, handle, position, event, digest, .. } = link;
        let mut faults = Vec::new();
        if position > before + 1 {
            // Nothing is known of what this link was made from.
            faults.push(Fault::Missing(before + 1, position - 1));
        } else if link.has_event && !link.fits {
            faults.push(Fault::Changed(position, event));
        }
        if !link.has_event {
            faults.push(Fault::NoEvent(position, event));
        }
        let known = self.heads.get_mut(&handle.to_ascii_lowercase());
        let known = known.and_then(|heads| heads.remove(&position)).unwrap_or_default();
        if known.iter().any(|known| *known != digest) {
            faults.push(Fault::Rewritten(position));
        }
        let was_whole = self.current.as_ref().is_none_or(|chain| chain.is_whole);
        let is_whole = was_whole && faults.is_empty();
        observed.extend(faults.into_iter().map(|fault| wrong(&handle, fault)));
        let head = Head { organization: handle, position, digest };
        self.current = Some(Chain { organization, head, is_whole });
        observed
    }

    /// Ends the last chain, when all were seen.
    pub fn finish(&mut self) -> Vec<Observation> {
        let mut observed = Vec::from_iter(self.end_chain());
        let mut unseen: Vec<_> = self.heads.drain().map(|(organization, _)| organization).collect();
        unseen.sort_unstable();
        observed.extend(unseen.iter().map(|organization| wrong(organization, Fault::NoChain)));
        observed
    }

    fn end_chain(&mut self) -> Option<Observation> {
        let Chain { head, is_whole, .. } = self.current.take()?;
        let known = self.heads.remove(&head.organization.to_ascii_lowercase()).unwrap_or_default();
        match known.last_key_value() {
            Some((known, _)) if *known > head.position => {
                Some(wrong(&head.organization, Fault::Cut(head.position, *known)))
            }
            _ => is_whole.then_some(Observation::Whole(head)),
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
