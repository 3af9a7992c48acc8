//! The `user` family: `/api/auth/…`, `/api/user/me`, `/api/user/organizations`.

mod account;
mod mail;
mod passwords;
mod personal_tokens;
mod sessions;
mod sign_up;
mod verification;
