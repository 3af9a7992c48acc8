//! The onboarding family: every status of each of its routes.

mod keys;
mod me;
mod signup;
mod tokens;
mod usage;
