//! Judges what a server that is not ours has answered. Where the RFCs leave a choice, it may differ:
//! in reason phrases, in fields and their order, in the wording of content, in how it says where
//! content ends. It may do better than a step that lets clients wait, or answers HEAD with
//! content. What a session marks with `* … matters` must be the same.

use crate::answer::{Answer, first_line, is_complete};
use crate::listen::{Heard, MAX_ANSWER, Recording, acts, expected, sent};
use crate::replay::{End, group_size};
use crate::session::{Event, Line, escape};
use std::time::Duration;

/// How much a client sends whose answer a reset would destroy.
const LARGE: usize = 100_000;
/// What is expected where a step closes without a word.
const CLOSES: &str = "(the server closes, or answers 400)";
/// Why a server should not close too early.
const RESET: &str = "RFC 9112, section 9.6: a close with bytes unread is a reset, which may destroy the answer.";
/// Why a server should say what it does with the connection.
const CLOSE: &str = "RFC 9112, section 9.6: a server says close in the answer after which it closes, and closes then.";

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
    /// The same for all answers that have this fault of form, or nothing.
    pub kind: &'static str,
    /// Whether the time was up.
    pub is_late: bool,
    /// Whether it is what the session marks as its point.
    pub is_point: bool,
    /// Whether no connection was to be had.
    pub is_unreachable: bool,
}

impl Fault {
    /// A fault, the line that was expected, and the line that came.
    pub fn new(what: impl Into<String>, expected: &str, came: &str) -> Fault {
        // What is in parentheses is no text that came.
        let is_text = !expected.starts_with('(') && !came.starts_with('(');
        let pairs = expected.chars().zip(came.chars()).filter(|_| is_text);
        let same = pairs.take_while(|(a, b)| a == b).count();
        let what = what.into();
        let (expected, came) = (expected.to_string(), came.to_string());
        Fault { what, expected, came, same, ..Fault::default() }
    }

    pub(crate) fn rule(self, rule: &'static str) -> Fault {
        Fault { rule, ..self }
    }

    pub(crate) fn kind(self, kind: &'static str) -> Fault {
        Fault { kind, ..self }
    }
}

/// What is wrong with a conversation.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What differs from the session: the first of it.
    pub fault: Option<Fault>,
    /// What is wrong with the form of its answers, whatever was asked.
    pub form: Vec<Fault>,
    /// Whether there was an answer to be judged.
    pub has_answer: bool,
}

/// Judges a conversation whose clients did what they do in these lines.
pub fn judge(lines: &[Line], recording: &Recording) -> Verdict {
    let matters: Vec<&str> = lines
        .iter()
        .filter_map(|line| match &line.event {
            Event::Matters(what) => Some(what.as_str()),
            _ => None,
        })
        .collect();
    let lines = acts(lines);
    let mut verdict = Verdict::default();
    let mut heard = recording.heard.iter();
    let mut at = 0;
    while at < lines.len() && verdict.fault.is_none() {
        let size = group_size(&lines[at..]);
        let group = &lines[at..at + size];
        let name = &lines[at].client;
        // A step that serves one after the other lets the second wait. Nobody has to.
        let may_wait = *name != lines[0].client;
        let fault = match group[0].event {
            Event::Send(_) | Event::Close | Event::HalfClose | Event::Reset => None,
            _ => match (heard.next(), &group[0].event) {
                (None, _) => recording.refused.clone(),
                (Some(_), Event::Silence) if may_wait => None,
                (Some(heard), Event::Silence) => silence(heard),
                (Some(heard), _) => {
                    let sent = sent(&lines[..at], name);
                    let twin = recording.twin.as_deref();
                    answer(group, heard, &matters, &sent, twin, &mut verdict)
                }
            },
        };
        verdict.fault = fault.map(|mut fault| {
            if !name.is_empty() {
                fault.what.insert_str(0, &format!("{name}: "));
            }
            fault
        });
        at += size;
    }
    if verdict.fault.is_none() {
        verdict.fault = recording.refused.clone();
    }
    verdict
}

/// Expects that nothing has come.
fn silence(heard: &Heard) -> Option<Fault> {
    let what = match (heard.came.is_empty(), heard.end) {
        (false, _) => {
            "It answers too early: the request is not complete, or not its turn."
        }
        (true, Some(End::Reset)) => "It breaks the connection off, and should wait.",
        (true, Some(End::Closed)) => "It closes, and should wait.",
        (true, None) => return None,
    };
    let came = match (heard.came.is_empty(), heard.end) {
        (false, _) => first_line(&heard.came),
        (true, Some(End::Reset)) => "(reset)".to_string(),
        (true, _) => "(closed)".to_string(),
    };
    Some(Fault::new(what, "(silence)", &came))
}

/// Judges an answer.
fn answer(
    group: &[Line],
    heard: &Heard,
    matters: &[&str],
    sent: &[u8],
    twin: Option<&[u8]>,
    verdict: &mut Verdict,
) -> Option<Fault> {
    let asks_for_head = sent.trim_ascii_start().starts_with(b"HEAD ");
    let expected = expected(group);
    let came = &heard.came;
    let first = first_line(came);
    let Ok(wanted) = Answer::parse(&expected) else {
        return refusal(heard, &first);
    };
    // Before step 04, ours answers HEAD with content. To leave it out is right in each.
    let is_head = asks_for_head && (wanted.content.is_empty() || heard.is_bare);
    if came.len() > MAX_ANSWER {
        let what = "It sends more than a megabyte, and goes on.";
        return Some(Fault::new(what, "", ""));
    }
    let may_be_lost = group.iter().any(|line| line.event == Event::MayBeLost);
    if may_be_lost && heard.end.is_some() {
        // What has come of it must still be the beginning of the right answer.
        let is_begun = came.iter().zip(b"HTTP/1.").all(|(byte, due)| byte == due);
        return match Answer::parse(came) {
            Ok(answer) => wanted.status_fault(&answer),
            Err(_) if is_begun => None,
            Err(fault) => Some(fault),
        };
    }
    let due = first_line(&expected);
    if came.is_empty() {
        return Some(match heard.end {
            Some(End::Closed) => {
                Fault::new("It closes without an answer.", &due, "(closed)")
            }
            Some(End::Reset) => {
                let what = "It breaks the connection off, and the answer is lost.";
                Fault::new(what, &due, "(reset)").rule(RESET)
            }
            None => late(heard, &due, "(nothing)"),
        });
    }
    verdict.has_answer = true;
    let mut answer = match Answer::parse(came) {
        Ok(answer) => answer,
        Err(fault) => {
            verdict.form.push(fault);
            return None;
        }
    };
    let has_next = answer.settle(is_head);
    verdict.form.append(&mut answer.form);
    if let Some(fault) = wanted.status_fault(&answer) {
        return Some(fault);
    }
    if is_head && !answer.content.is_empty() {
        let what = "An answer to HEAD has content.";
        let fault = Fault::new(what, "(no content)", &first_line(&answer.content));
        return Some(fault.rule(
            "RFC 9110, section 9.3.2: the answer to HEAD has the head of that to GET, and no \
             content.",
        ));
    }
    if is_head && wanted.content.is_empty() {
        let twin = twin.and_then(|twin| Answer::parse(twin).ok());
        let lengths = (answer.length(), twin.as_ref().and_then(Answer::length));
        if let (Some(Ok(own)), Some(Ok(due))) = lengths
            && own != due
            && twin.is_some_and(|twin| twin.status == answer.status)
        {
            let what =
                format!("HEAD says a Content-Length of {own}, and GET has one of {due}.");
            let [due, own] = [due, own].map(|size| format!("Content-Length: {size}"));
            return Some(Fault::new(what, &due, &own).rule(
                "RFC 9110, section 8.6: in an answer to HEAD, Content-Length is that of GET.",
            ));
        }
    }
    let is_complete = is_complete(came, is_head);
    if let Some(fault) = connection(&wanted, &answer, heard, is_complete, has_next, sent)
    {
        if fault.kind.is_empty() {
            return Some(fault);
        }
        verdict.form.push(fault);
    }
    wanted.compare(&answer, matters, is_head)
}

/// Ours closes without a word. To say what is wrong is better, be it that the server cannot.
fn refusal(heard: &Heard, first: &str) -> Option<Fault> {
    let came = Answer::parse(&heard.came);
    match (&came, heard.end) {
        (Ok(answer), _) if answer.status >= 400 => None,
        (Ok(_), _) => {
            let what = "This is no request, and it answers as if it were one.";
            Some(Fault::new(what, CLOSES, first))
        }
        (Err(_), Some(_)) if heard.came.is_empty() => None,
        (Err(_), None) if heard.came.is_empty() => Some(late(heard, CLOSES, "(nothing)")),
        (Err(fault), _) => {
            Some(Fault { expected: CLOSES.to_string(), same: 0, ..fault.clone() })
        }
    }
}

/// What is wrong with how the connection ends, or goes on.
fn connection(
    wanted: &Answer,
    answer: &Answer,
    heard: &Heard,
    is_complete: bool,
    has_next: bool,
    sent: &[u8],
) -> Option<Fault> {
    const OPEN: &str = "(the connection stays open)";
    const ENDS: &str = "(the server closes)";
    if heard.end.is_none() && !is_complete {
        if answer.length().is_some() || answer.is_chunked() {
            return Some(late(heard, "(the rest of the content)", "(nothing)"));
        }
        let what = "It neither says how long the content is nor closes.";
        let fault = Fault::new(what, ENDS, OPEN).kind("never ends").rule(
            "RFC 9112, section 6.3: without a length, the content ends with the connection.",
        );
        return Some(Fault { is_late: true, ..fault });
    }
    if heard.end.is_none() && answer.says_close() {
        let what = "It says that it closes the connection, and does not.";
        let fault = Fault::new(what, ENDS, OPEN).kind("never closes").rule(CLOSE);
        return Some(Fault { is_late: true, ..fault });
    }
    // A step that reads no field lines may close over them. With large content it must not.
    if heard.is_cut && sent.len() > LARGE {
        let what = "It closes before it has read all: the connection is reset, and the answer \
                    may be lost.";
        return Some(Fault::new(what, ENDS, "(the connection is reset)").rule(RESET));
    }
    if heard.end.is_some() && wanted.says_close() && !answer.says_close() {
        let due = "Connection: close";
        let came = answer.field("Connection").map(|value| format!("Connection: {value}"));
        let what = "It closes the connection, and has not said so.";
        let came = came.unwrap_or_else(|| "(missing)".to_string());
        return Some(Fault::new(what, due, &came).kind("close unsaid").rule(CLOSE));
    }
    let requests = sent.windows(11).filter(|part| part == b" HTTP/1.1\r\n").count();
    if heard.end.is_none() && requests > 1 && !has_next {
        let what =
            "It keeps the connection open, and does not answer the next request on it.";
        let fault = Fault::new(what, "(an answer, or the close)", "(nothing)").rule(
            "RFC 9112, section 9.3.2: requests on one connection are answered in their order.",
        );
        return Some(Fault { is_late: true, ..fault });
    }
    None
}

fn late(heard: &Heard, expected: &str, came: &str) -> Fault {
    let patience = Duration::from_millis(heard.patience.as_millis() as u64 / 100 * 100);
    let what = match expected {
        "(the rest of the content)" => {
            format!("The answer does not end within {patience:?}.")
        }
        _ => format!("No answer within {patience:?}."),
    };
    Fault { is_late: true, ..Fault::new(what, expected, came) }
}

impl Answer {
    fn status_fault(&self, came: &Answer) -> Option<Fault> {
        if came.status == self.status {
            return None;
        }
        let what =
            format!("The status is {}, and should be {}.", came.status, self.status);
        // Up to the status, the version may differ.
        let fault = Fault::new(what, &self.line, &came.line);
        let same = self.line.bytes().zip(came.line.bytes()).skip(9);
        Some(Fault { same: 9 + same.take_while(|(a, b)| a == b).count(), ..fault })
    }

    /// Compares another server's answer to this one.
    fn compare(&self, came: &Answer, matters: &[&str], is_head: bool) -> Option<Fault> {
        if !is_head && !self.content.is_empty() && came.content.is_empty() {
            return Some(Fault::new("The answer has no content.", "", ""));
        }
        for name in matters {
            let (due, came, is_same) = match *name {
                "content" => {
                    let pair = first_difference(&self.content, &came.content);
                    let is_same = pair.is_none();
                    let (due, came) = pair.unwrap_or_default();
                    (due, came, is_same)
                }
                name => {
                    let Some(due) = self.field(name) else { continue };
                    let came = came.field(name);
                    let is_same = came.is_some_and(|came| is_same_value(name, due, came));
                    let came = came.map(|came| format!("{name}: {came}"));
                    let came = came.unwrap_or_else(|| "(missing)".to_string());
                    (format!("{name}: {due}"), came, is_same)
                }
            };
            if is_same {
                continue;
            }
            let what = match *name {
                "content" => "The content is the point here, and it differs.".to_string(),
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
            return Some(Fault { is_point: true, ..fault });
        }
        None
    }
}

/// Whether two values of a field say the same. Case and spaces say nothing here, nor does a
/// charset. A server may take more methods than ours.
fn is_same_value(name: &str, due: &str, came: &str) -> bool {
    let items = |text: &str| -> Vec<String> {
        let text = text.split(';').next().unwrap_or_default();
        let text = text.replace(' ', "").to_ascii_lowercase();
        text.split(',').map(String::from).collect()
    };
    let (due, came) = (items(due), items(came));
    match name {
        "Allow" => due.iter().all(|item| came.contains(item)),
        _ => due == came,
    }
}

/// The first line that is not the same in both: as it is due, and as it came. How a line ends
/// says nothing, nor the case of a field's name.
fn first_difference(due: &[u8], came: &[u8]) -> Option<(String, String)> {
    let lines = |bytes: &[u8]| -> Vec<String> {
        let lines = bytes.trim_ascii_end().split(|&byte| byte == b'\n');
        lines.map(|line| escape(line.strip_suffix(b"\r").unwrap_or(line))).collect()
    };
    let essence = |line: &String| match line.split_once(": ") {
        Some((name, value)) if !name.contains(' ') => {
            format!("{}: {value}", name.to_ascii_lowercase())
        }
        _ => line.clone(),
    };
    let (due, came) = (lines(due), lines(came));
    let at = (0..due.len().max(came.len()))
        .find(|&at| due.get(at).map(essence) != came.get(at).map(essence))?;
    let [due, came] = [due, came]
        .map(|lines| lines.get(at).cloned().unwrap_or_else(|| "(no more)".to_string()));
    Some((due, came))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_rfcs_leave_open_may_differ() {
        for (name, due, came) in [
            ("Allow", "GET, HEAD", "HEAD,GET"),
            ("Allow", "GET, HEAD", "GET, HEAD, OPTIONS"),
            ("Content-Type", "text/html; charset=utf-8", "TEXT/HTML"),
        ] {
            assert!(is_same_value(name, due, came), "{name}: {came}");
        }
        assert!(!is_same_value("Allow", "GET, HEAD", "GET"));
        assert!(!is_same_value("Content-Type", "text/html", "text/plain"));
        let due = b"You call me localhost.\nHost: localhost\nX-Mood: curious\n";
        let came = b"You call me localhost.\r\nhost: localhost\r\nx-mood: curious\r\n";
        assert_eq!(first_difference(due, came), None);
        let came = b"You call me localhost.\nHost: Localhost\nX-Mood: curious\n";
        let (due, came) = first_difference(due, came).expect("a difference");
        assert_eq!((&*due, &*came), ("Host: localhost", "Host: Localhost"));
    }

    #[test]
    fn to_refuse_is_as_good_as_to_close() {
        let heard =
            |came: &str, end| Heard { came: came.into(), end, ..Heard::default() };
        for (answer, is_right) in [
            ("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.0 501 Not Implemented\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 505 No\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            ("oops\r\n", false),
        ] {
            for end in [None, Some(End::Closed)] {
                let fault = refusal(&heard(answer, end), answer);
                assert_eq!(fault.is_none(), is_right, "{answer}");
                // Whoever keeps the connection open after an answer is not late.
                assert!(!fault.is_some_and(|fault| fault.is_late), "{answer}");
            }
        }
    }
}
