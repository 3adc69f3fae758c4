//! The steps' own `exchange`, over a stream in memory.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

/// A client in memory: what it sends arrives in these pieces, then it closes its side.
#[derive(Debug, Default)]
pub struct Memory {
    /// What is still to be read, a piece at a time.
    pub pieces: VecDeque<Vec<u8>>,
    /// How many bytes have been read.
    pub read: usize,
    /// What has been written.
    pub written: Vec<u8>,
}

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(mut piece) = self.pieces.pop_front() else { return Ok(0) };
        let size = piece.len().min(buffer.len());
        buffer[..size].copy_from_slice(&piece[..size]);
        let rest = piece.split_off(size);
        if !rest.is_empty() {
            self.pieces.push_front(rest);
        }
        self.read += size;
        Ok(size)
    }
}

impl Write for Memory {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.written.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A step's `exchange`, without what it returns for the log.
pub type Exchange = fn(&mut Memory);

/// The conversation of each step from 02 on, by the step's name.
pub const EXCHANGES: [(&str, Exchange); 4] = [
    ("02-parse-request-line", |memory| drop(step_02::exchange(memory))),
    ("03-headers", |memory| drop(step_03::exchange(memory))),
    ("04-status-codes", |memory| drop(step_04::exchange(memory))),
    ("05-thread-per-connection", |memory| drop(step_05::exchange(memory))),
];

#[allow(dead_code)]
#[path = "../../../steps/02-parse-request-line/src/main.rs"]
mod step_02;
#[allow(dead_code)]
#[path = "../../../steps/03-headers/src/main.rs"]
mod step_03;
#[allow(dead_code)]
#[path = "../../../steps/04-status-codes/src/main.rs"]
mod step_04;
#[allow(dead_code)]
#[path = "../../../steps/05-thread-per-connection/src/main.rs"]
mod step_05;
