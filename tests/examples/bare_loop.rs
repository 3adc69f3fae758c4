//! The least that a server can do: accept, read, write, close. The measure for the steps.

use std::io::{Read, Write};
use std::net::TcpListener;

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nHello, world!\n";

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("Listening on http://{}", listener.local_addr()?);
    let mut buffer = [0; 4096];
    for stream in listener.incoming() {
        let mut stream = stream?;
        let _ = stream.read(&mut buffer);
        let _ = stream.write_all(RESPONSE);
    }
    Ok(())
}
