//! An organization as one of its people sees it.

use chrono::{DateTime, Utc};

use crate::model::plan::Plan;
use crate::model::role::Role;

/// An organization, and the role of whoever looks at it.
#[derive(Clone, Debug)]
pub struct Organization {
    /// Its id, as callers see it.
    pub handle: String,
    /// What it is called.
    pub name: String,
    /// What it pays for.
    pub plan: Plan,
    /// The role of whoever looks.
    pub role: Role,
    /// Where its keys may be used from in a browser; nowhere in particular where empty.
    pub allowed_origins: Vec<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}
