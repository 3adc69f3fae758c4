//! The steps' own `exchange`, compiled to WebAssembly for the pages of the book.
//!
//! A page cannot wait in a `read`. So each time the client does something, the conversation is
//! held anew from its beginning, with all that the client has done so far. A `read` for which
//! there is nothing yet fails, and what happens after it has not happened: the server waits.
//! Nothing else is different, so the steps need not know.

use anyhow::Result;
use colored::ColoredString;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What comes after all that the client has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum End {
    /// Nothing yet.
    #[default]
    Open,
    /// The client has closed its side.
    Closed,
    /// The client has reset the connection.
    Reset,
    /// Nothing, until the time is up that a step gives: from step 05 on.
    TimedOut,
}

/// After how many reads or writes the client breaks off, so that no server can keep a page.
const MAX_CALLS: usize = 10_000;

/// A client, and what it hears.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// What it sends, in the pieces in which it arrives.
    pub pieces: VecDeque<Vec<u8>>,
    /// What comes after that.
    pub end: End,
    /// What has been answered.
    pub answer: Vec<u8>,
    /// How much had been answered when the server began to wait, if it waits.
    pub waits: Option<usize>,
    /// How often the server has read or written.
    pub calls: usize,
}

impl Client {
    fn count(&mut self) -> io::Result<()> {
        self.calls += 1;
        if self.calls > MAX_CALLS {
            Err(ErrorKind::ConnectionReset.into())
        } else {
            Ok(())
        }
    }
}

impl Read for Client {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.count()?;
        let Some(mut piece) = self.pieces.pop_front() else {
            return match self.end {
                End::Open => {
                    self.waits.get_or_insert(self.answer.len());
                    Err(io::Error::other("the client has said nothing yet"))
                }
                End::Closed => Ok(0),
                End::Reset => Err(ErrorKind::ConnectionReset.into()),
                End::TimedOut => Err(ErrorKind::TimedOut.into()),
            };
        };
        let size = piece.len().min(buffer.len());
        buffer[..size].copy_from_slice(&piece[..size]);
        let rest = piece.split_off(size);
        if !rest.is_empty() {
            self.pieces.push_front(rest);
        }
        Ok(size)
    }
}

impl Write for Client {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.count()?;
        self.answer.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a conversation stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// What the client has received.
    pub answer: Vec<u8>,
    /// What the log says, or nothing while the server waits.
    pub log: Option<Result<String, String>>,
    /// How much of what the client has sent the server has not read.
    pub unread: usize,
}

/// Holds the conversation of a step, which counts from 1.
pub fn hold(step: usize, mut client: Client) -> Heard {
    let result = EXCHANGES[step - 1](&mut client);
    let mut heard = Heard { answer: client.answer, ..Heard::default() };
    if let Some(size) = client.waits {
        heard.answer.truncate(size);
        return heard;
    }
    heard.unread = client.pieces.iter().map(Vec::len).sum();
    heard.log = Some(match result {
        Ok(line) => Ok(line.to_string()), // Nobody has asked for colours here.
        Err(error) => Err(format!("{error:#}")),
    });
    heard
}

/// A step's `exchange`, without what it says of the connection.
type Exchange = fn(&mut Client) -> Result<ColoredString>;

/// All steps, in order.
pub const EXCHANGES: [Exchange; 5] = [
    |client| step_01::exchange(client),
    |client| step_02::exchange(client),
    |client| step_03::exchange(client),
    |client| Ok(step_04::exchange(client)?.0),
    |client| Ok(step_05::exchange(client)?.0),
];

#[allow(dead_code)]
#[path = "../../../steps/01-raw-socket/src/main.rs"]
mod step_01;
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

/// The client of the page, and what it has heard last. Bytes go in and out one at a time, so
/// that no pointer does.
static PAGE: Mutex<(Client, Heard)> = Mutex::new((
    Client {
        pieces: VecDeque::new(),
        end: End::Open,
        answer: Vec::new(),
        waits: None,
        calls: 0,
    },
    Heard { answer: Vec::new(), log: None, unread: 0 },
));

fn page() -> MutexGuard<'static, (Client, Heard)> {
    PAGE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A new client connects.
#[unsafe(no_mangle)]
pub extern "C" fn client_connects() {
    *page() = Default::default();
}

/// What the client sends from here on arrives in a piece of its own.
#[unsafe(no_mangle)]
pub extern "C" fn client_begins_piece() {
    page().0.pieces.push_back(Vec::new());
}

/// The client sends a byte.
#[unsafe(no_mangle)]
pub extern "C" fn client_sends(byte: u8) {
    if let Some(piece) = page().0.pieces.back_mut() {
        piece.push(byte);
    }
}

/// Holds the conversation with a step, from 1. The client's side then is: 0, open; 1, closed; 2,
/// reset; 3, silent for longer than the step waits. Returns how it stands: 0, the server waits; 1,
/// it has closed; 2, it has closed, and what it logs is an error.
#[unsafe(no_mangle)]
pub extern "C" fn server_holds(step: usize, end: u32) -> u32 {
    let mut page = page();
    let mut client = page.0.clone();
    client.pieces.retain(|piece| !piece.is_empty());
    client.end = match end {
        0 => End::Open,
        1 => End::Closed,
        2 => End::Reset,
        _ => End::TimedOut,
    };
    page.1 = hold(step, client);
    match page.1.log {
        None => 0,
        Some(Ok(_)) => 1,
        Some(Err(_)) => 2,
    }
}

/// A byte of what has been answered, or -1 after the last.
#[unsafe(no_mangle)]
pub extern "C" fn answered(index: usize) -> i32 {
    page().1.answer.get(index).map_or(-1, |byte| i32::from(*byte))
}

/// A byte of what is logged, or -1 after the last.
#[unsafe(no_mangle)]
pub extern "C" fn logged(index: usize) -> i32 {
    let page = page();
    let line = page.1.log.as_ref().map_or("", |line| match line {
        Ok(line) | Err(line) => line,
    });
    line.as_bytes().get(index).map_or(-1, |byte| i32::from(*byte))
}

/// How many bytes that were sent the server had not read when it closed.
#[unsafe(no_mangle)]
pub extern "C" fn unread() -> usize {
    page().1.unread
}
