//! Sessions, and how to replay them against the steps.
//!
//! A session is a conversation over TCP in a text file of `tests/sessions`; `session` says
//! how one is written. `server` runs a step, and `replay` plays a session to it and compares
//! to the byte. For servers that are not ours, `judge` plays it and compares what matters,
//! `subject` starts and stops them, and `guide` knows where the book explains it. `exercise`
//! reads the exercises of `tests/exercises`.

pub mod exercise;
pub mod guide;
pub mod judge;
pub mod replay;
pub mod server;
pub mod session;
pub mod subject;
