//! Sends a photograph of a megabyte where nobody wants one, thirty times, and counts the answers
//! that it hears. It sends all of a request before it looks for the answer, and gives up when it
//! cannot: many programs do.
//!
//!     cargo run --example photograph -- 127.0.0.1:7777

use std::io::{Read, Write};
use std::net::TcpStream;
use std::{env, process};

/// How large the photograph is, in bytes.
const SIZE: usize = 1_048_576;
/// How often it is sent.
const TIMES: usize = 30;

fn main() {
    let Some(address) = env::args().nth(1) else {
        eprintln!("Usage: cargo run --example photograph -- 127.0.0.1:7777");
        process::exit(2);
    };
    let mut heard = 0;
    for number in 1..=TIMES {
        let answer = ask(&address);
        heard += usize::from(answer.is_ok());
        let line = answer.unwrap_or_else(|problem| problem);
        println!("{number}: {line}");
    }
    println!("Heard {heard} of {TIMES} answers.");
}

/// Sends the photograph, and returns the first line of the answer, or why there is none.
fn ask(address: &str) -> Result<String, String> {
    let connected = TcpStream::connect(address);
    let mut stream = connected.map_err(|error| format!("cannot connect: {error}"))?;
    let head = format!(
        "POST /nowhere HTTP/1.1\r\nHost: {address}\r\nContent-Length: {SIZE}\r\n\r\n"
    );
    let sent = stream.write_all(head.as_bytes());
    let sent = sent.and_then(|()| stream.write_all(&[b'x'; SIZE]));
    sent.map_err(|error| format!("could not send it all: {error}"))?;
    let mut answer = Vec::new();
    let result = stream.read_to_end(&mut answer); // What has come before an error is kept.
    match String::from_utf8_lossy(&answer).lines().next() {
        Some(status) => Ok(status.to_string()),
        None => Err(format!("no answer: {result:?}")),
    }
}
