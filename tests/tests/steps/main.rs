//! Every session against every step, the same split in every way, and hostile clients.
//!
//! `UPDATE_SESSIONS=1 cargo test --test steps` rewrites the answers in the session files from
//! what the steps really say.

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::{Arguments, Trial};
use memory::{EXCHANGES, Exchange, Memory};
use replayer::replay::{Typing, play, record};
use replayer::server::{Server, Step, build, root};
use replayer::session::{Event, Line, Session, escape, read_all};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

mod abuse;
mod limits;
#[path = "../memory/mod.rs"]
mod memory;

fn main() {
    // Sixteen tests at a time, a thousand connections in one of them.
    let _ = rlimit::increase_nofile_limit(8192);
    let result = build().and_then(|steps| {
        let names: Vec<String> = steps.iter().map(|step| step.name.clone()).collect();
        let sessions = read_all(&root().join("tests/sessions"), &names)?;
        let in_memory = EXCHANGES.map(|(name, _)| name.to_string());
        ensure!(
            names[1..] == in_memory,
            "tests/tests/memory/mod.rs lacks a step: {names:?}"
        );
        Ok((steps, sessions))
    });
    let (steps, sessions) = result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        process::exit(1);
    });
    if env::var_os("UPDATE_SESSIONS").is_some() {
        update(&steps, sessions);
        return;
    }
    let mut arguments = Arguments::from_args();
    // The tests wait more than they compute.
    arguments.test_threads.get_or_insert(16);
    libtest_mimic::run(&arguments, trials(&steps, sessions)).exit();
}

/// All tests, first those that wait longest.
fn trials(steps: &[Step], sessions: Vec<Session>) -> Vec<Trial> {
    let sessions: Vec<Arc<Session>> = sessions.into_iter().map(Arc::new).collect();
    let mut trials = Vec::new();
    for step in steps.iter().rev() {
        for session in &sessions {
            let (name, step, session) =
                (&session.name, step.clone(), Arc::clone(session));
            let test = format!("sessions::{}::{name}", step.name);
            trials.push(trial(test, move || replay(&step, &session, Typing::AtOnce)));
        }
        trials.extend(abuse::trials(step));
        trials.extend(limits::trials(step));
    }
    for (step, session) in
        steps.iter().rev().flat_map(|step| sessions.iter().map(move |s| (step, s)))
    {
        let Some((_, exchange)) = EXCHANGES.iter().find(|(name, _)| *name == step.name)
        else {
            continue; // Step 01 takes whatever comes first for the request.
        };
        let (name, step, session) = (&session.name, step.clone(), Arc::clone(session));
        let test = format!("splitting::{}::{name}", step.name);
        trials.push(trial(test, move || {
            replay(&step, &session, Typing::ByteByByte)?;
            cut_everywhere(*exchange, &session.lines(&step.name))
        }));
    }
    trials
}

/// A test from a function that says what is wrong.
fn trial(name: String, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, || test().map_err(|error| format!("{error:#}").into()))
}

/// Waits for what no event tells: looks until it holds.
fn wait_until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !holds()? {
        ensure!(start.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Plays a session to a step.
fn replay(step: &Step, session: &Session, typing: Typing) -> Result<()> {
    let lines = session.lines(&step.name);
    let path = session.path.strip_prefix(root()).unwrap_or(&session.path);
    ensure!(!lines.is_empty(), "{} says nothing of {}", path.display(), step.name);
    let server = Server::start(step, "")?;
    let result = play(server.address, &lines, typing).map_err(|report| {
        format!("{}: {}\n{report}\nlog:", path.display(), session.title)
    });
    if let Err(report) = result {
        bail!("{report}\n{}", String::from_utf8_lossy(&server.end()));
    }
    server.check()
}

/// Cuts what the client of a session types in two, at every place, and compares the answers
/// that the step gives in memory. Several clients have no such place, a client that does not
/// listen has no answer to compare, and in memory no time runs out.
fn cut_everywhere(exchange: Exchange, lines: &[Line]) -> Result<()> {
    let mut typed = Vec::new();
    let mut answer = Vec::new();
    let mut cuts = Vec::new();
    for line in lines {
        match &line.event {
            Event::Send(bytes) => {
                // A long filling is the same everywhere: a thousand places will do.
                let stride = bytes.len() / 1000 + 1;
                cuts.extend((typed.len()..typed.len() + bytes.len()).step_by(stride));
                typed.extend_from_slice(bytes);
            }
            Event::Receive(bytes) => {
                answer.extend(bytes.iter().map(|byte| byte.unwrap_or(0)))
            }
            _ => {}
        }
    }
    let is_one = lines.iter().all(|line| line.client.is_empty());
    let ends_unheard = lines.last().is_none_or(|line| {
        matches!(line.event, Event::Silence | Event::Close | Event::Reset)
    });
    let is_in_time = lines.windows(2).all(|pair| {
        pair[0].event != Event::Silence || !matches!(pair[1].event, Event::Receive(_))
    });
    if !is_one || ends_unheard || !is_in_time {
        return Ok(());
    }
    for cut in cuts {
        let (first, second) = typed.split_at(cut);
        let pieces = [first, second].map(<[u8]>::to_vec).into_iter();
        let pieces = pieces.filter(|piece| !piece.is_empty()).collect();
        let mut memory = Memory { pieces, ..Memory::default() };
        exchange(&mut memory);
        ensure!(
            memory.written == answer,
            "cut after {cut} bytes, the answer was {}",
            escape(&memory.written)
        );
    }
    Ok(())
}

/// Rewrites the answers of the sessions.
fn update(steps: &[Step], sessions: Vec<Session>) {
    let todo = Mutex::new(sessions);
    let failed = AtomicBool::new(false);
    let next = || todo.lock().ok().and_then(|mut sessions| sessions.pop());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(session) = next() {
                    if let Err(error) = update_one(steps, &session) {
                        eprintln!("{}: {error:#}", session.path.display());
                        failed.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    if failed.into_inner() {
        process::exit(1);
    }
}

/// Rewrites the answers of a session, and says so when they have changed.
fn update_one(steps: &[Step], session: &Session) -> Result<()> {
    let mut conversations = Vec::new();
    for step in steps {
        let server = Server::start(step, "")?;
        let lines = record(server.address, &session.lines(&step.name));
        conversations.push((step.name.clone(), lines.map_err(anyhow::Error::msg)?));
    }
    let text = session.rewrite(&conversations)?;
    if text != fs::read_to_string(&session.path)? {
        fs::write(&session.path, text).context("cannot write")?;
        let path: &Path = session.path.strip_prefix(root()).unwrap_or(&session.path);
        println!("{} is rewritten: read it in git diff", path.display());
    }
    Ok(())
}
