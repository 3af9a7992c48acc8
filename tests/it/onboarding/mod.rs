//! The onboarding family: every response status of each route.

mod keys;
mod me;
mod signup;
mod tokens;
mod usage;
