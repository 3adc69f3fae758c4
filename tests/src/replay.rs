//! Plays a session to a server, and compares to the byte.

use crate::session::{Event, Line, escape, receive, render};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long to wait for what should come: longer than any step's own deadlines.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing must come to be called silence.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

/// How much of what came is told, in bytes.
const MAX_REPORT: usize = 10_000;

/// How a client hands its bytes to TCP.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Typing {
    /// All that it sends before it listens again in one write.
    AtOnce,
    /// Each byte in a write of its own, until the server answers.
    ByteByByte,
}

/// Plays a conversation.
///
/// # Errors
/// The conversation up to the first difference, to be read by a person.
pub fn play(address: SocketAddr, lines: &[Line], typing: Typing) -> Result<(), String> {
    play_within(PATIENCE, address, lines, typing)
}

/// Plays a conversation, and waits for each answer no longer than this.
///
/// # Errors
/// As for `play`.
pub fn play_within(
    patience: Duration,
    address: SocketAddr,
    lines: &[Line],
    typing: Typing,
) -> Result<(), String> {
    let settle = |_: &mut Client, mismatch, at| Err(report(lines, at, &mismatch));
    run(patience, address, lines, typing, settle).map(|_| ())
}

/// Plays a conversation, and returns it with the answers that really came. What the clients
/// do stays as it is.
///
/// # Errors
/// When the server cannot be reached.
pub fn record(address: SocketAddr, lines: &[Line]) -> Result<Vec<Line>, String> {
    let settle = |client: &mut Client, _, _| Ok(client.whole_answer());
    run(PATIENCE, address, lines, Typing::AtOnce, settle)
}

/// What came instead of what was expected.
struct Mismatch {
    /// The line that was not met, or nothing when more came than expected.
    expected: Option<usize>,
    /// What came in its place.
    came: Vec<u8>,
    /// What happened to the connection.
    then: &'static str,
}

/// Plays the events in order. `settle` decides on a mismatch: it returns an error, or the
/// events that take the place of the expected ones.
fn run(
    patience: Duration,
    address: SocketAddr,
    lines: &[Line],
    typing: Typing,
    settle: impl Fn(&mut Client, Mismatch, usize) -> Result<Vec<Event>, String>,
) -> Result<Vec<Line>, String> {
    let mut clients = HashMap::new();
    let mut played = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        if let Event::Matters(_) = lines[at].event {
            played.push(lines[at].clone());
            at += 1;
            continue;
        }
        let name = &lines[at].client;
        let client = match clients.entry(name) {
            Entry::Occupied(client) => client.into_mut(),
            Entry::Vacant(place) => {
                let client = Client::connect(address, Duration::from_secs(5))
                    .map_err(|error| format!("cannot connect to {address}: {error}"))?;
                place.insert(client)
            }
        };
        let size = group_size(&lines[at..]);
        let group = &lines[at..at + size];
        let is_last = lines[at + size..].iter().all(|later| later.client != *name);
        let outcome = match group[0].event {
            Event::Send(_) => {
                client.send(group, typing);
                Ok(())
            }
            Event::Close | Event::HalfClose | Event::Reset => {
                client.leave(&group[0].event);
                Ok(())
            }
            Event::Silence => client.hear_nothing(),
            Event::Matters(_) => Ok(()),
            Event::Receive(_) | Event::MayBeLost | Event::ServerClose => {
                client.hear(patience, group, is_last, typing)
            }
        };
        match outcome {
            Ok(()) => played.extend_from_slice(group),
            Err(mismatch) => {
                let mut events = settle(client, mismatch, at)?;
                events
                    .extend(group.iter().map(|line| line.event.clone()).filter(is_lost));
                for event in events {
                    played.push(Line { event, ..group[0].clone() });
                }
            }
        }
        at += size;
    }
    Ok(played)
}

/// How many lines belong together: all that a client sends before it listens, or all that it
/// hears before it does something.
pub(crate) fn group_size(lines: &[Line]) -> usize {
    let kind = |line: &Line| match line.event {
        Event::Send(_) => 1,
        Event::Receive(_) => 2,
        Event::MayBeLost | Event::ServerClose => 3,
        _ => 0,
    };
    let first = kind(&lines[0]);
    let mut last = first;
    let mut size = 1;
    for line in &lines[1..] {
        let is_next = kind(line) == last || (last == 2 && kind(line) == 3);
        if line.client != lines[0].client || first == 0 || last == 3 || !is_next {
            break;
        }
        last = kind(line);
        size += 1;
    }
    size
}

/// How a connection ended, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    Closed,
    Reset,
}

/// One client's end of a connection.
pub(crate) struct Client {
    /// Nothing after the client has closed.
    pub(crate) stream: Option<TcpStream>,
    /// What came and was not expected yet.
    pub(crate) came: Vec<u8>,
    /// What came since the client last listened.
    answer: Vec<u8>,
    /// Whether anything ever came.
    is_answered: bool,
    pub(crate) end: Option<End>,
    /// Whether the server has not taken all that was sent.
    is_refused: bool,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr, time: Duration) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, time)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client {
            stream: Some(stream),
            came: Vec::new(),
            answer: Vec::new(),
            is_answered: false,
            end: None,
            is_refused: false,
        })
    }

    /// Sends, as far as the server takes it: what it did not take shows in what it answers.
    pub(crate) fn send(&mut self, group: &[Line], typing: Typing) {
        self.answer.clear();
        let mut bytes = Vec::new();
        for line in group {
            if let Event::Send(line) = &line.event {
                bytes.extend_from_slice(line);
            }
        }
        let Some(stream) = &mut self.stream else { return };
        match typing {
            Typing::AtOnce => self.is_refused |= stream.write_all(&bytes).is_err(),
            Typing::ByteByByte => {
                // Long fillings go in larger pieces, or they would take all day.
                for piece in bytes.chunks(if bytes.len() > 4096 { 1000 } else { 1 }) {
                    let _ = stream.set_nonblocking(true);
                    let is_answered = stream.peek(&mut [0]).is_ok();
                    let _ = stream.set_nonblocking(false);
                    if is_answered || stream.write_all(piece).is_err() {
                        break;
                    }
                }
            }
        }
    }

    pub(crate) fn leave(&mut self, how: &Event) {
        let Some(stream) = self.stream.take() else { return };
        match how {
            Event::HalfClose => {
                let _ = stream.shutdown(std::net::Shutdown::Write);
                self.stream = Some(stream);
            }
            Event::Reset => {
                let socket = socket2::SockRef::from(&stream);
                let _ = socket.set_linger(Some(Duration::ZERO));
            }
            _ => {}
        }
    }

    /// Whether the server has reset the connection. The first call that meets the reset hears of
    /// it, be it a read or a write.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_refused || self.end == Some(End::Reset)
    }

    /// Waits for more, and says whether any came.
    pub(crate) fn wait(&mut self, time: Duration) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let deadline = Instant::now() + time;
        let mut buffer = [0; 65536];
        while self.end.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
                return false;
            }
            match stream.read(&mut buffer) {
                Ok(0) => self.end = Some(End::Closed),
                Ok(size) => {
                    self.came.extend_from_slice(&buffer[..size]);
                    self.answer.extend_from_slice(&buffer[..size]);
                    self.is_answered = true;
                    return true;
                }
                // Also what was stopped and continued: Ctrl-Z and fg, or a paused machine.
                Err(error) if is_timeout(&error) => {}
                Err(_) => self.end = Some(End::Reset),
            }
        }
        false
    }

    fn hear_nothing(&mut self) -> Result<(), Mismatch> {
        if self.came.is_empty() && !self.wait(SILENCE) && self.end.is_none() {
            return Ok(());
        }
        Err(self.mismatch(Some(0)))
    }

    /// Hears an answer, and the close when the conversation ends with it.
    fn hear(
        &mut self,
        patience: Duration,
        group: &[Line],
        is_last: bool,
        typing: Typing,
    ) -> Result<(), Mismatch> {
        let deadline = Instant::now() + patience;
        let may_be_lost = group.iter().any(|line| line.event == Event::MayBeLost);
        for (index, line) in group.iter().enumerate() {
            let Event::Receive(pattern) = &line.event else { continue };
            loop {
                match matches(pattern, &self.came) {
                    Match::All(size) => {
                        self.came.drain(..size);
                        break;
                    }
                    Match::No => return Err(self.mismatch(Some(index))),
                    Match::SoFar => {}
                }
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() || !self.wait(left) {
                    if may_be_lost && self.end.is_some() {
                        return Ok(());
                    }
                    return Err(self.mismatch(Some(index)));
                }
            }
        }
        let closes = group.iter().position(|line| line.event == Event::ServerClose);
        if !is_last && closes.is_none() {
            return Ok(());
        }
        // A close with bytes unread is a reset: then there is no answer that it could destroy.
        let may_be_reset =
            may_be_lost || !self.is_answered || typing == Typing::ByteByByte;
        if !self.came.is_empty() || self.wait(patience) {
            return Err(self.mismatch(closes));
        }
        if self.end.is_some() && (may_be_reset || !self.is_cut()) {
            return Ok(());
        }
        Err(self.mismatch(closes))
    }

    fn mismatch(&mut self, expected: Option<usize>) -> Mismatch {
        let deadline = Instant::now() + Duration::from_secs(1);
        let is_enough = |came: &[u8]| came.len() > MAX_REPORT;
        while Instant::now() < deadline && !is_enough(&self.came) && self.wait(SILENCE) {}
        let then = match self.end {
            _ if self.is_cut() => "the connection is reset",
            _ if is_enough(&self.came) => "and more comes",
            None => "the connection stays open",
            _ => "the server closes",
        };
        let came = self.came[..self.came.len().min(MAX_REPORT)].to_vec();
        Mismatch { expected, came, then }
    }

    /// All that came since the client last sent, as events.
    fn whole_answer(&mut self) -> Vec<Event> {
        self.came.clear();
        let mut events = receive(&self.answer);
        if events.is_empty() {
            let is_open = self.end.is_none();
            events.push(if is_open { Event::Silence } else { Event::ServerClose });
        }
        events
    }
}

fn is_lost(event: &Event) -> bool {
    *event == Event::MayBeLost
}

fn is_timeout(error: &io::Error) -> bool {
    use ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

/// Whether what came is what was expected.
#[derive(Debug, PartialEq)]
enum Match {
    /// It is, with this many bytes.
    All(usize),
    /// It may become it.
    SoFar,
    No,
}

/// Compares a line of a session to what came.
fn matches(pattern: &[Option<u8>], came: &[u8]) -> Match {
    let Some(any) = pattern.iter().position(Option::is_none) else {
        let is_same = pattern.iter().zip(came).all(|(want, byte)| *want == Some(*byte));
        return match (is_same, came.len() >= pattern.len()) {
            (false, _) => Match::No,
            (true, true) => Match::All(pattern.len()),
            (true, false) => Match::SoFar,
        };
    };
    let (before, after) = (&pattern[..any], &pattern[any + 1..]);
    match matches(before, came) {
        Match::All(_) => {}
        other => return other,
    }
    let end = came.iter().position(|byte| *byte == b'\n').map_or(came.len(), |at| at + 1);
    let line = &came[any..end];
    // The shortest text that makes the rest of the line fit.
    for skip in 0..=line.len() {
        if matches(after, &line[skip..]) == Match::All(line.len() - skip) {
            return Match::All(end);
        }
    }
    if came[..end].ends_with(b"\n") { Match::No } else { Match::SoFar }
}

/// The conversation up to the line that was not met, what was expected, and what came.
fn report(lines: &[Line], at: usize, mismatch: &Mismatch) -> String {
    let mut text = String::new();
    let bad = mismatch.expected.map(|index| at + index);
    let passed = bad.unwrap_or_else(|| at + group_size(&lines[at..]));
    for line in render(&lines[..passed]).lines() {
        let _ = writeln!(text, "    {line}");
    }
    let came: Vec<String> = mismatch
        .came
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| format!("{}< {}", lines[at].client, escape(line)))
        .collect();
    let first = came.first().cloned().unwrap_or_default();
    match bad {
        Some(bad) => {
            let line = &lines[bad];
            let want = match &line.event {
                Event::Receive(bytes) => {
                    let bytes: Vec<u8> =
                        bytes.iter().map(|byte| byte.unwrap_or(b'*')).collect();
                    format!("{}< {}", line.client, escape(&bytes))
                }
                _ => render(&lines[bad..=bad]).trim_end().to_string(),
            };
            let _ = writeln!(text, "expected, by line {}:", line.number);
            let _ = writeln!(text, "    {want}");
            let same =
                want.bytes().zip(first.bytes()).take_while(|(a, b)| a == b).count();
            let _ = writeln!(text, "came:");
            for (index, line) in came.iter().take(20).enumerate() {
                let _ = writeln!(text, "    {line}");
                if index == 0 {
                    let _ = writeln!(text, "    {}^", " ".repeat(same));
                }
            }
        }
        None => {
            let _ = writeln!(text, "expected: * server closes");
            let _ = writeln!(text, "came:");
            for line in came.iter().take(20) {
                let _ = writeln!(text, "    {line}");
            }
        }
    }
    if came.len() > 20 {
        let _ = writeln!(text, "    … and {} lines more", came.len() - 20);
    }
    let _ = write!(text, "    ({})", mismatch.then);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::process::Command;
    use std::thread;

    #[test]
    fn a_wait_outlives_a_stop_of_its_process() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut client = Client::connect(listener.local_addr()?, PATIENCE)?;
        let stop = "kill -STOP $PPID; kill -CONT $PPID";
        let stopper = thread::spawn(|| Command::new("sh").args(["-c", stop]).status());
        while !stopper.is_finished() {
            assert!(!client.wait(SILENCE) && client.end.is_none());
        }
        assert!(stopper.join().is_ok_and(|status| status.is_ok_and(|it| it.success())));
        Ok(())
    }

    fn pattern(text: &str) -> Vec<Option<u8>> {
        text.bytes().map(|byte| (byte != b'*').then_some(byte)).collect()
    }

    #[test]
    fn a_value_that_differs_each_time_matches_up_to_the_end_of_its_line() {
        let date = pattern("Date: *\r\n");
        assert_eq!(matches(&date, b"Date: today\r\nrest"), Match::All(13));
        assert_eq!(matches(&date, b"Date: to"), Match::SoFar);
        assert_eq!(matches(&date, b"Date: today\n"), Match::No);
        assert_eq!(matches(&date, b"Server: x\r\n"), Match::No);
        assert_eq!(matches(&pattern("a*c\n"), b"abcbc\n"), Match::All(6));
    }
}
