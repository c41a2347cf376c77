//! The core NATS wire protocol, as bytes and nothing else: what a client sends becomes a borrowed
//! [`op::Op`], and what the server answers is appended to an outbox.
//!
//! This module knows no connection, no subscription and no permission. Which operation is allowed
//! when, and whether an error closes, is decided by the session that calls it.

pub mod emit;
pub mod op;
pub mod parse;
pub mod server_op;
