//! Plays a session to a server that is not ours, and keeps what comes: so that one conversation
//! can be judged for several steps, whose clients do the same and expect different answers.

use crate::answer::{Answer, is_complete};
use crate::judge::Fault;
use crate::replay::{Client, End, SILENCE, Typing, group_size};
use crate::session::{Event, Line, render};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The most that an answer may have, in bytes. Ours have a few hundred.
pub(crate) const MAX_ANSWER: usize = 1_000_000;
/// How long a server may take to answer 408, which it does when it has lost its patience.
const TIMEOUT_PATIENCE: Duration = Duration::from_secs(8);
/// How long to wait for the close, or for more, after an answer that says how long it is.
const AFTER: Duration = Duration::from_millis(50);
/// How long to wait for content that an answer to HEAD must not have.
const BARE: Duration = Duration::from_millis(100);

/// What a client has heard, from when it began to listen until it went on.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub(crate) came: Vec<u8>,
    pub(crate) end: Option<End>,
    /// Whether the connection was reset.
    pub(crate) is_cut: bool,
    /// Whether nothing came behind the head.
    pub(crate) is_bare: bool,
    /// How long it took until something came.
    pub took: Option<Duration>,
    /// How long the client was willing to wait.
    pub(crate) patience: Duration,
}

/// What has come in a conversation.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// For each time that a client listens, in order. It breaks off where no step goes on.
    pub heard: Vec<Heard>,
    /// Why there was no connection.
    pub(crate) refused: Option<Fault>,
    /// What came to the same request with GET in place of HEAD.
    pub(crate) twin: Option<Vec<u8>>,
}

impl Heard {
    /// Whether what came has this field.
    pub fn has_field(&self, name: &str) -> bool {
        Answer::parse(&self.came).is_ok_and(|answer| answer.field(name).is_some())
    }
}

impl Recording {
    /// Whether a client has waited for nothing.
    pub fn is_late(&self) -> bool {
        let waited = |heard: &Heard| heard.end.is_none() && heard.took.is_none();
        self.refused.as_ref().is_some_and(|fault| fault.is_late)
            || self.heard.last().is_some_and(waited)
    }

    /// Whether the connection broke off before anything came.
    pub fn breaks_off(&self) -> bool {
        let cut = |heard: &Heard| heard.end.is_some() && heard.came.is_empty();
        self.refused.is_some() || self.heard.last().is_some_and(cut)
    }

    /// How long the slowest answer took to begin.
    pub fn slowest(&self) -> Option<Duration> {
        self.heard.iter().filter_map(|heard| heard.took).max()
    }
}

/// What the clients do in a conversation: it is the same for all steps that it can be judged for.
pub fn script(lines: &[Line]) -> String {
    let lines = acts(lines);
    let mut text = String::new();
    let mut at = 0;
    while at < lines.len() {
        let size = group_size(&lines[at..]);
        let group = &lines[at..at + size];
        match group[0].event {
            Event::Receive(_) | Event::MayBeLost | Event::ServerClose => {
                let how = if is_long(group) { "long" } else { "on" };
                text += &format!("{}* listens {how}\n", group[0].client);
            }
            _ => text += &render(group),
        }
        at += size;
    }
    text
}

/// Whether a server has to lose its patience in it.
pub fn takes_long(lines: &[Line]) -> bool {
    let lines = acts(lines);
    let mut at = 0;
    while at < lines.len() {
        let size = group_size(&lines[at..]);
        if is_long(&lines[at..at + size]) {
            return true;
        }
        at += size;
    }
    false
}

/// Whether several clients take part, or one waits: such a conversation is played alone.
pub fn is_intimate(lines: &[Line]) -> bool {
    lines.iter().any(|line| !line.client.is_empty() || line.event == Event::Silence)
}

/// The lines that are no remarks for the judge.
pub(crate) fn acts(lines: &[Line]) -> Vec<Line> {
    let is_act = |line: &&Line| !matches!(line.event, Event::Matters(_));
    lines.iter().filter(is_act).cloned().collect()
}

/// The bytes of an expected answer.
pub(crate) fn expected(group: &[Line]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in group {
        if let Event::Receive(pattern) = &line.event {
            bytes.extend(pattern.iter().map(|byte| byte.unwrap_or(b'*')));
        }
    }
    bytes
}

fn is_long(group: &[Line]) -> bool {
    expected(group).starts_with(b"HTTP/1.1 408 ")
}

/// Plays a conversation. `patience` is how long the server may take for an answer.
pub fn listen(address: SocketAddr, lines: &[Line], patience: Duration) -> Recording {
    let lines = acts(lines);
    let mut recording = Recording::default();
    let mut clients = HashMap::new();
    let mut at = 0;
    while at < lines.len() {
        let name = &lines[at].client;
        let client = match clients.entry(name) {
            Entry::Occupied(client) => client.into_mut(),
            Entry::Vacant(place) => match Client::connect(address, patience) {
                Ok(client) => {
                    let stream = client.stream.as_ref();
                    stream.map(|stream| stream.set_write_timeout(Some(patience)));
                    place.insert(client)
                }
                Err(error) => {
                    let is_late = error.kind() == ErrorKind::TimedOut;
                    let what = match is_late {
                        true => "It accepts no connection",
                        false => "Nothing listens there",
                    };
                    let fault = Fault::new(format!("{what}: {error}."), "", "");
                    let fault = Fault { is_late, is_unreachable: !is_late, ..fault };
                    recording.refused = Some(fault);
                    return recording;
                }
            },
        };
        let size = group_size(&lines[at..]);
        let group = &lines[at..at + size];
        match &group[0].event {
            Event::Send(_) => client.send(group, Typing::AtOnce),
            Event::Close | Event::HalfClose | Event::Reset => {
                client.leave(&group[0].event);
            }
            Event::Silence => {
                let silence = SILENCE.min(patience / 3);
                let heard = hear(client, b"", silence, true);
                let is_broken = !heard.came.is_empty() || heard.end.is_some();
                recording.heard.push(heard);
                // Who comes later need not wait in every server, and then has the answer.
                if is_broken && *name == lines[0].client {
                    return recording;
                }
                let heard = recording.heard.last();
                client.came = heard.map(|heard| heard.came.clone()).unwrap_or_default();
            }
            _ => {
                let long = if is_long(group) { TIMEOUT_PATIENCE } else { patience };
                let heard = hear(client, &sent(&lines[..at], name), long, false);
                recording.heard.push(heard);
                if recording.is_late() {
                    return recording;
                }
            }
        }
        at += size;
    }
    drop(clients); // Who serves one after the other has to be done with this one.
    let asks_for_head = |line: &Line| matches!(&line.event, Event::Send(bytes) if bytes.starts_with(b"HEAD "));
    if let Some(first) = lines.first().filter(|line| asks_for_head(line))
        && !is_intimate(&lines)
        && let Event::Send(bytes) = &first.event
    {
        let request = [b"GET ", &bytes[5..]].concat();
        let first = Line { event: Event::Send(request), ..first.clone() };
        let lines = [&[first], &lines[1..]].concat();
        let twin = listen(address, &lines, patience);
        recording.twin = twin.heard.into_iter().next().map(|heard| heard.came);
    }
    recording
}

/// What a client has sent.
pub(crate) fn sent(lines: &[Line], client: &str) -> Vec<u8> {
    let own = lines.iter().filter(|line| line.client == client);
    own.flat_map(|line| match &line.event {
        Event::Send(bytes) => bytes.as_slice(),
        _ => &[],
    })
    .copied()
    .collect()
}

/// Hears what comes: an answer to its end, or whatever breaks the silence.
fn hear(client: &mut Client, sent: &[u8], patience: Duration, is_silence: bool) -> Heard {
    let start = Instant::now();
    let deadline = start + patience;
    let asks_for_head = sent.trim_ascii_start().starts_with(b"HEAD ");
    let asks_twice = sent.windows(11).filter(|part| part == b" HTTP/1.1\r\n").count() > 1;
    let mut heard = Heard { patience, ..Heard::default() };
    if !client.came.is_empty() {
        heard.took = Some(Duration::ZERO);
    }
    while client.end.is_none() && !is_complete(&client.came, heard.is_bare) {
        if is_silence && !client.came.is_empty() {
            break;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !client.wait(left) {
            break;
        }
        heard.took.get_or_insert_with(|| start.elapsed());
        if asks_for_head && is_complete(&client.came, true) {
            let is_bare = |client: &Client| {
                Answer::parse(&client.came).is_ok_and(|answer| answer.content.is_empty())
            };
            heard.is_bare = is_bare(client) && !client.wait(BARE) && is_bare(client);
        }
        if client.came.len() > MAX_ANSWER {
            break;
        }
    }
    let says_close = Answer::parse(&client.came).is_ok_and(|answer| answer.says_close());
    if client.end.is_none() && is_complete(&client.came, heard.is_bare) && !is_silence {
        // Who says that it closes does so, and who does not has the next answer to give.
        let size = client.came.len();
        if says_close {
            while client.wait(patience.min(SILENCE)) && client.came.len() < MAX_ANSWER {}
        } else {
            client.wait(AFTER);
            if asks_twice && client.came.len() == size {
                client.wait(patience);
            }
        }
    }
    heard.came = std::mem::take(&mut client.came);
    heard.end = client.end;
    heard.is_cut = client.is_cut();
    heard
}
