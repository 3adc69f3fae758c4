//! Checks again each time that a file is saved.

use crate::report::Outcome;
use crate::tell::Teller;
use crate::{Arguments, Findings, World, check};
use anyhow::{Context, Result, bail, ensure};
use notify::{RecursiveMode, Watcher};
use replayer::subject::{Subject, addresses};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;
use std::{env, fs};

/// An editor writes a file in several steps: how long to wait for the last of them.
const SETTLE: Duration = Duration::from_millis(100);

/// Builds, checks, tells, and does so again at each save, until Ctrl-C.
pub fn watch(arguments: &Arguments, world: &World) -> Result<()> {
    let here = env::current_dir()?;
    let is_crate = arguments.command.is_empty();
    if is_crate {
        let manifest = fs::read_to_string("Cargo.toml").unwrap_or_default();
        ensure!(
            manifest.contains("[package]") && Path::new("src/main.rs").is_file(),
            "There is no server to build here. Go to its folder (cd mine), or give a command: \
             cargo how-far --watch -- python3 my_server.py"
        );
    }
    let (sender, changes) = mpsc::channel();
    let folder = here.clone();
    let mut watcher =
        notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            let is_save =
                |path: &Path| is_source(path.strip_prefix(&folder).unwrap_or(path));
            if !event.kind.is_access() && event.paths.iter().any(|path| is_save(path)) {
                let _ = sender.send(());
            }
        })?;
    watcher
        .watch(&here, RecursiveMode::Recursive)
        .with_context(|| format!("cannot watch {}", here.display()))?;
    let mut before: Option<(String, HashSet<String>)> = None;
    loop {
        let text = match once(arguments, world, is_crate, &mut before) {
            Ok(text) => text,
            Err(error) => format!("{error:#}"),
        };
        let mut out = io::stdout();
        let clear = if out.is_terminal() { "\x1b[2J\x1b[H" } else { "" };
        writeln!(out, "{clear}{}", text.trim_start_matches('\n'))?;
        write!(out, "Save a file, and it is checked again. Ctrl-C ends it.")?;
        if !out.is_terminal() {
            writeln!(out)?;
        }
        out.flush()?;
        if changes.recv().is_err() {
            bail!("the files are not watched any more");
        }
        while changes.recv_timeout(SETTLE).is_ok() {}
        write!(out, "\r\x1b[K")?;
    }
}

/// Whether a file is a source of the server, as far as can be told from its path.
fn is_source(path: &Path) -> bool {
    let parts = path.iter().map(|part| part.to_string_lossy().into_owned());
    let is_noise = |part: String| {
        part.starts_with('.')
            || part.ends_with('~')
            || ["target", "node_modules", "__pycache__", "Cargo.lock", "4913"]
                .contains(&part.as_str())
    };
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    let made =
        ["log", "pyc", "tmp", "swp", "swx", "json", "xml", "db", "db-wal", "db-shm"];
    let is_file = path.file_name().is_some(); // And not the folder itself.
    is_file && !parts.into_iter().any(is_noise) && !made.contains(&extension)
}

/// Builds and checks once, and says what is to be shown.
fn once(
    arguments: &Arguments,
    world: &World,
    is_crate: bool,
    before: &mut Option<(String, HashSet<String>)>,
) -> Result<String> {
    let addresses = addresses(&arguments.address)?;
    let address = addresses.first().context("no address")?.to_string();
    let cargo = env::var_os("CARGO").unwrap_or("cargo".into());
    let mut command = arguments.command.clone();
    if is_crate {
        let color = if io::stdout().is_terminal() { "always" } else { "never" };
        // What cargo has set for this checker is not for the learner's crate.
        let build = Command::new(&cargo)
            .args(["build", "--quiet", "--color", color])
            .output()
            .context("cannot run cargo")?;
        if !build.status.success() {
            let said = String::from_utf8_lossy(&build.stderr).into_owned();
            let lines: Vec<&str> = said.lines().take(18).collect();
            return Ok(format!("It does not compile:\n\n{}\n", lines.join("\n")));
        }
        command = [
            cargo,
            "run".into(),
            "--quiet".into(),
            "--".into(),
            OsString::from(&address),
        ]
        .into();
    }
    let subject = Subject::start(&addresses, &command)?;
    let findings = check(arguments, world, subject)?;
    let news = news(&findings, before);
    let teller = Teller {
        arguments,
        guide: &world.guide,
        names: &world.names,
        address: findings.address,
        command: if is_crate {
            format!("cargo run -- {address}")
        } else {
            findings.command.clone()
        },
    };
    Ok(teller.tell(&findings, &news))
}

/// What has been won since the last time, and what has been lost.
fn news(
    findings: &Findings,
    before: &mut Option<(String, HashSet<String>)>,
) -> Vec<String> {
    let reached = findings.reached().map_or("", |report| report.step).to_string();
    let passed: HashSet<String> = findings
        .reports
        .iter()
        .flat_map(|report| {
            let passed = report.outcomes.iter();
            let passed = passed.filter(|(_, outcome)| matches!(outcome, Outcome::Passed));
            let number = &report.step[..2];
            passed.map(move |(session, _)| format!("{number} {}", session.name))
        })
        .collect();
    let mut news = Vec::new();
    if let Some((last, known)) = before.as_ref() {
        if *last != reached && !reached.is_empty() && reached > *last {
            news.push(format!("You have reached step {reached}!"));
        }
        let step = findings.next().or(findings.reached()).or(findings.reports.last());
        let step = step.map_or("", |report| report.step);
        let number = step.get(..2).unwrap_or_default();
        let list = |a: &HashSet<String>, b: &HashSet<String>| {
            let mut names: Vec<String> = a
                .difference(b)
                .filter_map(|name| name.strip_prefix(number))
                .map(|name| name.trim().to_string())
                .collect();
            names.sort();
            let more = names.len().saturating_sub(6);
            names.truncate(6);
            let text = names.join(", ");
            (!text.is_empty()).then_some(match more {
                0 => text,
                more => format!("{text}, and {more} more"),
            })
        };
        news.extend(list(&passed, known).map(|names| format!("Just won: {names}.")));
        // What was not judged this time is not lost.
        let is_judged = |report: &crate::report::Report| {
            report.step.starts_with(number) && !number.is_empty()
        };
        if findings.reports.iter().any(is_judged) {
            news.extend(
                list(known, &passed).map(|names| format!("Lost again: {names}.")),
            );
        }
        if news.is_empty() {
            news.push("Nothing won or lost since the last time.".to_string());
        }
    }
    // Steps that were not judged this time keep what they had.
    let judged: Vec<&str> =
        findings.reports.iter().map(|report| &report.step[..2]).collect();
    let mut all = passed;
    if let Some((_, known)) = before.take() {
        let is_kept =
            |name: &String| !judged.contains(&name.get(..2).unwrap_or_default());
        all.extend(known.into_iter().filter(is_kept));
    }
    *before = Some((reached, all));
    news
}
