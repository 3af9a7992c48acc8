//! The permits that a request has while the server works on it.

use std::sync::{Mutex, PoisonError};

use crate::app::in_flight::{Cost, RequestPermit, SubjectPermit};
use crate::model::rate_limit::LimitSubject;

/// The permits of one request. They are released while it waits for its client or another server.
pub struct Permits {
    /// The cost of the request.
    pub cost: Cost,
    /// The subject whose concurrent requests are limited.
    pub subject: LimitSubject,
    current: Mutex<Option<(RequestPermit, SubjectPermit)>>,
}

impl Permits {
    /// Creates the state of a request that has these permits.
    #[must_use]
    pub fn new(cost: Cost, subject: LimitSubject, permits: (RequestPermit, SubjectPermit)) -> Self {
        Self { cost, subject, current: Mutex::new(Some(permits)) }
    }

    /// Replaces the permits that the request has; `None` releases them.
    pub fn set(&self, permits: Option<(RequestPermit, SubjectPermit)>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = permits;
    }
}
