//! Step 05, a thread per connection: no client waits for another.

use anyhow::{Context, Result, bail, ensure};
use colored::{ColoredString, Colorize};
use std::io::{self, BufRead, BufReader, Read, Take, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::{env, process, time::Instant};
use std::{fmt, net::Shutdown, time::Duration};

/// What a request line may take, in bytes. RFC 9112, section 3, recommends at least 8000.
const MAX_REQUEST_LINE: u64 = 8192;
/// What all field lines together may take, in bytes: several times what browsers send.
const MAX_FIELD_LINES: u64 = 16384;
/// How much may still come after the answer, in bytes: a large photograph.
const MAX_LINGER: u64 = 16_000_000;
/// How long it may still come: a megabyte takes ten seconds on a slow line.
const LINGER_TIME: Duration = Duration::from_secs(10);
/// How long a request may take, and then its response: short enough to watch in class.
const EXCHANGE_TIME: Duration = Duration::from_secs(6);
/// How long to wait, and not to fill the log, when there is no thread or descriptor left.
const RETRY_TIME: Duration = Duration::from_secs(1);
const ALLOW: (&str, &str) = ("Allow", "GET, HEAD");
const HTML: (&str, &str) = ("Content-Type", "text/html; charset=utf-8");
const TEXT: (&str, &str) = ("Content-Type", "text/plain; charset=utf-8");
const WELCOME: &str = "<!DOCTYPE html><html lang=en><title>From Socket to Server</title>
<meta name=viewport content='width=device-width'>
<style>html { color-scheme: light dark; font: 20px serif; margin: 9% }</style>
<h1>Hello, world!</h1>
<p>See <a href=/headers>what you sent</a>, or get <a href=/coffee>coffee</a>.\n";

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
    println!("Listening on http://{}", listener.local_addr().unwrap_or(address));
    serve(&listener);
}

/// Accepts one connection after another, for ever.
fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        // thread::spawn would panic when there is no thread to be had.
        let spawn = |stream| thread::Builder::new().spawn(|| handle(stream));
        if let Err(error) = stream.and_then(spawn) {
            writeln!(io::stdout(), "cannot serve a client: {error}").ok();
            thread::sleep(RETRY_TIME);
        }
    }
}

/// Handles one connection. What goes wrong with it is logged, and goes no further.
fn handle(stream: TcpStream) {
    let start = Instant::now();
    let peer = stream.peer_addr().map_or("gone".to_string(), |peer| peer.to_string());
    let mut stream = Timed { stream, deadline: start + EXCHANGE_TIME };
    let result = exchange(&mut stream);
    let may_go_on = result.is_err(); // Who is refused may still be sending.
    let line = result.unwrap_or_else(|error| format!("{error:#}").red());
    writeln!(io::stdout(), "05 {peer} {line} after {:.1?}", start.elapsed()).ok();
    if may_go_on {
        linger(stream.stream).ok(); // Its own error changes nothing: the answer is out.
    }
}

/// Holds one conversation, and returns the line for the log.
pub fn exchange(stream: &mut (impl Read + Write)) -> Result<ColoredString> {
    let mut reader = BufReader::new(&mut *stream).take(MAX_REQUEST_LINE);
    let mut request = Request::default();
    let page =
        request.read(&mut reader).and_then(|()| route(&request)).or_else(refuse)?;
    let content = if request.method == "HEAD" { "" } else { &page.content };
    let response = head(&page) + content;
    stream.write_all(response.as_bytes())?;
    let asked = format!("{} {} {}", request.method, request.target, request.version);
    let line = format!("{} {}, {} bytes", asked.trim(), page.status.0, response.len());
    ensure!(page.status.0 < 400, "{line}: {}", page.content.trim_end());
    ensure!(request.values("Content-Length").is_empty(), "{line}: content not read");
    Ok(line.green())
}

/// What a client asks for.
#[derive(Clone, Default)]
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
        while line.is_empty() {
            line = read_line(reader).context(Status::URI_TOO_LONG)?;
        }
        let parts: Vec<&str> = line.split(' ').collect();
        let [method, target, version] = parts[..] else {
            bail!("{line:?} is not a request line");
        };
        ensure!(is_token(method), "{method:?} is not a method");
        let is_visible = target.chars().all(|c| c.is_ascii_graphic());
        ensure!(is_visible && !target.is_empty(), "{target:?} is not a request target");
        let number = version.strip_prefix("HTTP/").unwrap_or_default();
        let is_number = matches!(number.as_bytes(), [b'0'..=b'9', b'.', b'0'..=b'9']);
        ensure!(is_number, "{version:?} is not a version of HTTP");
        [self.method, self.target, self.version] =
            [method, target, version].map(String::from);
        self.read_field_lines(reader)
    }

    /// Reads the field lines, up to the empty line (RFC 9112, sections 5.1 and 5.2).
    fn read_field_lines(&mut self, reader: &mut Take<impl BufRead>) -> Result<()> {
        reader.set_limit(MAX_FIELD_LINES);
        loop {
            let line = read_line(reader).context(Status::FIELDS_TOO_LARGE)?;
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
        let fits = |c: char| c.is_ascii_graphic() && !"/?#@<>{}|^`".contains(c);
        ensure!(hosts.concat().chars().all(fits), "{hosts:?} is not a host");
        let lengths = self.values("Content-Length");
        ensure!(lengths.len() < 2, "more than one Content-Length field");
        let is_number = lengths.concat().chars().all(|c| c.is_ascii_digit());
        ensure!(is_number && lengths != [""], "{lengths:?} is not a length");
        let codings = self.values("Transfer-Encoding");
        ensure!(codings.is_empty() || lengths.is_empty(), "two ways to end the content");
        ensure!(codings.is_empty(), Status::NOT_IMPLEMENTED);
        Ok(())
    }

    /// The path of the target, without host and query (RFC 9112, section 3.2).
    fn path(&self) -> Result<&str> {
        let (path, _query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        if path.starts_with('/') || (self.target == "*" && self.method == "OPTIONS") {
            return Ok(path);
        }
        let (scheme, rest) = path.split_once("://").unwrap_or_default();
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_absolute = scheme.eq_ignore_ascii_case("http") && !host.is_empty();
        ensure!(is_absolute, "{:?} is not a request target", self.target);
        Ok(if path.is_empty() { "/" } else { path })
    }
}

/// The answer to a whole request: to HEAD as to GET (RFC 9110, section 9.3.2).
fn route(request: &Request) -> Result<Response> {
    request.check()?;
    let Request { method, target, .. } = request;
    let as_get = Request { method: "GET".to_string(), ..request.clone() };
    let known = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE"];
    ensure!(known.contains(&method.as_str()), Status::NOT_IMPLEMENTED);
    let (status, field, content) = match request.path()? {
        "/" => (Status::OK, HTML, WELCOME.to_string()),
        "/headers" => (Status::OK, TEXT, describe(&as_get)),
        "/coffee" => (Status::TEAPOT, TEXT, "short and stout\n".to_string()),
        "*" => (Status::OK, ALLOW, String::new()),
        _ => bail!(Status::NOT_FOUND),
    };
    ensure!(method == "GET" || method == "HEAD" || target == "*", Status::NOT_ALLOWED);
    Ok(Response { status, fields: vec![field], content })
}

/// The answer to what went wrong. A connection that broke off gets none.
fn refuse(error: anyhow::Error) -> Result<Response> {
    // A read that takes too long ends in one or the other, as the system likes.
    let kind = error.downcast_ref().map(io::Error::kind);
    if let Some(io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) = kind {
        return refuse(anyhow::Error::msg(Status::REQUEST_TIMEOUT));
    }
    ensure!(!error.is::<io::Error>(), "{}", error.root_cause());
    let status = *error.downcast_ref().unwrap_or(&Status::BAD_REQUEST);
    let fields = if status.0 == 405 { vec![TEXT, ALLOW] } else { vec![TEXT] };
    Ok(Response { status, fields, content: format!("{error:#}\n") })
}

/// What the server has understood of a request, in words.
fn describe(request: &Request) -> String {
    let Request { method, target, version, fields } = request;
    let mut content = format!("Method {method}, target {target}, version {version}.\n");
    content += &format!("You call me {}.\n", request.values("Host").join(" and "));
    for (name, value) in fields {
        content += &format!("{name}: {value}\n");
    }
    content
}

/// What goes back to the client.
struct Response {
    status: Status,
    fields: Vec<(&'static str, &'static str)>,
    content: String,
}

/// A status code and its reason phrase (RFC 9110, section 15; RFC 6585 for 431).
#[derive(Clone, Copy, Debug)]
struct Status(u16, &'static str);

impl Status {
    const OK: Status = Status(200, "OK");
    const BAD_REQUEST: Status = Status(400, "Bad Request");
    const NOT_FOUND: Status = Status(404, "Not Found");
    const NOT_ALLOWED: Status = Status(405, "Method Not Allowed");
    const REQUEST_TIMEOUT: Status = Status(408, "Request Timeout");
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
    let Response { status, fields, content } = response;
    let mut head = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in fields {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n", content.len());
    head += "Connection: close\r\n";
    head + "\r\n"
}

/// Reads a line, however many reads that takes, and cuts off its CRLF, or a lone LF.
fn read_line(reader: &mut Take<impl BufRead>) -> Result<String> {
    let mut bytes = Vec::new();
    reader.read_until(b'\n', &mut bytes)?;
    let Some(line) = bytes.strip_suffix(b"\n") else {
        ensure!(reader.limit() > 0, "more bytes than the limit allows");
        bail!(io::Error::other("closed before the end of a line")); // No request at all.
    };
    let line = line.strip_suffix(b"\r").unwrap_or(line); // RFC 9112, section 2.2
    Ok(String::from_utf8_lossy(line).into_owned())
}

/// Whether the text is a token (RFC 9110, section 5.6.2), as a method is.
fn is_token(text: &str) -> bool {
    let is_tchar = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(is_tchar)
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

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        // The response has a time of its own, after that of the request.
        let left = (self.deadline + EXCHANGE_TIME).checked_duration_since(Instant::now());
        self.stream.set_write_timeout(Some(left.ok_or(io::ErrorKind::TimedOut)?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
