//! What can be wrong with an audit log, in words for its operator.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::model::ids::event_id;

/// Something wrong with an organization's audit log.
#[derive(Debug, PartialEq, Eq)]
pub struct AuditFinding {
    /// The organization's handle.
    pub organization: String,
    /// What is wrong.
    pub fault: AuditFault,
}

/// What can be wrong with an audit log.
#[derive(Debug, PartialEq, Eq)]
pub enum AuditFault {
    /// Links are missing, from one position to another.
    Missing(i64, i64),
    /// The event of the link at a position is missing.
    MissingEvent(i64, i64),
    /// The event at a position, or its link, was changed after it was written.
    Changed(i64, i64),
    /// The event at a position has a MAC that is not of its content.
    Forged(i64, i64),
    /// The event at a position has no MAC, and is not older than MACs.
    Unsigned(i64, i64),
    /// The event at a position is there twice.
    Duplicated(i64, i64),
    /// The event at a position was written, but not there.
    Moved(i64, i64),
    /// Events from one position to another were written, but not there.
    RangeMoved(i64, i64),
    /// A link stands at a position that another has, or whose event retention removed.
    Misplaced(i64, i64),
    /// An event has no link.
    UnlinkedEvent(i64),
    /// The chain ends at a position, before that of a head.
    Truncated(i64, i64),
    /// The chain has another digest at a position than a head.
    Rewritten(i64),
    /// There is a head, and no chain.
    MissingChain,
    /// The stored head is not one that was published.
    ForgedHead,
    /// The stored time since when events are signed is later than the log's.
    SigningStartMismatch(DateTime<Utc>),
    /// The MACs from one position to another can not be checked without this pepper.
    UnknownPepper(i64, i64, String),
    /// The MAC of the stored head can not be checked without this pepper.
    UnknownHeadPepper(String),
    /// Since when events carry MACs is not what the application wrote.
    ForgedSigningStart,
    /// The MAC of since when events carry MACs can not be checked without this pepper.
    UnknownSigningStartPepper(String),
}

impl AuditFault {
    /// Whether the finding only reports that something can not be checked.
    #[must_use]
    pub const fn is_unchecked(&self) -> bool {
        matches!(
            self,
            Self::UnknownPepper(..)
                | Self::UnknownHeadPepper(_)
                | Self::UnknownSigningStartPepper(_)
        )
    }
}

impl fmt::Display for AuditFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.organization, self.fault)
    }
}

/// Writes the finding about an event's row at a position.
fn fmt_event(f: &mut fmt::Formatter<'_>, at: i64, row: i64, what: &str) -> fmt::Result {
    write!(f, "position {at}: the event {} (row {row}){what}", event_id(row))
}

impl fmt::Display for AuditFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(from, to) if from == to => {
                write!(f, "position {from} is missing: its event was removed from the chain")
            }
            Self::Missing(from, to) => {
                write!(f, "positions {from} to {to} are missing: they were removed from the chain")
            }
            Self::MissingEvent(at, row) => {
                let event = event_id(*row);
                write!(f, "position {at}: its event {event} (row {row}) is missing: it was removed")
            }
            Self::Changed(at, row) => {
                fmt_event(f, *at, *row, ", or its link, was changed or moved")
            }
            Self::Forged(at, row) => {
                let what =
                    " was changed, or not written by Tenantry: its MAC does not match its content";
                fmt_event(f, *at, *row, what)
            }
            Self::Unsigned(at, row) => {
                let what = " was added past the application, or its MAC was removed: it has none";
                fmt_event(f, *at, *row, what)
            }
            Self::Duplicated(at, row) => fmt_event(f, *at, *row, " is a copy of an earlier one"),
            Self::Moved(at, row) => {
                let what = " was not written there: it was copied or moved, or events before it \
                            were changed, removed or added";
                fmt_event(f, *at, *row, what)
            }
            Self::RangeMoved(from, to) => write!(
                f,
                "positions {from} to {to}: their events were not written there: they were moved, \
                 or events before them were changed, removed or added"
            ),
            Self::Misplaced(at, row) => {
                let what = " was added past the application: the position is another event's";
                fmt_event(f, *at, *row, what)
            }
            Self::UnlinkedEvent(row) => write!(
                f,
                "the event {} (row {row}) has no position: it was added past the chain, or its \
                 link was removed",
                event_id(*row)
            ),
            Self::Truncated(end, head) => write!(
                f,
                "the chain ends at position {end}, before the head of position {head}: its end \
                 was cut off"
            ),
            Self::Rewritten(at) => {
                write!(f, "position {at} does not match its published head: the chain was replaced")
            }
            Self::MissingChain => f.write_str(
                "a head exists, but no chain of this name: the chain was removed or renamed",
            ),
            Self::ForgedHead
            | Self::SigningStartMismatch(_)
            | Self::ForgedSigningStart
            | Self::UnknownPepper(..)
            | Self::UnknownHeadPepper(_)
            | Self::UnknownSigningStartPepper(_) => self.fmt_signature_fault(f),
        }
    }
}

impl AuditFault {
    fn fmt_signature_fault(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SigningStartMismatch(logged) => {
                let since = logged.to_rfc3339_opts(SecondsFormat::Micros, true);
                write!(f, "the log states that events are signed since {since}, and the ")?;
                f.write_str("database does not: MACs were removed, and older events may be forged")
            }
            Self::UnknownPepper(from, to, pepper) => {
                write!(f, "positions {from} to {to} can not be checked: ")?;
                write!(f, "the pepper {pepper} is not configured (KEY_PEPPERS)")
            }
            Self::UnknownHeadPepper(pepper) => {
                write!(f, "the head in audit_heads can not be checked: ")?;
                write!(f, "the pepper {pepper} is not configured (KEY_PEPPERS)")
            }
            Self::UnknownSigningStartPepper(pepper) => {
                write!(f, "since when events are signed (audit_signing) can not be checked: ")?;
                write!(f, "the pepper {pepper} is not configured (KEY_PEPPERS)")
            }
            Self::ForgedSigningStart => f.write_str(
                "since when events are signed (audit_signing) was changed: its MAC does not match \
                 its content",
            ),
            _ => f.write_str(
                "the head in audit_heads was changed: its MAC does not match its content",
            ),
        }
    }
}
