//! The parts that handle every request and every response: the request context, the middleware,
//! load shedding, rate limits, CORS and idempotency.

pub mod context;
pub mod cors;
pub mod host;
pub mod idempotency;
pub mod middleware;
pub mod permits;
pub mod rate_limits;
pub mod rejection;
pub mod shedding;
mod trace_context;
pub mod trusted_origin;
