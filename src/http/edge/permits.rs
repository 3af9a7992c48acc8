//! The permits that a request has while the server works on it.

use std::sync::{Mutex, PoisonError};

use crate::app::in_flight::{Cost, RequestPermit, SubjectPermit};
use crate::model::rate_limit::LimitSubject;

/// The permits of one request. They are given back while its body is awaited.
pub struct Permits {
    /// What the request costs.
    pub cost: Cost,
    /// Whose requests it is counted among.
    pub subject: LimitSubject,
    current: Mutex<Option<(RequestPermit, SubjectPermit)>>,
}

impl Permits {
    /// The permits that a request has now.
    #[must_use]
    pub fn new(cost: Cost, subject: LimitSubject, permits: (RequestPermit, SubjectPermit)) -> Self {
        Self { cost, subject, current: Mutex::new(Some(permits)) }
    }

    /// Replaces the permits that the request has; `None` gives them back.
    pub fn set(&self, permits: Option<(RequestPermit, SubjectPermit)>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = permits;
    }
}
