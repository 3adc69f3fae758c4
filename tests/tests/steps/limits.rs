//! Arguments, and what a server costs: its memory, its threads and its descriptors.

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use replayer::server::{Server, Step};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};

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

/// Connections that stay open, and say nothing.
fn idle(server: &Server, count: usize) -> Result<Vec<TcpStream>> {
    (0..count).map(|_| Ok(TcpStream::connect(server.address)?)).collect()
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
    let streams = idle(&server, 1000)?;
    wait_until("a thousand threads", || Ok(status(&server, "Threads:")? > 1000))?;
    let memory = status(&server, "VmRSS:")?;
    ensure!(memory < 64 * 1024, "{memory} KiB for a thousand idle connections");
    drop(streams);
    wait_until("one thread", || Ok(status(&server, "Threads:")? == 1))?;
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
