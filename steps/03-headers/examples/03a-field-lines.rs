//! Stage 03a, field lines: the server hears all of the head before it answers.

use anyhow::{Context, Result, ensure};
use colored::{ColoredString, Colorize};
use std::io::{self, BufRead, BufReader, Read, Take, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::{env, process, thread, time::Duration, time::Instant};

/// What a request line may take, in bytes. RFC 9112, section 3, recommends at least 8000.
const MAX_REQUEST_LINE: u64 = 8192;
/// How wide a line of the log may get, in characters: an escaped byte takes up to six.
const WIDTH: usize = 10_000;
/// What all field lines together may take, in bytes: several times what browsers send.
const MAX_FIELD_LINES: u64 = 16384;

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
    let line = exchange(&mut stream).unwrap_or_else(|error| format!("{error:#}").red());
    writeln!(io::stdout(), "03 {peer} {line:.WIDTH$} after {:.1?}", start.elapsed()).ok();
}

/// Answers one request, and returns what to log of it.
pub fn exchange(stream: &mut (impl Read + Write)) -> Result<ColoredString> {
    let mut reader = BufReader::new(&mut *stream).take(MAX_REQUEST_LINE);
    let mut request = Request::default();
    request.read(&mut reader)?;
    let response = format!("HTTP/1.1 200 OK\r\n\r\n{}", describe(&request));
    stream.write_all(response.as_bytes())?;
    let asked = format!("{} {} {}", request.method, request.target, request.version);
    Ok(format!("{asked:?} 200, {} bytes", response.len()).green())
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
        result?;
        ensure!(is_token(&self.method), "{:?} is not a method", self.method);
        ensure!(is_target(&self.target), "{:?} is not a request target", self.target);
        let number = self.version.strip_prefix("HTTP/").unwrap_or_default();
        let is_number = matches!(number.as_bytes(), [b'0'..=b'9', b'.', b'0'..=b'9']);
        ensure!(is_number, "{:?} is not a version of HTTP", self.version);
        self.read_field_lines(reader)?;
        Ok(())
    }

    /// Reads the field lines, up to the empty line (RFC 9112, sections 5.1 and 5.2).
    fn read_field_lines(&mut self, reader: &mut Take<impl BufRead>) -> Result<()> {
        reader.set_limit(MAX_FIELD_LINES);
        let mut line = String::new();
        loop {
            read_line(reader, &mut line)?;
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
}

/// What the server has understood of a request, in words.
fn describe(request: &Request) -> String {
    let Request { method, target, version, .. } = request;
    format!("Method {method}, target {target}, version {version}.\n")
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
