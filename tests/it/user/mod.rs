//! The `user` family: `/api/auth/…`, `/api/user/me`, `/api/user/organizations`.

mod account;
mod invites;
mod mail;
mod members;
mod organizations;
mod passwords;
mod personal_tokens;
mod sessions;
mod sign_up;
mod verification;
