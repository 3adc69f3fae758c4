//! Sessions, and how to replay them against the steps.
//!
//! A session is a conversation over TCP in a text file of `tests/sessions`; `session` says
//! how one is written. `server` runs a step, and `replay` plays a session to it and compares
//! to the byte. `exercise` reads the exercises of `tests/exercises`.

pub mod exercise;
pub mod replay;
#[cfg(unix)]
pub mod server;
pub mod session;
