//! The integration tests: one binary, on a real Postgres that needs no preparation.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by a panic"
)]

mod account;
mod audit_chain;
mod audit_retention;
mod audit_seal;
mod backup;
mod batch_lookup;
mod benchmark;
mod callers;
mod clients;
mod config;
mod connection_poolers;
mod connection_shares;
mod conventions;
mod cookies;
mod counted_requests;
mod cross_site;
mod database_roles;
mod database_start;
mod decisions;
mod deploy;
mod doctor;
mod error_messages;
mod families;
mod forwarded_addresses;
mod guards;
mod idempotency;
mod import_cycles;
mod invalid_input;
mod isolation;
mod key_invites;
mod key_restrictions;
mod leaks;
mod listener;
mod load_shedding;
mod lookup_cache;
mod mail_rate_limits;
mod middleware;
mod null_fields;
mod oauth;
mod onboarding;
mod openapi;
mod operator;
mod organization;
mod origins;
mod outbound;
mod overload;
mod password_rate_limits;
mod plan_limits;
mod postgres;
mod process;
mod public_documents;
mod published_examples;
mod query_parameters;
mod quotas;
mod rate_limits;
mod readiness;
mod replayed_responses;
mod retention;
mod reverse_proxies;
mod row_level_security;
mod schema;
mod secrets;
mod shared_rate_limits;
mod slow_database;
mod sso;
mod stripe;
mod support;
mod telemetry;
mod unstorable_text;
mod upgrades;
mod user;
mod verification;
