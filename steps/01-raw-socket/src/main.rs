//! Step 01, a raw socket: whatever a client sends, it gets the same answer.

use anyhow::{Result, ensure};
use colored::{ColoredString, Colorize};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::{env, process, thread, time::Duration, time::Instant};

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
    writeln!(io::stdout(), "01 {peer} {line} after {:.1?}", start.elapsed()).ok();
}

/// Answers one request, and returns what to log of it.
pub fn exchange(stream: &mut (impl Read + Write)) -> Result<ColoredString> {
    const READ_SIZE: usize = 4096; // bytes, more than most browsers send for a page
    let mut buffer = [0; READ_SIZE];
    let size = stream.read(&mut buffer)?;
    ensure!(size > 0, "closed without a word");
    let response = "HTTP/1.1 200 OK\r\n\r\nHello, world!\n";
    stream.write_all(response.as_bytes())?;
    Ok(format!("{} 200, {} bytes", buffer[..size].escape_ascii(), response.len()).green())
}
