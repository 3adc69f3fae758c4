//! Stage 01a, the smallest thing that answers: the first client that breaks off ends it.

use anyhow::{Result, ensure};
use std::env;
use std::io::{Read, Write};
use std::net::TcpListener;

fn main() -> Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:7777".into());
    let listener = TcpListener::bind(address)?;
    println!("Listening on http://{}", listener.local_addr()?);
    serve(&listener)
}

/// Accepts one connection after another, for ever.
fn serve(listener: &TcpListener) -> Result<()> {
    for stream in listener.incoming() {
        exchange(&mut stream?)?;
    }
    Ok(())
}

/// Answers one request.
fn exchange(stream: &mut (impl Read + Write)) -> Result<()> {
    let mut buffer = [0; 4096];
    let size = stream.read(&mut buffer)?;
    ensure!(size > 0, "closed without a word");
    println!("01 {}", buffer[..size].escape_ascii());
    let response = "HTTP/1.1 200 OK\r\n\r\nHello, world!\n";
    stream.write_all(response.as_bytes())?;
    Ok(())
}
