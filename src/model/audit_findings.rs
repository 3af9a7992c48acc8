//! The findings of audit log verification, and their messages for the operator.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::model::ids::event_id;

/// A fault that was found in an organization's audit log.
#[derive(Debug, PartialEq, Eq)]
pub struct AuditFinding {
    /// The organization's handle.
    pub organization: String,
    /// The fault.
    pub fault: AuditFault,
}

/// A kind of fault in an audit log. A row is the id of an event's row.
#[derive(Debug, PartialEq, Eq)]
pub enum AuditFault {
    /// Links are missing: first position, last position.
    Missing(i64, i64),
    /// The event of a link is missing: position, row.
    MissingEvent(i64, i64),
    /// An event or its link was changed or moved after it was written: position, row.
    Changed(i64, i64),
    /// An event's MAC does not match its content: position, row.
    Forged(i64, i64),
    /// An event that was written after signing began has no MAC: position, row.
    Unsigned(i64, i64),
    /// An event is a copy of an earlier one: position, row.
    Duplicated(i64, i64),
    /// An event was not written at the position where it is now: position, row.
    Moved(i64, i64),
    /// Events were not written where they are now: first position, last position.
    RangeMoved(i64, i64),
    /// A link has the position of another link or of a pruned event: position, row.
    PositionReused(i64, i64),
    /// An event has no link: row.
    UnlinkedEvent(i64),
    /// The chain ends before a published head: last position, position of the head.
    Truncated(i64, i64),
    /// The chain's digest differs from that of a published head: position.
    Rewritten(i64),
    /// A head was published or is stored, but the chain does not exist.
    MissingChain,
    /// The MAC of the stored head does not match its content.
    ForgedHead,
    /// The stored start of signing is later than the server log states, or missing: time in the
    /// log.
    SigningStartMismatch(DateTime<Utc>),
    /// MACs cannot be checked without a pepper: first position, last position, pepper.
    UnknownPepper(i64, i64, String),
    /// The MAC of the stored head cannot be checked without this pepper.
    UnknownHeadPepper(String),
    /// The MAC of the stored start of signing does not match its content.
    ForgedSigningStart,
    /// The MAC of the stored start of signing cannot be checked without this pepper.
    UnknownSigningStartPepper(String),
}

impl AuditFault {
    /// Returns whether the fault only means that a MAC cannot be checked.
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

/// Writes the message for the event in a row at a position.
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
                let what = " has no MAC: it was not written by Tenantry, or its MAC was removed";
                fmt_event(f, *at, *row, what)
            }
            Self::Duplicated(at, row) => fmt_event(f, *at, *row, " is a copy of an earlier one"),
            Self::Moved(at, row) => {
                let what = " was not written at this position: it was copied or moved, or events \
                            before it were changed, removed or added";
                fmt_event(f, *at, *row, what)
            }
            Self::RangeMoved(from, to) => write!(
                f,
                "positions {from} to {to}: their events were not written at these positions: they \
                 were moved, or events before them were changed, removed or added"
            ),
            Self::PositionReused(at, row) => {
                let what = " was not written by Tenantry: the position belongs to another event";
                fmt_event(f, *at, *row, what)
            }
            Self::UnlinkedEvent(row) => write!(
                f,
                "the event {} (row {row}) has no position: it was inserted without a link, or its \
                 link was removed",
                event_id(*row)
            ),
            Self::Truncated(end, head) => write!(
                f,
                "the chain ends at position {end}, before the head at position {head}: its last \
                 events were removed"
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
            | Self::UnknownSigningStartPepper(_) => self.fmt_mac_fault(f),
        }
    }
}

impl AuditFault {
    fn fmt_mac_fault(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SigningStartMismatch(logged) => {
                let since = logged.to_rfc3339_opts(SecondsFormat::Micros, true);
                write!(
                    f,
                    "the server log states that signing began at {since}, but the database states \
                     a later time or none: the start of signing was changed or removed, and events \
                     from after {since} that have no MAC may be forged"
                )
            }
            Self::UnknownPepper(from, to, pepper) => {
                write!(f, "positions {from} to {to} cannot be checked: ")?;
                write!(f, "the pepper {pepper} is not configured (KEY_PEPPERS)")
            }
            Self::UnknownHeadPepper(pepper) => {
                write!(f, "the head in audit_heads cannot be checked: ")?;
                write!(f, "the pepper {pepper} is not configured (KEY_PEPPERS)")
            }
            Self::UnknownSigningStartPepper(pepper) => {
                write!(f, "the start of signing (audit_signing) cannot be checked: ")?;
                write!(f, "the pepper {pepper} is not configured (KEY_PEPPERS)")
            }
            Self::ForgedSigningStart => f.write_str(
                "the start of signing (audit_signing) was changed: its MAC does not match \
                 its content",
            ),
            _ => f.write_str(
                "the head in audit_heads was changed: its MAC does not match its content",
            ),
        }
    }
}
