//! Stage 04d, rules: a request that breaks one is told which.

use anyhow::{Context, Result, bail, ensure};
use colored::{ColoredString, Colorize};
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Take, Write};
use std::net::{Ipv6Addr, Shutdown};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::{env, process, thread, time::Duration, time::Instant};

/// What a request line may take, in bytes. RFC 9112, section 3, recommends at least 8000.
const MAX_REQUEST_LINE: u64 = 8192;
/// How wide a line of the log may get, in characters: an escaped byte takes up to six.
const WIDTH: usize = 10_000;
/// What all field lines together may take, in bytes: several times what browsers send.
const MAX_FIELD_LINES: u64 = 16384;
/// How much may still come after the answer, in bytes: a large photograph.
const MAX_LINGER: u64 = 16_000_000;
/// How long it may still come: who is slower than that may miss the answer.
const LINGER_TIME: Duration = Duration::from_secs(10);
const TEXT: &str = "Content-Type: text/plain; charset=utf-8\r\n";

/// Listens on the address given as the only argument, or on port 7777 of this machine.
fn main() {
    let mut arguments = env::args_os().skip(1);
    let argument = arguments.next().unwrap_or("127.0.0.1:7777".into());
    let address = argument.to_string_lossy().parse::<SocketAddr>();
    let (Ok(address), None) = (address, arguments.next()) else {
        eprintln!("Usage: at most one IP address and port: 127.0.0.1:7777 or [::1]:8080");
        process::exit(2);
    };
    let listener = TcpListener::bind(address).unwrap_or_else(|error| {
        eprintln!("Cannot listen on {address}: {error}. Try 127.0.0.1:0, a free port.");
        process::exit(1);
    });
    let address = listener.local_addr().unwrap_or(address);
    writeln!(io::stdout(), "Listening on http://{address}").ok();
    serve(&listener);
}

/// Accepts one connection after another, for ever.
fn serve(listener: &TcpListener) {
    const RETRY_TIME: Duration = Duration::from_secs(1); // or it would fill the log
    for stream in listener.incoming() {
        if let Err(error) = stream.map(handle) {
            writeln!(io::stdout(), "cannot serve a client: {error}").ok();
            thread::sleep(RETRY_TIME);
        }
    }
}

/// Handles one connection. What goes wrong with it is logged, and goes no further.
fn handle(mut stream: TcpStream) {
    let start = Instant::now();
    let peer = stream.peer_addr().map_or("gone".to_string(), |peer| peer.to_string());
    let result = exchange(&mut stream);
    let (line, next) =
        result.unwrap_or_else(|error| (format!("{error:#}").red(), Next::Close));
    writeln!(io::stdout(), "04 {peer} {line:.WIDTH$} after {:.1?}", start.elapsed()).ok();
    if let Next::Linger = next {
        linger(stream).ok(); // Its own error changes nothing: the answer is out.
    }
}

/// Answers one request, and returns what to log of it.
pub fn exchange(stream: &mut (impl Read + Write)) -> Result<(ColoredString, Next)> {
    let mut reader = BufReader::new(&mut *stream).take(MAX_REQUEST_LINE);
    let mut request = Request::default();
    let read = request.read(&mut reader);
    let is_whole = read.is_ok() && !request.has_content();
    let next = if is_whole { Next::Close } else { Next::Linger };
    let page = read.and_then(|()| route(&request)).or_else(refuse)?;
    let is_head = request.method == "HEAD" && page.status.0 >= 400;
    let content = if is_head { "" } else { &page.content };
    let response = head(&page) + content;
    stream.write_all(response.as_bytes())?;
    let asked = format!("{} {} {}", request.method, request.target, request.version);
    let line = format!("{:?} {}, {} bytes", asked.trim(), page.status.0, response.len());
    if page.status.0 >= 400 {
        return Ok((format!("{line}: {}", page.content.trim_end()).red(), next));
    }
    Ok((line.green(), next))
}

/// What to do with a connection after an answer.
pub enum Next {
    /// Close it.
    Close,
    /// Let the client close first, as it may still be sending what nobody will read.
    Linger,
}

/// What a client asks for.
#[derive(Default)]
struct Request {
    method: String,
    target: String,
    version: String,
    fields: Vec<(String, String)>,
}

impl Request {
    /// Reads the request line, and skips empty lines before it (RFC 9112, section 2.2).
    fn read(&mut self, reader: &mut Take<impl BufRead>) -> Result<()> {
        let mut line = String::new();
        let mut result = Ok(());
        while line.is_empty() && result.is_ok() {
            result = read_line(reader, &mut line);
        }
        let mut parts = line.splitn(3, ' ').map(String::from);
        self.method = parts.next().unwrap_or_default();
        self.target = parts.next().unwrap_or_default();
        self.version = parts.next().unwrap_or_default();
        let is_empty = [&self.method, &self.target, &self.version].map(String::is_empty);
        let too_long = match is_empty {
            [false, true, true] => Status::NOT_IMPLEMENTED, // RFC 9112, section 3
            [false, false, true] => Status::URI_TOO_LONG,
            _ => Status::BAD_REQUEST,
        };
        result.context(too_long)?;
        ensure!(is_token(&self.method), "{:?} is not a method", self.method);
        ensure!(is_target(&self.target), "{:?} is not a request target", self.target);
        let number = self.version.strip_prefix("HTTP/").unwrap_or_default();
        let is_number = matches!(number.as_bytes(), [b'0'..=b'9', b'.', b'0'..=b'9']);
        ensure!(is_number, "{:?} is not a version of HTTP", self.version);
        self.read_field_lines(reader)?;
        self.check()
    }

    /// Reads the field lines, up to the empty line (RFC 9112, sections 5.1 and 5.2).
    fn read_field_lines(&mut self, reader: &mut Take<impl BufRead>) -> Result<()> {
        reader.set_limit(MAX_FIELD_LINES);
        let mut line = String::new();
        loop {
            read_line(reader, &mut line).context(Status::FIELDS_TOO_LARGE)?;
            if line.is_empty() {
                return Ok(());
            }
            let (name, value) = line.split_once(':').context("a field needs a colon")?;
            ensure!(is_token(name), "{name:?} is not a field name");
            let is_clean = value.chars().all(|c| c == '\t' || !c.is_ascii_control());
            ensure!(is_clean, "{value:?} is not a field value"); // RFC 9110, section 5.5
            self.fields.push((name.to_string(), value.trim_ascii().to_string()));
        }
    }

    /// All values of this field. The case of its name is ignored (RFC 9110, section 5.1).
    fn values(&self, name: &str) -> Vec<&str> {
        let same = self.fields.iter().filter(|field| field.0.eq_ignore_ascii_case(name));
        same.map(|field| field.1.as_str()).collect()
    }

    /// Checks the rules for every request (RFC 9112, sections 2.3, 3.2, 6.1 and 6.3).
    fn check(&self) -> Result<()> {
        ensure!(self.version.starts_with("HTTP/1."), Status::VERSION_NOT_SUPPORTED);
        let hosts = self.values("Host");
        ensure!(hosts.len() < 2, "more than one Host field");
        ensure!(hosts.len() == 1 || self.version == "HTTP/1.0", "there is no Host field");
        ensure!(hosts.iter().copied().all(is_host), "{hosts:?} is not a host");
        let lengths = self.values("Content-Length");
        ensure!(lengths.len() < 2, "more than one Content-Length field");
        let is_number = lengths.concat().chars().all(|c| c.is_ascii_digit());
        let fits = |length: &&str| (1..20).contains(&length.len()); // into 64 bits
        ensure!(is_number && lengths.iter().all(fits), "{lengths:?} is not a length");
        if let Some(codings) = self.values("Transfer-Encoding").last() {
            ensure!(lengths.is_empty(), "two ways to end the content");
            let last = codings.rsplit(',').next().unwrap_or_default().trim_ascii();
            ensure!(last.eq_ignore_ascii_case("chunked"), "no way to end the content");
            ensure!(self.version != "HTTP/1.0", "chunks came with HTTP/1.1");
            bail!(Status::NOT_IMPLEMENTED);
        }
        Ok(())
    }

    /// Whether content follows the head (RFC 9112, section 6.3).
    fn has_content(&self) -> bool {
        self.values("Content-Length").iter().any(|length| length.parse() != Ok(0_u64))
    }
}

/// The answer to a whole request.
fn route(request: &Request) -> Result<Response> {
    let Request { method, .. } = request;
    let known = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE"];
    ensure!(known.contains(&method.as_str()), Status::NOT_IMPLEMENTED);
    let page = match request.target.as_str() {
        "/coffee" => Response::new(Status::TEAPOT, TEXT, "short and stout\n"),
        _ => Response::new(Status::OK, TEXT, &describe(request)),
    };
    Ok(page)
}

/// The answer to what went wrong. A connection that broke off gets none.
fn refuse(error: anyhow::Error) -> Result<Response> {
    ensure!(!error.is::<io::Error>(), "{}", error.root_cause());
    let status = *error.downcast_ref().unwrap_or(&Status::BAD_REQUEST);
    Ok(Response::new(status, TEXT, &format!("{error:#}\n")))
}

/// What the server has understood of a request, in words.
fn describe(request: &Request) -> String {
    let Request { method, target, version, fields, .. } = request;
    let mut content = format!("Method {method}, target {target}, version {version}.\n");
    let host = request.values("Host").join(" and ");
    content += &format!("You call me {host}.\n");
    for (name, value) in fields {
        content += &format!("{name}: {value}\n");
    }
    content
}

/// What goes back to the client.
struct Response {
    status: Status,
    fields: String,
    content: String,
}

impl Response {
    /// A response with these field lines, each with its CRLF, and this content.
    fn new(status: Status, fields: &str, content: &str) -> Response {
        Response { status, fields: fields.to_string(), content: content.to_string() }
    }
}

/// A status code and its reason phrase (RFC 9110, section 15; RFC 6585 for 431).
#[derive(Clone, Copy, Debug)]
struct Status(u16, &'static str);

impl Status {
    const OK: Status = Status(200, "OK");
    const BAD_REQUEST: Status = Status(400, "Bad Request");
    const URI_TOO_LONG: Status = Status(414, "URI Too Long");
    const TEAPOT: Status = Status(418, "I'm a teapot");
    const FIELDS_TOO_LARGE: Status = Status(431, "Request Header Fields Too Large");
    const NOT_IMPLEMENTED: Status = Status(501, "Not Implemented");
    const VERSION_NOT_SUPPORTED: Status = Status(505, "HTTP Version Not Supported");
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{} {}", self.0, self.1)
    }
}

/// The head of the response, which says how to read the content (RFC 9110, section 8).
fn head(response: &Response) -> String {
    let Response { status, fields, content, .. } = response;
    let mut head = format!("HTTP/1.1 {status}\r\n{fields}");
    head += &format!("Content-Length: {}\r\n", content.len());
    head += "Connection: close\r\n";
    head + "\r\n"
}

/// Reads a line without its CRLF, or LF, however many reads that takes; or as far as it came.
fn read_line(reader: &mut Take<impl BufRead>, line: &mut String) -> Result<()> {
    let mut bytes = Vec::new();
    let result = reader.read_until(b'\n', &mut bytes);
    let is_whole = bytes.ends_with(b"\n");
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let text = text.strip_suffix(b"\r").unwrap_or(text); // RFC 9112, section 2.2
    *line = String::from_utf8_lossy(text).into_owned();
    result?;
    ensure!(is_whole || reader.limit() > 0, "more bytes than the limit allows");
    ensure!(is_whole, io::Error::other("closed before the end of a line")); // No request.
    Ok(())
}

/// Whether the text is a token (RFC 9110, section 5.6.2), as a method is.
fn is_token(text: &str) -> bool {
    let is_tchar = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(is_tchar)
}

/// Whether the text may be a request target (RFC 3986, section 2, but for the `#`).
fn is_target(text: &str) -> bool {
    let fits =
        |c: char| c.is_ascii_alphanumeric() || "-._~:/?[]@!$&'()*+,;=%".contains(c);
    let mut codes = text.split('%').skip(1).map(|code| code.bytes().take(2));
    let is_encoded = codes.all(|code| code.filter(u8::is_ascii_hexdigit).count() == 2);
    !text.is_empty() && text.chars().all(fits) && is_encoded
}

/// Whether the text is a host, with or without a port (RFC 3986, sections 3.2.2 and 3.2.3).
fn is_host(text: &str) -> bool {
    let name = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let name = name.strip_suffix(':').unwrap_or(text);
    if let Some(rest) = name.strip_prefix('[') {
        return rest.strip_suffix(']').is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok());
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=%".contains(c);
    name.is_empty() || (is_target(name) && name.chars().all(fits))
}

/// Lets the client close first: a reset could destroy the answer (RFC 9112, section 9.6).
fn linger(stream: TcpStream) -> io::Result<u64> {
    stream.shutdown(Shutdown::Write)?;
    let timed = Timed { stream, deadline: Instant::now() + LINGER_TIME };
    io::copy(&mut timed.take(MAX_LINGER), &mut io::sink())
}

/// A connection that waits for the client until a deadline, and no longer.
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.checked_duration_since(Instant::now());
        self.stream.set_read_timeout(Some(left.ok_or(io::ErrorKind::TimedOut)?))?;
        self.stream.read(buffer)
    }
}
