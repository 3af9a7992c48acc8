//! The onboarding family: every status that each of its routes can give.

mod keys;
mod me;
mod signup;
mod tokens;
mod usage;
