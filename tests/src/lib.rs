//! Sessions, and how to replay them against the steps.
//!
//! A session is a conversation over TCP in a text file of `tests/sessions`; `session` says
//! how one is written. `server` runs a step, and `replay` plays a session to it.

pub mod memory;
pub mod replay;
pub mod server;
pub mod session;
