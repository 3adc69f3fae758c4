//! Sessions, and how to replay them against the steps.
//!
//! A session is a conversation over TCP in a text file of `tests/sessions`; `session` says
//! how one is written. `server` runs a step, and `replay` plays a session to it and compares
//! to the byte. For servers that are not ours, `listen` plays it, `judge` compares what matters
//! in what came (`answer` takes it apart), `subject` starts and stops them, and `guide` knows
//! where the book explains it. `exercise` reads the exercises of `tests/exercises`.

mod answer;
pub mod exercise;
pub mod guide;
pub mod judge;
pub mod listen;
pub mod replay;
pub mod server;
pub mod session;
pub mod subject;
