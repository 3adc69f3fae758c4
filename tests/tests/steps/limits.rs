//! Arguments, and what a server costs: its memory, its threads and its descriptors.

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use replayer::server::{Server, Step};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::{trial, wait_until};

/// The tests of this step.
pub fn trials(step: &Step) -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut add = |name: &str, test: fn(&Step) -> Result<()>| {
        let step = step.clone();
        trials.push(trial(format!("limits::{}::{name}", step.name), move || test(&step)));
    };
    add("wrong_arguments", wrong_arguments);
    add("port_in_use", port_in_use);
    add("no_descriptor_for_anybody", no_descriptor_for_anybody);
    add("nobody_reads_the_log", nobody_reads_the_log);
    add("lines_of_log_are_bounded", lines_of_log_are_bounded);
    if cfg!(target_os = "linux") {
        add("the_log_is_full", the_log_is_full);
    }
    if *step.name >= *"04" {
        add("who_is_done_keeps_nobody", who_is_done_keeps_nobody);
    }
    if *step.name >= *"05" {
        add("no_descriptor_left", no_descriptor_left);
        if cfg!(target_os = "linux") {
            // Elsewhere there is no /proc to read, and `ulimit -v` limits nothing.
            add("no_thread_left", no_thread_left);
            add(
                "ten_thousand_requests_leave_nothing",
                ten_thousand_requests_leave_nothing,
            );
            add("a_thousand_idle_connections", a_thousand_idle_connections);
            add("more_silent_clients_than_threads", more_silent_clients_than_threads);
            add("who_had_time_is_let_go", who_had_time_is_let_go);
        }
    }
    trials
}

fn run(step: &Step, arguments: &[&str]) -> Result<Output> {
    Command::new(&step.binary).args(arguments).output().context("cannot run")
}

/// Checks the exit code, and that there is one line and no more, which says this.
fn expect(output: &Output, code: i32, says: &str) -> Result<()> {
    let text = String::from_utf8_lossy(&output.stderr);
    let is_so = output.status.code() == Some(code) && text.lines().count() == 1;
    ensure!(is_so && text.contains(says), "{}: {text}", output.status);
    Ok(())
}

fn wrong_arguments(step: &Step) -> Result<()> {
    for arguments in
        [&["somewhere"][..], &["127.0.0.1"], &["[::1]:99999"], &[""], &["--help"]]
    {
        expect(&run(step, arguments)?, 2, "Usage: ")?;
    }
    expect(&run(step, &["127.0.0.1:0", "127.0.0.1:0"])?, 2, "Usage: ")?;
    // An address of the documentation, which no machine has (RFC 5737).
    expect(&run(step, &["192.0.2.1:7777"])?, 1, "192.0.2.1:7777")
}

fn port_in_use(step: &Step) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let output = run(step, &[&address])?;
    expect(&output, 1, &format!("Cannot listen on {address}: Address already in use"))
}

/// Nobody can be accepted: the log says so once a second, and the server goes on.
fn no_descriptor_for_anybody(step: &Step) -> Result<()> {
    // Only standard input, output and error, and the socket that listens.
    let server = Server::start(step, "exec 3>&-; ulimit -n 4;")?;
    let _streams = idle(&server, 1)?;
    let start = Instant::now();
    wait_until("refusals", || Ok(refusals(&server) >= 3))?;
    ensure!(start.elapsed() > Duration::from_millis(1500), "a flood in the log");
    let log = String::from_utf8_lossy(&server.end()).into_owned();
    ensure!(!log.contains("panicked"), "{log}");
    Ok(())
}

/// As behind `| head -1`: the other end of standard output is closed.
fn nobody_reads_the_log(step: &Step) -> Result<()> {
    let mut child = Killed(
        Command::new(&step.binary).arg("127.0.0.1:0").stdout(Stdio::piped()).spawn()?,
    );
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().context("no output")?).read_line(&mut line)?;
    let address = line.trim_end().strip_prefix("Listening on http://").context("none")?;
    for _ in 0..3 {
        ask(address)?;
    }
    Ok(())
}

/// Not even the first line can be written.
fn the_log_is_full(step: &Step) -> Result<()> {
    for _ in 0..5 {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let full = fs::OpenOptions::new().write(true).open("/dev/full")?;
        let mut command = Command::new(&step.binary);
        let mut child = Killed(command.arg(&address).stdout(full).spawn()?);
        let mut has_ended = false;
        wait_until("a server that listens", || {
            has_ended = child.0.try_wait()?.is_some();
            Ok(has_ended || TcpStream::connect(&address).is_ok())
        })?;
        if !has_ended {
            return ask(&address).and_then(|()| ask(&address));
        }
        ensure!(child.0.wait()?.code() == Some(1), "{}", child.0.wait()?);
    }
    bail!("five free ports were taken by others") // Between our look and the server's.
}

/// Sends a good request, which must be answered.
fn ask(address: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /headers HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    Ok(())
}

/// A process that ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What must be escaped does not make a line much longer than what came.
fn lines_of_log_are_bounded(step: &Step) -> Result<()> {
    let server = Server::start(step, "")?;
    let controls = "\x01".repeat(16_000);
    for request in [
        format!("GET / HTTP/1.1\r\nX-Mood: {controls}\r\n\r\n"),
        format!("GET /{controls} HTTP/1.1\r\n\r\n"),
        format!("{controls} / HTTP/1.1\r\n\r\n"),
    ] {
        let mut stream = TcpStream::connect(server.address)?;
        stream.write_all(request.as_bytes())?;
        let _ = stream.read_to_end(&mut Vec::new()); // The answer may be lost.
    }
    wait_until("three lines of log", || {
        Ok(server.log().iter().filter(|byte| **byte == b'\n').count() == 3)
    })?;
    let log = String::from_utf8_lossy(&server.log()).into_owned();
    let longest = log.lines().map(str::len).max().unwrap_or(0);
    ensure!(longest < 17_000, "a line of {longest} bytes");
    server.check()
}

/// Who has its answer and stays connected keeps nobody else from theirs.
fn who_is_done_keeps_nobody(step: &Step) -> Result<()> {
    let server = Server::start(step, "")?;
    let start = Instant::now();
    for request in [
        "GET /headers HTTP/1.1\r\nContent-Length: 0",
        "GET /nowhere HTTP/1.1",
        "BREW / HTTP/1.1",
    ] {
        let mut stream = TcpStream::connect(server.address)?;
        stream.write_all(format!("{request}\r\nHost: localhost\r\n\r\n").as_bytes())?;
        stream.read_to_end(&mut Vec::new())?;
        server.get()?;
    }
    let time = start.elapsed();
    ensure!(time < Duration::from_secs(5), "it lingers: {time:?}");
    server.check()
}

/// Connections that stay open, and say nothing.
fn idle(server: &Server, count: usize) -> Result<Vec<TcpStream>> {
    (0..count).map(|_| Ok(TcpStream::connect(server.address)?)).collect()
}

/// Connections that stay open and say nothing, each with its thread: not so many at a time that
/// they would not fit into the queue before accept.
fn threads(server: &Server, count: usize) -> Result<Vec<TcpStream>> {
    let mut streams = Vec::new();
    while streams.len() < count {
        streams.extend(idle(server, 100)?);
        let threads = streams.len() as u64;
        wait_until("a hundred threads", || Ok(status(server, "Threads:")? > threads))?;
    }
    Ok(streams)
}

/// A line of a process's status in /proc: a number, for memory in KiB.
fn status(server: &Server, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("no {name} in /proc"))
}

fn descriptors(server: &Server) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", server.pid))?.count())
}

/// The lines of the log that say that a connection could not be served.
fn refusals(server: &Server) -> usize {
    String::from_utf8_lossy(&server.log()).matches("cannot serve").count()
}

/// Fills a server to the brim, and checks that it says so a few times, and recovers.
fn survive(step: &Step, limit: &str, clients: usize) -> Result<()> {
    let server = Server::start(step, limit)?;
    let streams = idle(&server, clients)?;
    wait_until("refusals", || Ok(refusals(&server) >= 2))?;
    ensure!(refusals(&server) <= 4, "a flood in the log");
    drop(streams);
    // Those who have left still wait to be accepted, and may take the place of the next.
    wait_until("an answer", || Ok(server.get().is_ok_and(|answer| !answer.is_empty())))?;
    server.check()
}

fn no_descriptor_left(step: &Step) -> Result<()> {
    survive(step, "ulimit -n 12;", 30)
}

/// A thread takes 100 MB of address space here, so that there is room for a few.
fn no_thread_left(step: &Step) -> Result<()> {
    survive(step, "export RUST_MIN_STACK=100000000; ulimit -v 800000;", 30)
}

fn a_thousand_idle_connections(step: &Step) -> Result<()> {
    let server = Server::start(step, "")?;
    let streams = threads(&server, 1000)?;
    let memory = status(&server, "VmRSS:")?;
    ensure!(memory < 40 * 1024, "{memory} KiB for a thousand idle connections");
    drop(streams);
    wait_until("one thread", || Ok(status(&server, "Threads:")? == 1))?;
    server.check()
}

fn more_silent_clients_than_threads(step: &Step) -> Result<()> {
    let server = Server::start(step, "ulimit -n 4096;")?;
    let log = || String::from_utf8_lossy(&server.log()).into_owned();
    let mut streams = threads(&server, 1500)?;
    streams.extend(idle(&server, 100)?);
    wait_until("a full house", || {
        Ok(log().contains("1500 threads: the next client waits"))
    })?;
    let threads = status(&server, "Threads:")?;
    ensure!(threads <= 1501, "{threads} threads");
    let start = Instant::now();
    ensure!(server.get()?.starts_with("HTTP/1.1 200"), "no answer");
    let time = start.elapsed();
    ensure!(time < Duration::from_secs(8), "an answer after {time:?}");
    drop(streams);
    wait_until("one thread", || Ok(status(&server, "Threads:")? == 1))?;
    server.check()
}

/// A client that has got its 408 holds no thread, even if it stays connected.
fn who_had_time_is_let_go(step: &Step) -> Result<()> {
    let server = Server::start(step, "")?;
    let _streams = idle(&server, 1)?;
    let has_408 = || String::from_utf8_lossy(&server.log()).contains(" 408, ");
    wait_until("a 408", || Ok(has_408()))?;
    let start = Instant::now();
    wait_until("one thread", || Ok(status(&server, "Threads:")? == 1))?;
    let time = start.elapsed();
    ensure!(time < Duration::from_secs(4), "it lingers: {time:?}");
    server.check()
}

fn ten_thousand_requests_leave_nothing(step: &Step) -> Result<()> {
    let server = Server::start(step, "")?;
    let count = |number: usize| -> Result<()> {
        for _ in 0..number {
            ensure!(server.get()?.starts_with("HTTP/1.1 200"), "no answer");
        }
        wait_until("one thread", || Ok(status(&server, "Threads:")? == 1))
    };
    count(1000)?;
    let (memory, files) = (status(&server, "VmRSS:")?, descriptors(&server)?);
    count(9000)?;
    let (memory_now, files_now) = (status(&server, "VmRSS:")?, descriptors(&server)?);
    ensure!(files_now == files, "{files} descriptors became {files_now}");
    ensure!(memory_now <= memory + 512, "{memory} KiB became {memory_now}");
    Ok(())
}
