//! Step 02, the request line: the server reads a whole line, and understands it.

use anyhow::{Result, bail, ensure};
use colored::{ColoredString, Colorize};
use std::io::{self, BufRead, BufReader, Read, Take, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::{env, process, time::Instant};

/// What a request line may take, in bytes. RFC 9112, section 3, recommends at least 8000.
const MAX_REQUEST_LINE: u64 = 8192;

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
        stream.map_or_else(|error| println!("cannot serve a client: {error}"), handle);
    }
}

/// Handles one connection. What goes wrong with it is logged, and goes no further.
fn handle(mut stream: TcpStream) {
    let start = Instant::now();
    let peer = stream.peer_addr().map_or("gone".to_string(), |peer| peer.to_string());
    let line = exchange(&mut stream).unwrap_or_else(|error| format!("{error:#}").red());
    writeln!(io::stdout(), "02 {peer} {line} after {:.1?}", start.elapsed()).ok();
}

/// Holds one conversation, and returns the line for the log.
pub fn exchange(stream: &mut (impl Read + Write)) -> Result<ColoredString> {
    let mut reader = BufReader::new(&mut *stream).take(MAX_REQUEST_LINE);
    let mut request = Request::default();
    request.read(&mut reader)?;
    let response = format!("HTTP/1.1 200 OK\r\n\r\n{}", describe(&request));
    stream.write_all(response.as_bytes())?;
    let asked = format!("{} {} {}", request.method, request.target, request.version);
    Ok(format!("{asked} 200, {} bytes", response.len()).green())
}

/// What a client asks for.
#[derive(Clone, Default)]
struct Request {
    method: String,
    target: String,
    version: String,
}

impl Request {
    /// Reads the request line, and skips empty lines before it (RFC 9112, section 2.2).
    fn read(&mut self, reader: &mut Take<impl BufRead>) -> Result<()> {
        let mut line = String::new();
        while line.is_empty() {
            line = read_line(reader)?;
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
        Ok(())
    }
}

/// What the server has understood of a request, in words.
fn describe(request: &Request) -> String {
    let Request { method, target, version } = request;
    format!("Method {method}, target {target}, version {version}.\n")
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
