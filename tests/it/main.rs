//! The integration tests: one binary, on a real Postgres that needs no preparation.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can not go on says so by a panic"
)]

mod account;
mod audit_chain;
mod audit_retention;
mod audit_seal;
mod backup;
mod bad_input;
mod benchmark;
mod boundary;
mod browsers;
mod callers;
mod clients;
mod config;
mod containment;
mod cookies;
mod counted;
mod database_roles;
mod database_start;
mod deploy;
mod dialects;
mod doctor;
mod forwarded;
mod guards;
mod idempotency;
mod invitations_of_keys;
mod isolation;
mod limits;
mod limits_of_mail;
mod limits_of_passwords;
mod limits_shared;
mod listener;
mod lookups;
mod null_fields;
mod onboarding;
mod openapi;
mod operator;
mod organization;
mod origins;
mod plan_limits;
mod poolers;
mod postgres;
mod process;
mod proxies;
mod public_documents;
mod query_parameters;
mod quotas;
mod readiness;
mod refusals;
mod replays;
mod retention;
mod schema;
mod secrets;
mod seeds;
mod shares;
mod shedding;
mod slow_link;
mod staying_up;
mod stripe;
mod support;
mod telemetry;
mod tidy;
mod unstorable_text;
mod upgrades;
mod user;
mod walls;
