//! Plays a session to a server that is not ours. Where the RFCs leave a choice, it may differ:
//! in reason phrases, in fields and their order, in the wording of content, in how it says where
//! content ends. It may do better than a step that lets clients wait, or answers HEAD with
//! content. What a session marks with `* … matters` must be the same.

use crate::replay::{Client, End, SILENCE, Typing, group_size};
use crate::session::{Event, Line, escape};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The most that an answer may have, in bytes. Ours have a few hundred.
const MAX_ANSWER: usize = 1_000_000;
/// How long a server may take to answer 408, which it does when it has lost its patience.
const TIMEOUT_PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait for the close, or for more, after an answer that says how long it is.
const AFTER: Duration = Duration::from_millis(50);
/// How much a client sends whose answer a reset would destroy.
const LARGE: usize = 100_000;
/// What is expected where a step closes without a word.
const CLOSES: &str = "(the server closes, or answers 400)";
/// Why a server should not close too early.
const RESET: &str = "RFC 9112, section 9.6: a close with bytes unread is a reset, which may destroy the answer.";

/// What is wrong with an answer.
#[derive(Clone, Debug, Default)]
pub struct Fault {
    /// What is wrong, in a sentence.
    pub what: String,
    /// The line that was expected, escaped.
    pub expected: String,
    /// The line that came, escaped.
    pub came: String,
    /// How many characters these two have in common at their beginning.
    pub same: usize,
    /// The rule that this breaks whatever the session is about, or nothing.
    pub rule: &'static str,
    /// Whether the time was up.
    pub is_late: bool,
    /// Whether it is what the session marks as its point.
    pub is_point: bool,
    /// Whether no connection was to be had.
    pub is_unreachable: bool,
}

impl Fault {
    fn new(what: impl Into<String>, expected: &str, came: &str) -> Fault {
        // What is in parentheses is no text that came.
        let is_text = !expected.starts_with('(') && !came.starts_with('(');
        let pairs = expected.chars().zip(came.chars()).filter(|_| is_text);
        let same = pairs.take_while(|(a, b)| a == b).count();
        let (what, rule) = (what.into(), "");
        let (expected, came) = (expected.to_string(), came.to_string());
        Fault { what, expected, came, same, rule, ..Fault::default() }
    }

    fn rule(self, rule: &'static str) -> Fault {
        Fault { rule, ..self }
    }
}

/// Plays a conversation. `patience` is how long the server may take for an answer.
///
/// # Errors
/// The first fault. When nothing listens any more, it says so.
pub fn play(
    address: SocketAddr,
    lines: &[Line],
    patience: Duration,
) -> Result<(), Fault> {
    let mut clients = HashMap::new();
    let matters: Vec<&str> = lines
        .iter()
        .filter_map(|line| match &line.event {
            Event::Matters(what) => Some(what.as_str()),
            _ => None,
        })
        .collect();
    let lines: Vec<Line> = lines
        .iter()
        .filter(|line| !matches!(line.event, Event::Matters(_)))
        .cloned()
        .collect();
    let mut at = 0;
    while at < lines.len() {
        let client = match clients.entry(&lines[at].client) {
            Entry::Occupied(client) => client.into_mut(),
            Entry::Vacant(place) => {
                let client = Client::connect(address, patience).map_err(|error| {
                    let is_late = error.kind() == std::io::ErrorKind::TimedOut;
                    let what = if is_late {
                        "It accepts no connection"
                    } else {
                        "Nothing listens there"
                    };
                    let fault = Fault::new(format!("{what}: {error}."), "", "");
                    Fault { is_late, is_unreachable: !is_late, ..fault }
                })?;
                let stream = client.stream.as_ref();
                stream.map(|stream| stream.set_write_timeout(Some(patience)));
                place.insert(client)
            }
        };
        let size = group_size(&lines[at..]);
        let group = &lines[at..at + size];
        let name = &lines[at].client;
        // A step that serves one after the other lets the second wait. Nobody has to.
        let may_wait = *name != lines[0].client;
        let outcome = match &group[0].event {
            Event::Send(_) => {
                client.send(group, Typing::AtOnce);
                Ok(())
            }
            Event::Close | Event::HalfClose | Event::Reset => {
                client.leave(&group[0].event);
                Ok(())
            }
            Event::Silence if may_wait => Ok(()),
            Event::Silence => hear_nothing(client),
            _ => hear(client, group, &matters, patience, &sent(&lines[..at], name)),
        };
        outcome.map_err(|mut fault| {
            if !name.is_empty() {
                fault.what.insert_str(0, &format!("{name}: "));
            }
            fault
        })?;
        at += size;
    }
    Ok(())
}

/// What a client has sent.
fn sent(lines: &[Line], client: &str) -> Vec<u8> {
    let own = lines.iter().filter(|line| line.client == client);
    own.flat_map(|line| match &line.event {
        Event::Send(bytes) => bytes.as_slice(),
        _ => &[],
    })
    .copied()
    .collect()
}

/// Expects that nothing comes for a while.
fn hear_nothing(client: &mut Client) -> Result<(), Fault> {
    if client.came.is_empty() && !client.wait(SILENCE) && client.end.is_none() {
        return Ok(());
    }
    let came = first_line(&client.came);
    let what = match (client.came.is_empty(), client.end) {
        (false, _) => {
            "It answers too early: the request is not complete, or not its turn."
        }
        (true, Some(End::Reset)) => "It breaks the connection off, and should wait.",
        (true, _) => "It closes, and should wait.",
    };
    Err(Fault::new(what, "(silence)", &came))
}

/// Hears an answer to its end, and judges it.
fn hear(
    client: &mut Client,
    group: &[Line],
    matters: &[&str],
    patience: Duration,
    sent: &[u8],
) -> Result<(), Fault> {
    let asks_for_head = sent.trim_ascii_start().starts_with(b"HEAD ");
    let mut expected = Vec::new();
    for line in group {
        if let Event::Receive(bytes) = &line.event {
            expected.extend(bytes.iter().map(|byte| byte.unwrap_or(b'*')));
        }
    }
    let wanted = Answer::parse(&expected).ok();
    // Before step 04, ours answers HEAD with content. To leave it out is right in each.
    let has_content = wanted.as_ref().is_some_and(|answer| !answer.content.is_empty());
    let mut is_head = asks_for_head && !has_content;
    let is_408 = wanted.as_ref().is_some_and(|answer| answer.status == 408);
    let patience = if is_408 { TIMEOUT_PATIENCE } else { patience };
    let deadline = Instant::now() + patience;
    while client.end.is_none() && !is_complete(&client.came, is_head) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !client.wait(left) {
            break;
        }
        if asks_for_head && is_complete(&client.came, true) {
            let is_bare = |client: &Client| client.came.ends_with(b"\r\n\r\n");
            is_head |= is_bare(client) && !client.wait(SILENCE) && is_bare(client);
        }
        if client.came.len() > MAX_ANSWER {
            return Err(Fault::new(
                "It sends more than a megabyte, and goes on.",
                "",
                "",
            ));
        }
    }
    if client.end.is_none() && is_complete(&client.came, is_head) {
        client.wait(AFTER);
    }
    let may_be_lost = group.iter().any(|line| line.event == Event::MayBeLost);
    let came = std::mem::take(&mut client.came);
    let first = first_line(&came);
    let Some(wanted) = wanted else {
        // Ours closes without a word. To say what is wrong is better.
        let is_refusal =
            Answer::parse(&came).is_ok_and(|answer| answer.status / 100 == 4);
        return match client.end {
            _ if is_refusal => Ok(()),
            Some(_) if came.is_empty() => Ok(()),
            Some(_) => {
                let what = "This is no request, and it answers as if it were one.";
                Err(Fault::new(what, CLOSES, &first))
            }
            None if came.is_empty() => Err(late(patience, CLOSES, "(nothing)")),
            None => Err(late(patience, CLOSES, &first)),
        };
    };
    if may_be_lost && client.end.is_some() {
        // What has come of it must still be the beginning of the right answer.
        let is_begun = came.iter().zip(b"HTTP/1.").all(|(byte, due)| byte == due);
        return match Answer::parse(&came) {
            Ok(answer) => wanted.compare_status(&answer),
            Err(_) if is_begun => Ok(()),
            Err(fault) => Err(fault),
        };
    }
    let due = first_line(&expected);
    if came.is_empty() {
        return Err(match client.end {
            Some(End::Closed) => {
                Fault::new("It closes without an answer.", &due, "(closed)")
            }
            Some(End::Reset) => {
                let what = "It breaks the connection off, and the answer is lost.";
                Fault::new(what, &due, "(reset)").rule(RESET)
            }
            None => late(patience, &due, "(nothing)"),
        });
    }
    let mut answer = Answer::parse(&came)?;
    answer.settle(is_head)?;
    wanted.compare(&answer, matters, is_head)?;
    if client.end.is_none() && !is_complete(&came, is_head) {
        let what = "It neither says how long the content is nor closes.";
        return Err(Fault {
            is_late: true,
            ..Fault::new(what, "(the server closes)", "(the connection stays open)").rule(
                "RFC 9112, section 6.3: without a length, the content ends with the connection.",
            )
        });
    }
    // A step that reads no field lines may close over them. With large content it must not.
    if client.is_cut() && sent.len() > LARGE {
        let what = "It closes before it has read all: the connection is reset, and the answer \
                    may be lost.";
        return Err(Fault::new(what, "(the server closes)", "(the connection is reset)")
            .rule(RESET));
    }
    Ok(())
}

fn late(patience: Duration, expected: &str, came: &str) -> Fault {
    let what = match came {
        "(nothing)" => format!("No answer within {patience:?}."),
        _ => format!("The answer does not end within {patience:?}."),
    };
    Fault { is_late: true, ..Fault::new(what, expected, came) }
}

fn first_line(bytes: &[u8]) -> String {
    let end =
        bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
    escape(&bytes[..end.min(300)])
}

/// Where the head ends and the content begins.
fn head_size(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Whether an answer says where it ends, and has come so far.
fn is_complete(bytes: &[u8], is_head: bool) -> bool {
    let (Some(size), Ok(answer)) = (head_size(bytes), Answer::parse(bytes)) else {
        return false;
    };
    let content = &bytes[size..];
    match answer.length() {
        _ if is_head || answer.status == 204 => true,
        Some(Ok(length)) => content.len() >= length,
        Some(Err(_)) => true,
        None => answer.is_chunked() && unchunk(content).is_some(),
    }
}

/// The content without its chunks (RFC 9112, section 7.1), and its size with them.
fn unchunk(mut bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let all = bytes.len();
    let line = |bytes: &[u8]| bytes.windows(2).position(|two| two == b"\r\n");
    let mut content = Vec::new();
    loop {
        let end = line(bytes)?;
        let text = std::str::from_utf8(&bytes[..end]).ok()?;
        let size = text.split(';').next()?.trim_end();
        let is_hex = !size.is_empty() && size.bytes().all(|b| b.is_ascii_hexdigit());
        let size = usize::from_str_radix(size, 16).ok().filter(|_| is_hex)?;
        bytes = &bytes[end + 2..];
        if size == 0 {
            break;
        }
        content.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size..)?.strip_prefix(b"\r\n")?;
    }
    loop {
        let end = line(bytes)?; // Trailers, and the empty line.
        bytes = &bytes[end + 2..];
        if end == 0 {
            return Some((content, all - bytes.len()));
        }
    }
}

/// A response, taken apart.
#[derive(Debug)]
struct Answer {
    line: String,
    status: u16,
    fields: Vec<(String, String)>,
    content: Vec<u8>,
}

impl Answer {
    /// Takes a response apart.
    fn parse(bytes: &[u8]) -> Result<Answer, Fault> {
        let no_status_line = || {
            let what = "This is not a status line.";
            Fault::new(what, "HTTP/1.1 200 OK\\r\\n", &first_line(bytes)).rule(
                "RFC 9112, section 4: a status line is the version, a space, three digits, a \
                 space, and a phrase.",
            )
        };
        if !bytes.starts_with(b"HTTP/") {
            return Err(no_status_line());
        }
        let size = head_size(bytes).unwrap_or(bytes.len());
        let (head, content) = bytes.split_at(size);
        let mut lines = Vec::new();
        for line in head.split_inclusive(|&byte| byte == b'\n') {
            let text = escape(line);
            let Some(line) = line.strip_suffix(b"\r\n") else {
                let what = if line.ends_with(b"\n") {
                    "A line of the head ends with LF alone."
                } else {
                    "The head of the answer does not end."
                };
                let due = format!("{}\\r\\n", text.trim_end_matches("\\n"));
                return Err(Fault::new(what, &due, &text).rule(
                    "RFC 9112, section 2.1: every line of the head ends with CR and LF, and an \
                     empty line ends the head.",
                ));
            };
            lines.push(String::from_utf8_lossy(line).into_owned());
        }
        let line = lines.first().cloned().unwrap_or_default();
        let version = line.strip_prefix("HTTP/1.0 ").or(line.strip_prefix("HTTP/1.1 "));
        let status = version.and_then(|rest| {
            let (code, _) = rest.split_once(' ')?;
            let is_code = code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit());
            code.parse().ok().filter(|code| is_code && (100..600).contains(code))
        });
        let status = status.ok_or_else(no_status_line)?;
        let mut fields = Vec::new();
        for line in lines.iter().skip(1).filter(|line| !line.is_empty()) {
            let Some((name, value)) = line.split_once(':') else {
                let what = "A field line has no colon.";
                return Err(Fault::new(what, "Name: value", &escape(line.as_bytes()))
                    .rule("RFC 9112, section 5: a field line is a name, a colon and a value."));
            };
            let is_tchar =
                |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if name.is_empty() || !name.chars().all(is_tchar) {
                let what = "A field has no proper name.";
                return Err(Fault::new(what, "Name: value", &escape(line.as_bytes())).rule(
                    "RFC 9112, section 5.1: a field's name is a token, and no space is before \
                     the colon.",
                ));
            }
            if value.chars().any(|c| c.is_ascii_control() && c != '\t') {
                let what = "A field's value has a control character.";
                return Err(Fault::new(what, "", &escape(line.as_bytes()))
                    .rule("RFC 9110, section 5.5: CR, LF and NUL are not for values."));
            }
            fields.push((name.to_string(), value.trim().to_string()));
        }
        Ok(Answer { line, status, fields, content: content.to_vec() })
    }

    fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|field| field.0.eq_ignore_ascii_case(name));
        found.map(|field| field.1.as_str())
    }

    fn length(&self) -> Option<Result<usize, String>> {
        let length = self.field("Content-Length")?;
        let is_number = length.bytes().all(|byte| byte.is_ascii_digit());
        Some(length.parse().ok().filter(|_| is_number).ok_or_else(|| length.to_string()))
    }

    /// Takes the chunks off, and what answers the next request: ours close instead.
    fn settle(&mut self, is_head: bool) -> Result<(), Fault> {
        let lengths = self.fields.iter().filter(|(name, _)| {
            ["content-length", "transfer-encoding"].contains(&&*name.to_ascii_lowercase())
        });
        if lengths.count() > 1 {
            let what = "It says twice where the content ends.";
            return Err(Fault::new(what, "", "").rule(
                "RFC 9112, section 6.2: no Content-Length where there is a Transfer-Encoding.",
            ));
        }
        if is_head {
            return Ok(());
        }
        let size = if self.is_chunked() {
            let Some((content, size)) = unchunk(&self.content) else {
                let what = "The chunks are not well-formed.";
                return Err(Fault::new(what, "", &first_line(&self.content)).rule(
                    "RFC 9112, section 7.1: a chunk is its size in hexadecimal, CRLF, its bytes, \
                     CRLF; the last has size 0, and an empty line follows.",
                ));
            };
            let rest = self.content.split_off(size);
            self.content = content;
            return if rest.is_empty() || rest.starts_with(b"HTTP/1.") {
                Ok(())
            } else {
                Err(Fault::new(
                    "More comes after the last chunk.",
                    "",
                    &first_line(&rest),
                ))
            };
        } else {
            self.length().and_then(Result::ok).unwrap_or(usize::MAX)
        };
        if self.content.get(size..).is_some_and(|rest| rest.starts_with(b"HTTP/1.")) {
            self.content.truncate(size);
        }
        Ok(())
    }

    fn is_chunked(&self) -> bool {
        self.field("Transfer-Encoding").is_some_and(|coding| coding.ends_with("chunked"))
    }

    fn compare_status(&self, came: &Answer) -> Result<(), Fault> {
        if came.status == self.status {
            return Ok(());
        }
        let what =
            format!("The status is {}, and should be {}.", came.status, self.status);
        // Up to the status, the version may differ.
        let fault = Fault::new(what, &self.line, &came.line);
        let same = self.line.bytes().zip(came.line.bytes()).skip(9);
        Err(Fault { same: 9 + same.take_while(|(a, b)| a == b).count(), ..fault })
    }

    /// Compares another server's answer to this one.
    fn compare(
        &self,
        came: &Answer,
        matters: &[&str],
        is_head: bool,
    ) -> Result<(), Fault> {
        self.compare_status(came)?;
        if is_head && !came.content.is_empty() {
            let what = "An answer to HEAD has content.";
            return Err(Fault::new(what, "(no content)", &first_line(&came.content)).rule(
                "RFC 9110, section 9.3.2: the answer to HEAD has the head of that to GET, and \
                 no content.",
            ));
        }
        if let (false, Some(length)) = (is_head, came.length()) {
            let size = came.content.len();
            if length != Ok(size) {
                let said = length.map_or_else(|text| text, |length| length.to_string());
                let what = format!("Content-Length says {said}, but {size} bytes came.");
                let (due, came) = (
                    format!("Content-Length: {size}"),
                    format!("Content-Length: {said}"),
                );
                return Err(Fault::new(what, &due, &came).rule(
                    "RFC 9110, section 8.6: Content-Length is the exact number of bytes.",
                ));
            }
        }
        if !is_head && !self.content.is_empty() && came.content.is_empty() {
            return Err(Fault::new("The answer has no content.", "", ""));
        }
        let types = came.fields.iter();
        let types = types.filter(|(name, _)| name.eq_ignore_ascii_case("Content-Type"));
        if types.count() > 1 {
            return Err(Fault::new("It says twice what the content is.", "", "").rule(
                "RFC 9110, section 8.3: Content-Type says what the content is, once.",
            ));
        }
        for name in matters {
            let [due, came] = [self, came].map(|answer| match *name {
                "content" => Some(first_difference(&self.content, &came.content, answer)),
                name => answer.field(name).map(|value| format!("{name}: {value}")),
            });
            // Case and spaces say nothing here, nor does the order of methods, nor a charset.
            let essence = |text: &str| {
                let text = text.split(';').next().unwrap_or_default();
                let text = text.replace(' ', "").to_ascii_lowercase();
                let mut list: Vec<String> =
                    text.split([':', ',']).map(String::from).collect();
                list.sort();
                list
            };
            let is_same = |a: &str, b: &str| essence(a) == essence(b);
            let Some(due) = due.filter(|due| !due.is_empty()) else { continue };
            let came = came.unwrap_or_else(|| "(missing)".to_string());
            if *name == "content" && due != came || !is_same(&due, &came) {
                let what = match *name {
                    "content" => {
                        "The content is the point here, and it differs.".to_string()
                    }
                    name => format!("{name} is the point here, and it differs."),
                };
                let rule = match *name {
                    "Content-Type" => {
                        "RFC 9110, section 8.3: Content-Type says what the content is."
                    }
                    "Allow" => {
                        "RFC 9110, section 10.2.1: Allow lists the methods that are taken."
                    }
                    _ => "",
                };
                let fault = Fault::new(what, &due, &came).rule(rule);
                return Err(Fault { is_point: true, ..fault });
            }
        }
        Ok(())
    }
}

/// The first line of an answer's content that is not the same in both, or nothing.
fn first_difference(a: &[u8], b: &[u8], of: &Answer) -> String {
    let lines = |bytes: &[u8]| -> Vec<String> {
        bytes.split(|&byte| byte == b'\n').map(escape).collect()
    };
    let (a, b) = (lines(a.trim_ascii_end()), lines(b.trim_ascii_end()));
    let at = (0..a.len().max(b.len())).find(|&at| a.get(at) != b.get(at));
    let own = lines(of.content.trim_ascii_end());
    at.map_or_else(String::new, |at| {
        own.get(at).cloned().unwrap_or("(no more)".to_string())
    })
}
