//! The operations: what happens, whole or not at all.
//!
//! Each opens a transaction, writes its audit row in it and commits; whoever may do it was
//! decided by a guard, and is asked again here where a credential is made. What is only read is
//! read by the handlers themselves.

pub mod key_sessions;
pub mod keys;
pub mod signup;
