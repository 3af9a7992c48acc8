//! Single sign-on: connections of organizations to their own identity providers.

pub mod connection;
