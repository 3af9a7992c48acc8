//! The `account` family.

mod api_key;
mod sign_in;
mod sign_up;
mod tokens;
