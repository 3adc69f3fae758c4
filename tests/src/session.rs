//! The session format, and its parser.
//!
//! ```text
//! # A title
//! # What to look at.
//! #? a hint for who does not get there, and on the next such line a plainer one
//! #? 04: another from this step on, in place of those before
//!
//! > GET / HTTP/1.1        typed; the line ends in CRLF
//! > GET /\                typed; the line does not end yet
//! * client sends x 9000 times
//! * client closes         or `half-closes`, or `resets`
//! * silence               nothing comes back for a while
//!
//! @ 01-raw-socket         from this step on, after what all steps have in common
//! < HTTP/1.1 200 OK       received; up to the empty line with CRLF, then with LF
//! <
//! < no end of line\
//! < any text: \*
//! * answer may be lost    all of the above, or a part of it; then a close or a reset
//! * server closes         what ends every conversation that ends with an answer, unsaid
//! * Allow matters         for the checker, which else takes other fields than ours; or `content`
//!
//! alice> GET / HTTP/1.1   several clients have names; the order of lines is that of events
//! alice* silence
//! ```
//!
//! In `>`, `<` and `client sends`, `\xff` is a byte, and `\r`, `\n`, `\t`, `\0` and `\\` are
//! what they are in Rust.

use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{fs, iter};

/// One session file.
#[derive(Debug)]
pub struct Session {
    /// The file's name without `.session`.
    pub name: String,
    /// The first comment line.
    pub title: String,
    /// The other comment lines: what to look at.
    pub about: String,
    /// What it was read from.
    pub path: PathBuf,
    /// The hints, and from which step on each holds.
    hints: Vec<(String, String)>,
    /// Comments, and the lines that all steps have in common, as they stand in the file.
    preamble: Vec<String>,
    /// The lines of each section, in the file's order.
    sections: Vec<(String, Vec<Line>)>,
    /// The events before the first section.
    common: Vec<Line>,
}

/// A line of a session that is neither empty nor a comment.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its number in the file, from 1.
    pub number: usize,
    /// The name of the client, or nothing where there is but one.
    pub client: String,
    /// What happens.
    pub event: Event,
}

/// What happens in a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The client sends these bytes.
    Send(Vec<u8>),
    /// The client receives these bytes. `None` stands for any bytes up to the line's end.
    Receive(Vec<Option<u8>>),
    /// Of what the client should have received, it may have missed the end, or all.
    MayBeLost,
    /// The client receives nothing for a while.
    Silence,
    /// The client closes.
    Close,
    /// The client says that it will send no more.
    HalfClose,
    /// The client resets the connection.
    Reset,
    /// The server closes.
    ServerClose,
    /// This field of the answer is the point, or its `content`.
    Matters(String),
}

impl Session {
    /// Reads a session file.
    ///
    /// # Errors
    /// Names the file and the line, and what was expected there.
    pub fn read(path: &Path, steps: &[String]) -> Result<Session> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Session::parse(path, &text, steps)
    }

    /// Parses the text of a session file.
    fn parse(path: &Path, text: &str, steps: &[String]) -> Result<Session> {
        let mut session = Session {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            title: String::new(),
            about: String::new(),
            path: path.to_path_buf(),
            hints: Vec::new(),
            preamble: Vec::new(),
            sections: Vec::new(),
            common: Vec::new(),
        };
        let mut clients: HashMap<String, Part> = HashMap::new();
        for (index, text) in text.lines().enumerate() {
            let number = index + 1;
            session
                .read_line(text, number, steps, &mut clients)
                .with_context(|| format!("{}:{number}: {text:?}", path.display()))?;
        }
        ensure!(
            !session.title.is_empty(),
            "{}:1: expected a title, like # A method nobody has heard of",
            path.display()
        );
        for step in steps {
            session.check(step)?;
        }
        Ok(session)
    }

    /// Reads one line of the file. `clients` says in which part of an answer each one is.
    fn read_line(
        &mut self,
        text: &str,
        number: usize,
        steps: &[String],
        clients: &mut HashMap<String, Part>,
    ) -> Result<()> {
        if let Some(step) = text.strip_prefix("@ ") {
            let place = |name: &str| steps.iter().position(|known| known == name);
            let here = place(step)
                .with_context(|| format!("expected a step: {}", steps.join(", ")))?;
            let last = self.sections.last().and_then(|(step, _)| place(step));
            ensure!(last < Some(here), "expected a later step than the section before");
            self.sections.push((step.to_string(), Vec::new()));
            clients.clear();
            for line in &self.common {
                Part::of(clients, &line.client).follow(&line.event);
            }
            return Ok(());
        }
        if self.sections.is_empty() {
            self.preamble.push(text.to_string());
        }
        if let Some(comment) = text.strip_prefix('#') {
            ensure!(
                self.sections.is_empty(),
                "expected comments before the first section"
            );
            if let Some(hint) = comment.strip_prefix('?') {
                let (step, text) = numbered(hint.trim(), steps);
                ensure!(!text.is_empty(), "expected a hint, like #? Read the whole line");
                self.hints.push((step.unwrap_or("00").to_string(), text.to_string()));
                return Ok(());
            }
            let text =
                if self.title.is_empty() { &mut self.title } else { &mut self.about };
            if !text.is_empty() {
                text.push(' ');
            }
            *text += comment.trim();
            return Ok(());
        }
        if text.is_empty() {
            return Ok(());
        }
        let mark = text.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(text.len());
        let (client, rest) = text.split_at(mark);
        let mut chars = rest.chars();
        let kind = chars.next();
        ensure!(
            matches!(kind, Some('>' | '<' | '*')),
            "expected #, @, >, < or *, and before the last three a client's name"
        );
        let rest = match (chars.next(), chars.as_str()) {
            (None, rest) | (Some(' '), rest) => rest,
            _ => bail!("expected a space after the mark"),
        };
        let part = Part::of(clients, client);
        let event = match kind {
            Some('>') => Event::Send(sent(&unescape(rest, "\r\n")?)?),
            Some('<') if rest.is_empty() && *part == Part::Head => {
                Event::Receive(unescape("", "\r\n")?)
            }
            Some('<') => Event::Receive(unescape(rest, part.line_end())?),
            _ => event(rest)?,
        };
        part.follow(&event);
        let line = Line { number, client: client.to_string(), event };
        match self.sections.last_mut() {
            Some((_, lines)) => lines.push(line),
            None => self.common.push(line),
        }
        Ok(())
    }

    /// Checks that every client's conversation says how it ends.
    fn check(&self, step: &str) -> Result<()> {
        let lines = self.lines(step);
        for (index, line) in lines.iter().enumerate() {
            let is_last =
                lines[index + 1..].iter().all(|later| later.client != line.client);
            ensure!(
                !is_last || !matches!(line.event, Event::Send(_) | Event::HalfClose),
                "{}:{}: expected what comes back in step {step}: <, * server closes, * silence",
                self.path.display(),
                line.number
            );
        }
        Ok(())
    }

    /// The conversation with a step: what all steps have in common, and the last section that
    /// begins no later than the step.
    pub fn lines(&self, step: &str) -> Vec<Line> {
        let section = self.sections.iter().rev().find(|(name, _)| name.as_str() <= step);
        let own = section.map_or(&[][..], |(_, lines)| lines);
        [&self.common, own].concat()
    }

    /// Whether two steps hold this conversation in different ways.
    pub fn differs(&self, one: &str, other: &str) -> bool {
        let events = |step: &str| -> Vec<(String, Event)> {
            let lines = self.lines(step).into_iter();
            let lines = lines.filter(|line| !matches!(line.event, Event::Matters(_)));
            lines.map(|line| (line.client, line.event)).collect()
        };
        events(one) != events(other)
    }

    /// The hints for who does not do what a step does: the first is general, the second plain.
    pub fn hints(&self, step: &str) -> Vec<&str> {
        let is_so_far = |from: &&(String, String)| from.0.as_str() <= &step[..2];
        let last = self.hints.iter().filter(is_so_far).map(|(from, _)| from).max();
        let hints = self.hints.iter().filter(|(from, _)| Some(from) == last);
        hints.map(|(_, text)| text.as_str()).collect()
    }

    /// The session file with other conversations, and a section only where one changes. The
    /// conversations begin with what all steps have in common.
    ///
    /// # Errors
    /// When one does not begin so.
    pub fn rewrite(&self, conversations: &[(String, Vec<Line>)]) -> Result<String> {
        let mut text = String::new();
        for line in &self.preamble {
            text += line;
            text.push('\n');
        }
        let mut last = String::new();
        for (step, lines) in conversations {
            ensure!(
                lines.starts_with(&self.common),
                "what stands before the first section does not hold in {step}"
            );
            let own = render(&lines[self.common.len()..]);
            if own != last {
                let gap = if text.ends_with("\n\n") { "" } else { "\n" };
                let _ = write!(text, "{gap}@ {step}\n{own}");
                last = own;
            }
        }
        Ok(text)
    }
}

/// The sessions of a folder, by name.
///
/// # Errors
/// If one cannot be read, or there is none.
pub fn read_all(folder: &Path, steps: &[String]) -> Result<Vec<Session>> {
    let mut sessions = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?
    {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "session") {
            sessions.push(Session::read(&path, steps)?);
        }
    }
    ensure!(!sessions.is_empty(), "no sessions in {}", folder.display());
    sessions.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sessions)
}

/// What `tests/stages.txt` says of a stage.
#[derive(Debug, Default)]
pub struct Won {
    /// In how many conversations it does what its step does, as `cargo how-far` judges it.
    pub how_far: u64,
    /// The sessions that it wins.
    pub sessions: Vec<String>,
}

/// What each stage wins, by its name, from the text of `tests/stages.txt`: a stage and a number
/// stand at the beginning of a line, a session is indented.
pub fn wins(text: &str) -> HashMap<String, Won> {
    let mut wins: HashMap<String, Won> = HashMap::new();
    let mut stage = "";
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        match line.strip_prefix("  ") {
            Some(session) => {
                wins.entry(stage.to_string())
                    .or_default()
                    .sessions
                    .push(session.to_string());
            }
            None => {
                let (name, number) = line.split_once(' ').unwrap_or((line, ""));
                stage = name;
                wins.entry(name.to_string()).or_default().how_far =
                    number.parse().unwrap_or(0);
            }
        }
    }
    wins
}

/// The number of a step and a colon that a text may begin with, and the rest.
fn numbered<'a>(text: &'a str, steps: &[String]) -> (Option<&'a str>, &'a str) {
    match text.split_once(": ") {
        Some((number, rest))
            if steps.iter().any(|step| step.get(..2) == Some(number)) =>
        {
            (Some(number), rest.trim())
        }
        _ => (None, text),
    }
}

/// Where in an answer the next received line stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    /// Before the empty line: lines end in CRLF.
    Head,
    /// After it: lines end in LF.
    Content,
}

impl Part {
    /// The part in which this client is.
    fn of<'a>(clients: &'a mut HashMap<String, Part>, client: &str) -> &'a mut Part {
        clients.entry(client.to_string()).or_insert(Part::Head)
    }

    /// The part after this event.
    fn follow(&mut self, event: &Event) {
        match event {
            Event::Send(_) => *self = Part::Head,
            Event::Receive(bytes) if bytes[..] == [Some(b'\r'), Some(b'\n')] => {
                *self = Part::Content;
            }
            _ => {}
        }
    }

    fn line_end(self) -> &'static str {
        match self {
            Part::Head => "\r\n",
            Part::Content => "\n",
        }
    }
}

/// What stands after a `*`.
fn event(text: &str) -> Result<Event> {
    if let Some(rest) = text.strip_prefix("client sends ") {
        let (what, count) = rest
            .strip_suffix(" times")
            .and_then(|rest| rest.rsplit_once(' '))
            .context("expected * client sends TEXT N times")?;
        let count: usize = count.parse().context("expected a number before times")?;
        ensure!(count <= 10_000_000, "expected at most 10000000 times");
        return Ok(Event::Send(sent(&unescape(what, "")?)?.repeat(count)));
    }
    if let Some(what) = text.strip_suffix(" matters") {
        return Ok(Event::Matters(what.to_string()));
    }
    Ok(match text {
        "client closes" => Event::Close,
        "client half-closes" => Event::HalfClose,
        "client resets" => Event::Reset,
        "server closes" => Event::ServerClose,
        "silence" => Event::Silence,
        "answer may be lost" => Event::MayBeLost,
        _ => bail!(
            "expected * client closes, half-closes, resets or sends TEXT N times, \
             * server closes, * silence, * answer may be lost or * FIELD matters"
        ),
    })
}

/// The bytes of a text with escapes, and its line end unless it ends in a backslash.
fn unescape(text: &str, line_end: &str) -> Result<Vec<Option<u8>>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(Some(byte));
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'\\') => Some(b'\\'),
            Some(b'r') => Some(b'\r'),
            Some(b'n') => Some(b'\n'),
            Some(b't') => Some(b'\t'),
            Some(b'0') => Some(0),
            Some(b'*') => None,
            Some(b'x') => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let is_hex =
                    digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit);
                ensure!(is_hex, "expected two digits after \\x");
                let digits = String::from_utf8_lossy(&digits).into_owned();
                Some(u8::from_str_radix(&digits, 16)?)
            }
            None => return Ok(bytes),
            Some(_) => {
                bail!("expected \\\\, \\r, \\n, \\t, \\0, \\xff, \\* or \\ at the end")
            }
        });
    }
    bytes.extend(line_end.bytes().map(Some));
    Ok(bytes)
}

/// The bytes, when none of them is any.
fn sent(bytes: &[Option<u8>]) -> Result<Vec<u8>> {
    bytes.iter().copied().collect::<Option<_>>().context("expected \\* after < alone")
}

/// Bytes as a session file writes them.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b' '..=b'~' => text.push(byte.into()),
            _ => {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text
}

/// An answer cut into events, a line each.
pub fn receive(bytes: &[u8]) -> Vec<Event> {
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    lines.map(|line| Event::Receive(line.iter().copied().map(Some).collect())).collect()
}

/// Lines as they stand in a session file.
pub fn render(lines: &[Line]) -> String {
    let mut text = String::new();
    let mut clients = HashMap::new();
    for line in lines {
        let part = Part::of(&mut clients, &line.client);
        let (mark, rest) = match &line.event {
            Event::Send(bytes) => render_sent(bytes),
            Event::Receive(bytes) => ('<', render_received(bytes, part.line_end())),
            Event::MayBeLost => ('*', "answer may be lost".into()),
            Event::Silence => ('*', "silence".into()),
            Event::Close => ('*', "client closes".into()),
            Event::HalfClose => ('*', "client half-closes".into()),
            Event::Reset => ('*', "client resets".into()),
            Event::ServerClose => ('*', "server closes".into()),
            Event::Matters(what) => ('*', format!("{what} matters")),
        };
        // A space that ends a line would not be seen, and editors cut it off.
        let rest = match rest.strip_suffix(' ') {
            Some(rest) => format!("{rest}\\x20"),
            None => rest,
        };
        let _ = writeln!(text, "{}", format!("{}{mark} {rest}", line.client).trim_end());
        part.follow(&line.event);
    }
    text
}

/// What was sent, as a line, or as `* client sends` when it is a long repetition.
fn render_sent(bytes: &[u8]) -> (char, String) {
    let period = (1..=bytes.len().min(100)).find(|&size| {
        // A text that repeats is the same when it is shifted.
        bytes.len().is_multiple_of(size) && bytes[size..] == bytes[..bytes.len() - size]
    });
    if let Some(size) = period.filter(|size| bytes.len() / size >= 100) {
        let times = bytes.len() / size;
        return ('*', format!("client sends {} {times} times", escape(&bytes[..size])));
    }
    match bytes.strip_suffix(b"\r\n") {
        Some(line) => ('>', escape(line)),
        None => ('>', escape(bytes) + "\\"),
    }
}

/// What was received, as a line.
fn render_received(bytes: &[Option<u8>], line_end: &str) -> String {
    let end: Vec<_> = line_end.bytes().map(Some).collect();
    let (line, end) = match bytes.strip_suffix(&end[..]) {
        Some(line) => (line, ""),
        None => (bytes, "\\"),
    };
    let pieces =
        line.iter().map(|byte| byte.map_or("\\*".into(), |byte| escape(&[byte])));
    pieces.chain(iter::once(end.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Session> {
        let steps = ["01-raw-socket", "02-parse-request-line"].map(String::from);
        Session::parse(Path::new("test.session"), text, &steps)
    }

    #[test]
    fn a_file_is_what_its_lines_render_to() {
        let own = "\
            > GET /\\\n\
            * client sends a\\r\\n 200 times\n\
            alice>\n\
            < HTTP/1.1 200 OK\n\
            < Date: \\*\n\
            <\n\
            < \\x00 and \\\\ and no end\\\n\
            * answer may be lost\n\
            * Allow matters\n\
            alice* silence\n\
            alice* client closes\n";
        let text = format!("# A title\n\n@ 01-raw-socket\n{own}");
        let session = parse(&text).expect("a session");
        assert_eq!(session.title, "A title");
        let lines = session.lines("02-parse-request-line");
        assert_eq!(render(&lines), own);
        let names = ["01-raw-socket", "02-parse-request-line"].map(String::from);
        let rewritten = session.rewrite(&names.map(|name| (name, lines.clone())));
        assert_eq!(rewritten.expect("a text"), text);
    }

    #[test]
    fn lines_end_in_crlf_in_the_head_and_in_lf_in_the_content() {
        let session = parse("# T\n> a\n< b\n<\n< c\n< d\\\n").expect("a session");
        let bytes = |text: &str| text.bytes().map(Some).collect();
        let events: Vec<Event> =
            session.lines("01-raw-socket").into_iter().map(|line| line.event).collect();
        let mut expected = vec![Event::Send(b"a\r\n".to_vec())];
        expected.extend(["b\r\n", "\r\n", "c\n", "d"].map(bytes).map(Event::Receive));
        assert_eq!(events, expected);
    }

    #[test]
    fn a_mistake_is_reported_with_its_line_and_what_was_expected() {
        for (text, report) in [
            ("> a\n* silence", "test.session:1: expected a title"),
            ("# T\n>a", "test.session:2: \">a\": expected a space after the mark"),
            ("# T\n\nGET /", "test.session:3: \"GET /\": expected #, @, >, < or *"),
            (
                "# T\n@ 09",
                "test.session:2: \"@ 09\": expected a step: 01-raw-socket, 02-",
            ),
            ("# T\n@ 02-parse-request-line\n@ 01-raw-socket", "expected a later step"),
            (
                "# T\n@ 01-raw-socket\n# More",
                "expected comments before the first section",
            ),
            ("# T\n> \\q", "expected \\\\, \\r, \\n"),
            ("# T\n> \\x+f", "expected two digits after \\x"),
            ("# T\n> \\x5", "expected two digits after \\x"),
            ("# T\n> \\*", "expected \\* after < alone"),
            ("# T\n* client sends a", "expected * client sends TEXT N times"),
            ("# T\n* server sleeps", "expected * client closes"),
            (
                "# T\n> a",
                "test.session:2: expected what comes back in step 01-raw-socket",
            ),
        ] {
            let error = format!("{:#}", parse(text).expect_err(text));
            assert!(error.contains(report), "{text:?}: {error}");
        }
    }
}
