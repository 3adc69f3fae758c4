//! Hostile clients, each followed by a good request, which must succeed.

use anyhow::Result;
use libtest_mimic::Trial;
use replayer::server::{Server, Step};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{trial, wait_until};

/// What a hostile client does with its connections.
type Abuse = fn(&Server) -> Result<()>;

/// The hostile clients, and from which step on one is fair.
const ABUSES: [(&str, &str, Abuse); 13] = [
    ("connect_and_close", "01", connect_and_close),
    ("connect_and_reset", "01", connect_and_reset),
    ("reset_in_the_middle", "01", reset_in_the_middle),
    ("zero_bytes", "01", |server| send(server, &[0; 10_000])),
    ("not_utf8", "01", |server| {
        send(server, b"\xff\xfe\xc0\x80 /\x9b2J HTTP/1.1\r\n\r\n")
    }),
    ("terminal_escapes", "01", |server| {
        send(server, b"GET /\x1b[2J\x07 HTTP/1.1\r\n\r\n")
    }),
    ("a_megabyte_without_a_line", "01", |server| send(server, &vec![b'a'; 1 << 20])),
    ("a_megabyte_of_empty_lines", "01", |server| send(server, &b"\r\n".repeat(1 << 19))),
    ("never_reads", "01", never_reads),
    ("a_flood_of_connections", "01", flood),
    ("stopped_at_every_byte", "03", stopped_at_every_byte),
    ("a_hundred_stalled_clients", "05", stalled),
    ("a_byte_a_second", "05", a_byte_a_second),
];

/// The tests of this step.
pub fn trials(step: &Step) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, first, abuse) in ABUSES {
        if *step.name < *first {
            continue;
        }
        let step = step.clone();
        trials.push(trial(format!("abuse::{}::{name}", step.name), move || {
            let server = Server::start(&step, "")?;
            abuse(&server)?;
            server.check()
        }));
    }
    trials
}

fn connect(server: &Server) -> Result<TcpStream> {
    Ok(TcpStream::connect(server.address)?)
}

fn reset(stream: TcpStream) -> Result<()> {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(())
}

/// Sends, closes its side, and reads to the end, whatever the server makes of it.
fn send(server: &Server, bytes: &[u8]) -> Result<()> {
    let mut stream = connect(server)?;
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
    Ok(())
}

fn connect_and_close(server: &Server) -> Result<()> {
    for _ in 0..20 {
        drop(connect(server)?);
    }
    let log = || String::from_utf8_lossy(&server.log()).into_owned();
    wait_until("twenty lines of log", || Ok(log().lines().count() == 20))?;
    anyhow::ensure!(!log().contains("Too Long"), "silence is not too long: {}", log());
    Ok(())
}

fn connect_and_reset(server: &Server) -> Result<()> {
    for _ in 0..20 {
        reset(connect(server)?)?;
    }
    Ok(())
}

fn reset_in_the_middle(server: &Server) -> Result<()> {
    for half in ["G", "GET / HT", "GET / HTTP/1.1\r\nHost: loc", "GET / HTTP/1.1\r\n\r\n"]
    {
        let mut stream = connect(server)?;
        stream.write_all(half.as_bytes())?;
        reset(stream)?;
    }
    Ok(())
}

/// Sends a thousand requests, and reads no answer.
fn never_reads(server: &Server) -> Result<()> {
    let mut stream = connect(server)?;
    stream.set_write_timeout(Some(Duration::from_millis(200)))?;
    for _ in 0..1000 {
        if stream.write_all(b"GET /headers HTTP/1.1\r\nHost: localhost\r\n\r\n").is_err()
        {
            break;
        }
    }
    Ok(())
}

fn flood(server: &Server) -> Result<()> {
    for _ in 0..10 {
        let streams: Vec<TcpStream> =
            (0..50).filter_map(|_| connect(server).ok()).collect();
        drop(streams);
    }
    Ok(())
}

/// Ctrl-Z and fg interrupt a read that has a timeout: the server must read on.
fn stopped_at_every_byte(server: &Server) -> Result<()> {
    let mut stream = connect(server)?;
    let stop = format!("kill -STOP {0}; kill -CONT {0}", server.pid);
    for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\n\r" {
        stream.write_all(&[*byte])?;
        anyhow::ensure!(Command::new("sh").args(["-c", &stop]).status()?.success());
    }
    stream.write_all(b"\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

fn stalled(server: &Server) -> Result<()> {
    let mut streams = Vec::new();
    for _ in 0..100 {
        let mut stream = connect(server)?;
        stream.write_all(b"GET / HTTP/1.1\r\nHos")?;
        streams.push(stream);
    }
    anyhow::ensure!(server.get()?.starts_with("HTTP/1.1 200"), "they stall others");
    Ok(())
}

/// Each byte comes before a read could time out: only a deadline for the whole ends it.
fn a_byte_a_second(server: &Server) -> Result<()> {
    let mut stream = connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let start = Instant::now();
    let mut answer = [0; 12];
    while stream.write_all(b"G").is_ok() && start.elapsed() < Duration::from_secs(15) {
        if stream.read_exact(&mut answer).is_ok() {
            anyhow::ensure!(answer == *b"HTTP/1.1 408", "{}", answer.escape_ascii());
            return Ok(());
        }
    }
    anyhow::bail!("no answer in {:?}", start.elapsed())
}
