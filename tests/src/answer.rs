//! An answer of any server, taken apart as far as it can be, with what is wrong in its form.

use crate::judge::Fault;
use crate::session::escape;

/// A response, taken apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) line: String,
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) content: Vec<u8>,
    /// What is wrong with it, whatever was asked.
    pub(crate) form: Vec<Fault>,
    /// Whether the head has come to its end.
    has_head: bool,
}

impl Answer {
    /// Takes a response apart. What can be understood though it is wrong is told in `form`.
    ///
    /// # Errors
    /// When it is no response at all.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Answer, Fault> {
        let no_status_line = || {
            let what = "This is not a status line.";
            Fault::new(what, "HTTP/1.1 200 OK\\r\\n", &first_line(bytes))
                .rule(
                    "RFC 9112, section 4: a status line is the version, a space, three digits, a \
                 space, and a phrase.",
                )
                .kind("status line")
        };
        let mut answer = Answer::default();
        let mut lines = bytes.split_inclusive(|&byte| byte == b'\n');
        let mut size = 0;
        for line in lines.by_ref() {
            size += line.len();
            let text = escape(line);
            let stripped = line.strip_suffix(b"\n").unwrap_or(line);
            let is_whole = line.ends_with(b"\r\n");
            let stripped = stripped.strip_suffix(b"\r").unwrap_or(stripped);
            if answer.line.is_empty() {
                answer.read_status_line(stripped).ok_or_else(no_status_line)?;
            } else if !stripped.is_empty() {
                answer.read_field_line(stripped);
            }
            if !is_whole {
                let (what, kind) = match line.ends_with(b"\n") {
                    true => ("A line of the head ends with LF alone.", "lf"),
                    false => ("The head of the answer does not end.", "no end of head"),
                };
                let due = format!("{}\\r\\n", text.trim_end_matches("\\n"));
                answer.blame(Fault::new(what, &due, &text).kind(kind).rule(
                    "RFC 9112, section 2.1: every line of the head ends with CR and LF, and an \
                     empty line ends the head.",
                ));
            }
            if stripped.is_empty() {
                answer.has_head = true;
                break;
            }
        }
        if answer.line.is_empty() {
            return Err(no_status_line());
        }
        if !answer.has_head && bytes.ends_with(b"\r\n") {
            let what = "The head of the answer does not end.";
            answer.blame(
                Fault::new(what, "\\r\\n", "(no more)")
                    .kind("no end of head")
                    .rule("RFC 9112, section 2.1: an empty line ends the head."),
            );
        }
        answer.content = bytes[size..].to_vec();
        Ok(answer)
    }

    /// Keeps the first fault of each kind.
    fn blame(&mut self, fault: Fault) {
        if self.form.iter().all(|known| known.kind != fault.kind) {
            self.form.push(fault);
        }
    }

    fn read_status_line(&mut self, line: &[u8]) -> Option<()> {
        let text = String::from_utf8_lossy(line).into_owned();
        let rest = text.strip_prefix("HTTP/1.0 ").or(text.strip_prefix("HTTP/1.1 "))?;
        let (code, has_space) =
            rest.split_once(' ').map_or((rest, false), |(code, _)| (code, true));
        let is_code = code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit());
        self.status =
            code.parse().ok().filter(|code| is_code && (100..600).contains(code))?;
        if !has_space {
            let escaped = escape(line);
            let what = "The status line ends behind the code.";
            let fault = Fault::new(what, &format!("{escaped} OK"), &escaped);
            self.blame(fault.kind("no phrase").rule(
                "RFC 9112, section 4: behind the code there is a space, and then a phrase, which \
                 may be empty.",
            ));
        }
        self.line = text;
        Some(())
    }

    fn read_field_line(&mut self, line: &[u8]) {
        let escaped = escape(line);
        let line = String::from_utf8_lossy(line).into_owned();
        let Some((name, value)) = line.split_once(':') else {
            let fault = Fault::new("A field line has no colon.", "Name: value", &escaped);
            self.blame(fault.kind("no colon").rule(
                "RFC 9112, section 5: a field line is a name, a colon and a value.",
            ));
            return;
        };
        let is_tchar =
            |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_tchar) {
            let fault =
                Fault::new("A field has no proper name.", "Name: value", &escaped);
            self.blame(fault.kind("name").rule(
                "RFC 9112, section 5.1: a field's name is a token, and no space is before the \
                 colon.",
            ));
        }
        if value.chars().any(|c| c.is_ascii_control() && c != '\t') {
            let what = "A field's value has a control character.";
            self.blame(
                Fault::new(what, "", &escaped)
                    .kind("value")
                    .rule("RFC 9110, section 5.5: CR, LF and NUL are not for values."),
            );
        }
        self.fields.push((name.trim().to_string(), value.trim().to_string()));
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|field| field.0.eq_ignore_ascii_case(name));
        found.map(|field| field.1.as_str())
    }

    /// What the content's length is said to be: a number, or what stands there instead.
    pub(crate) fn length(&self) -> Option<Result<usize, String>> {
        let length = self.field("Content-Length")?;
        let is_number = length.bytes().all(|byte| byte.is_ascii_digit());
        Some(length.parse().ok().filter(|_| is_number).ok_or_else(|| length.to_string()))
    }

    /// Whether it says that the connection ends with it (RFC 9112, section 9.3).
    pub(crate) fn says_close(&self) -> bool {
        let options = self.field("Connection").unwrap_or_default().to_ascii_lowercase();
        let has = |option| options.split(',').any(|known| known.trim() == option);
        has("close") || (self.line.starts_with("HTTP/1.0") && !has("keep-alive"))
    }

    pub(crate) fn is_chunked(&self) -> bool {
        self.field("Transfer-Encoding").is_some_and(|coding| coding.ends_with("chunked"))
    }

    /// Takes the chunks off, and what answers the next request. Says whether that has come.
    pub(crate) fn settle(&mut self, is_head: bool) -> bool {
        let lengths = self.fields.iter().filter(|(name, _)| {
            ["content-length", "transfer-encoding"].contains(&&*name.to_ascii_lowercase())
        });
        if lengths.count() > 1 {
            let what = "It says twice where the content ends.";
            self.blame(Fault::new(what, "", "").kind("two lengths").rule(
                "RFC 9112, section 6.2: no Content-Length where there is a Transfer-Encoding.",
            ));
        }
        let types = self.fields.iter();
        let types = types.filter(|(name, _)| name.eq_ignore_ascii_case("Content-Type"));
        if types.count() > 1 {
            let what = "It says twice what the content is.";
            self.blame(Fault::new(what, "", "").kind("two types").rule(
                "RFC 9110, section 8.3: Content-Type says what the content is, once.",
            ));
        }
        if is_head {
            let next = self.content.starts_with(b"HTTP/1.");
            if next {
                self.content.clear();
            }
            return next;
        }
        let size = if self.is_chunked() {
            let Some((content, size)) = unchunk(&self.content) else {
                let what = "The chunks are not well-formed.";
                let came = first_line(&self.content);
                self.blame(Fault::new(what, "", &came).kind("chunks").rule(
                    "RFC 9112, section 7.1: a chunk is its size in hexadecimal, CRLF, its bytes, \
                     CRLF; the last has size 0, and an empty line follows.",
                ));
                return false;
            };
            let rest = self.content.split_off(size);
            self.content = content;
            let is_next = rest.starts_with(b"HTTP/1.");
            if !rest.is_empty() && !is_next {
                let what = "More comes after the last chunk.";
                self.blame(Fault::new(what, "", &first_line(&rest)).kind("chunks"));
            }
            return is_next;
        } else {
            self.length().and_then(Result::ok).unwrap_or(usize::MAX)
        };
        let is_next =
            self.content.get(size..).is_some_and(|rest| rest.starts_with(b"HTTP/1."));
        if is_next {
            self.content.truncate(size);
        }
        if let Some(length) = self.length() {
            let size = self.content.len();
            if length != Ok(size) {
                let said = length.map_or_else(|text| text, |length| length.to_string());
                let what = format!("Content-Length says {said}, but {size} bytes came.");
                let (due, came) = (
                    format!("Content-Length: {size}"),
                    format!("Content-Length: {said}"),
                );
                self.blame(Fault::new(what, &due, &came).kind("length").rule(
                    "RFC 9110, section 8.6: Content-Length is the exact number of bytes.",
                ));
            }
        }
        is_next
    }
}

/// The first line of what came, escaped.
pub(crate) fn first_line(bytes: &[u8]) -> String {
    let end =
        bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
    escape(&bytes[..end.min(300)])
}

/// Whether an answer says where it ends, and has come so far.
pub(crate) fn is_complete(bytes: &[u8], is_head: bool) -> bool {
    let Ok(answer) = Answer::parse(bytes) else { return false };
    match answer.length() {
        _ if !answer.has_head => false,
        _ if is_head || answer.status == 204 || answer.status == 304 => true,
        Some(Ok(length)) => answer.content.len() >= length,
        Some(Err(_)) => true,
        None => answer.is_chunked() && unchunk(&answer.content).is_some(),
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
