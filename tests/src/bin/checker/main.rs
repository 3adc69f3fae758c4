//! Tells how far a server has come: which step it behaves like, and what the next one wants.

mod again;
mod hint;
mod machine;
mod player;
mod report;
mod table;
mod tell;
mod watch;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use player::Player;
use replayer::exercise::{self, Exercise};
use replayer::guide::Guide;
use replayer::judge::Fault;
use replayer::server::{root, step_names};
use replayer::session::{Session, read_all};
use replayer::subject::{Subject, addresses};
use report::Report;
use serde_json::json;
use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, process};

/// The session that says when an answer is due.
pub const EARLY: &str = "enter_once";
/// How often a failure is tried again before it is told.
const MAX_AGAIN: usize = 4;

/// Plays the sessions to a server, in whatever language it is written, and tells which step it
/// behaves like, and what the next one wants.
///
/// Exit code: 0 when it behaves like the asked step, or the last one; 1 when it falls short;
/// 2 when it cannot be checked.
#[derive(Parser)]
#[command(bin_name = "cargo how-far")]
pub struct Arguments {
    /// Where the server listens: 7777, localhost:8000, http://127.0.0.1:7777
    #[arg(default_value = "127.0.0.1:7777")]
    address: String,
    /// What to start it with, and to stop afterwards: -- python3 my_server.py
    #[arg(last = true)]
    command: Vec<OsString>,
    /// Builds and checks the crate in this folder, or the command, and again at each save
    #[arg(long, conflicts_with_all = ["json", "junit", "table", "hint"])]
    watch: bool,
    /// For the first that fails: 1 a hint, 2 a plainer one, 3 the part of the step's diff
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=3))]
    hint: Option<u8>,
    /// Checks this step alone, such as 3
    #[arg(long)]
    step: Option<String>,
    /// Checks this session or exercise alone
    #[arg(long)]
    session: Option<String>,
    /// Compares to the byte, as for our own steps
    #[arg(long)]
    exact: bool,
    /// Shows every failure in full
    #[arg(long)]
    all: bool,
    /// Prints the result as JSON
    #[arg(long)]
    json: bool,
    /// Writes the result as JUnit XML to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Prints a table of results that --json has printed: --table results/*.json
    #[arg(long, value_name = "FILES", num_args = 1.., exclusive = true)]
    table: Vec<PathBuf>,
}

/// What there is to be played, and to be told of it.
pub struct World {
    names: Vec<String>,
    sessions: Vec<Session>,
    exercises: Vec<Exercise>,
    guide: Guide,
    /// The steps that are asked for.
    steps: Vec<String>,
    exact: bool,
}

/// What has been found out about a server.
pub struct Findings<'a> {
    /// For the last steps, as far down as the one that it behaves like.
    reports: Vec<Report<'a>>,
    /// Whether it is what was asked for.
    is_done: bool,
    /// Which of the reports is what it behaves like, and which comes next or is the closest.
    at: (Option<usize>, Option<usize>),
    /// What is wrong with it as a whole.
    troubles: Vec<Fault>,
    slowness: Option<Duration>,
    /// The exercises of the step that it behaves like, and whether they are done.
    exercises: Vec<(&'a Session, bool)>,
    /// What else is to be said of the first that fails.
    note: Option<String>,
    address: SocketAddr,
    command: String,
}

impl<'a> Findings<'a> {
    fn reached(&self) -> Option<&Report<'a>> {
        self.at.0.and_then(|index| self.reports.get(index))
    }

    /// What comes next, or when it is like no step: what it comes closest to.
    fn next(&self) -> Option<&Report<'a>> {
        self.at.1.and_then(|index| self.reports.get(index))
    }

    /// What is wrong with all that it does.
    fn everywhere(&self) -> impl Iterator<Item = &Fault> {
        let of_next = self.next().into_iter().flat_map(|report| &report.everywhere);
        self.troubles.iter().chain(of_next)
    }
}

fn main() {
    let arguments = Arguments::parse();
    let code = match run(&arguments) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error) => {
            let text = format!("{error:#}");
            writeln!(io::stderr(), "{text}").ok();
            if arguments.json {
                writeln!(io::stdout(), "{:#}", json!({ "passed": false, "error": text }))
                    .ok();
            }
            if let (Some(path), Ok(xml)) =
                (&arguments.junit, machine::junit_of_error(&text))
            {
                fs::write(path, xml).ok();
            }
            2
        }
    };
    process::exit(code);
}

/// Does what was asked, and tells whether the server is what it should be.
fn run(arguments: &Arguments) -> Result<bool> {
    if !arguments.table.is_empty() {
        write!(io::stdout(), "{}", table::table(&arguments.table)?)?;
        return Ok(true);
    }
    if let Some(path) = &arguments.junit {
        fs::write(path, machine::junit_of_error("The check did not come to its end.")?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let world = world(arguments)?;
    if arguments.watch {
        watch::watch(arguments, &world)?;
        return Ok(true);
    }
    let addresses = addresses(&arguments.address)?;
    let subject = match &arguments.command[..] {
        [] => Subject::running(&addresses)?,
        command => Subject::start(&addresses, command)?,
    };
    let findings = check(arguments, &world, subject)?;
    let mut out = io::stdout().lock();
    if arguments.json {
        writeln!(out, "{:#}", machine::to_json(&findings, &world.guide))?;
    } else if let Some(number) = arguments.hint {
        writeln!(out, "{}", hint(&findings, &world, number.into())?)?;
    } else {
        let teller = tell::Teller {
            arguments,
            guide: &world.guide,
            names: &world.names,
            address: findings.address,
            command: findings.command.clone(),
        };
        writeln!(out, "{}", teller.tell(&findings, &[]))?;
    }
    if let Some(path) = &arguments.junit {
        fs::write(path, machine::junit(&findings)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(findings.is_done)
}

/// Reads what there is to be played.
fn world(arguments: &Arguments) -> Result<World> {
    let names = step_names(&root())?;
    let mut sessions = read_all(&root().join("tests/sessions"), &names)?;
    let mut exercises = exercise::read_all(&root().join("tests/exercises"), &names)?;
    let mut steps = names.clone();
    let mut exact = arguments.exact;
    if let Some(name) = &arguments.session {
        sessions.retain(|session| session.name == *name);
        // An exercise says exactly what it wants.
        if let Some(at) =
            exercises.iter().position(|exercise| exercise.goal.name == *name)
        {
            let exercise = exercises.remove(at);
            steps.retain(|step| *step == exercise.step);
            sessions.push(exercise.goal);
            exact = true;
        }
        ensure!(
            !sessions.is_empty(),
            "There is no session {name}. They are in tests/sessions and tests/exercises"
        );
    }
    if let Some(step) = &arguments.step {
        let number = format!("{step:0>2}");
        let is_it = |name: &str| name == step || name.starts_with(&format!("{number}-"));
        ensure!(
            names.iter().any(|name| is_it(name)),
            "There is no step {step}, only {}",
            names.join(", ")
        );
        let own = steps.join(", ");
        steps.retain(|name| is_it(name));
        ensure!(!steps.is_empty(), "This is an exercise of step {own}, not of {step}");
    }
    let guide = Guide::read(&root(), &names);
    Ok(World { names, sessions, exercises, guide, steps, exact })
}

/// Plays the sessions to a server, and ends it, if it was started for that.
fn check<'a>(
    arguments: &Arguments,
    world: &'a World,
    subject: Subject,
) -> Result<Findings<'a>> {
    let mut player = Player::new(subject, world.exact);
    player.is_thorough = arguments.session.is_some();
    let is_one = arguments.session.is_some();
    let mut sessions: Vec<&Session> = world.sessions.iter().collect();
    let early = world.names.first().map_or("", String::as_str);
    sessions.sort_by_key(|session| world.guide.order(early, &session.name).1);
    // From the last step down: the first step that passes is the one. One session alone may fit
    // several steps.
    let mut reports: Vec<Report> = Vec::new();
    for step in world.steps.iter().rev() {
        player.play_all(&sessions, step);
        reports.insert(0, Report::new(step, &sessions, &player, &world.guide));
        if !is_one && reports[0].is_passed() {
            break;
        }
    }
    let mut troubles = if is_one { Vec::new() } else { player.troubles() };
    let is_passed = reports.iter().any(Report::is_passed);
    let early = sessions.iter().find(|session| session.name == EARLY);
    let last = world.steps.last().map_or("", String::as_str);
    if let (false, false, Some(session)) = (is_one, is_passed, early) {
        troubles.extend(player.answers_early(session, last));
    }
    let is_early = troubles.iter().any(|fault| fault.kind == "early");
    let (mut at, mut note) = ((None, None), None);
    for _ in 0..MAX_AGAIN {
        let is_passed = |report: &Report| report.is_passed() && troubles.is_empty();
        let reached = reports.iter().rposition(is_passed);
        let last = reports.len() - 1;
        let next = match reached {
            Some(reached) => (reached < last).then_some(reached + 1),
            // It says more than step 02 does.
            None if is_early && reports.len() > 2 => {
                report::closest(&reports[2..]).map(|index| index + 2)
            }
            None => report::closest(&reports),
        };
        at = (reached, next);
        let Some(next) = next else { break };
        if reached.is_none() && !is_one {
            reports[next].sort_by_book(&world.guide);
        }
        // It may have been late because this machine was busy, or it may not fail each time.
        let step = reports[next].step;
        let Some((session, fault)) = reports[next].first() else { break };
        let was_late = fault.is_late;
        let trials = if was_late { 1 } else { player::TRIALS };
        let passes = (0..trials).any(|_| player.passes_alone(session, step, was_late));
        if passes && !was_late {
            let what = "Played again, it passes: so this does not happen each time.";
            note = Some(what.to_string());
        }
        if !was_late {
            break;
        }
        for report in &mut reports {
            *report = Report::new(report.step, &sessions, &player, &world.guide);
        }
        if !passes {
            if reached.is_none() && !is_one {
                reports[next].sort_by_book(&world.guide);
            }
            break;
        }
    }
    let mut exercises = Vec::new();
    if let Some(reached) = at.0.filter(|_| !is_one) {
        let step = reports[reached].step;
        for exercise in world.exercises.iter().filter(|exercise| exercise.step == step) {
            exercises.push((&exercise.goal, player.is_met(&exercise.goal, step)));
        }
    }
    let is_done = at.0 == Some(reports.len() - 1);
    if is_one {
        at.0 = None;
    }
    if is_done {
        at.1 = None;
    }
    let (address, command) = (player.subject.address, player.subject.command());
    if !player.subject.finish() {
        let warning = "the command has left a process behind. End it before you go on";
        writeln!(io::stderr(), "Something still listens on {address}: {warning}.").ok();
    }
    let slowness = player.slowness();
    Ok(Findings {
        reports,
        is_done,
        at,
        troubles,
        slowness,
        exercises,
        note,
        address,
        command,
    })
}

/// A hint for the first that fails.
fn hint(findings: &Findings, world: &World, number: usize) -> Result<String> {
    if findings.is_done {
        return Ok("Nothing is wrong with it.".to_string());
    }
    let Some((report, (session, fault))) =
        findings.next().and_then(|report| Some((report, report.first()?)))
    else {
        let what = findings.everywhere().next().map_or("", |fault| &fault.what);
        return Ok(format!("{what} Nothing else fails that there is a hint for."));
    };
    let head = format!("{} ({}): {}", session.title, session.name, fault.what);
    let hint =
        hint::hint(&root(), &world.names, &world.guide, session, report.step, number)?;
    Ok(format!("{head}\n\n{hint}"))
}
