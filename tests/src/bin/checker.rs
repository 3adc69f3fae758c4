//! Tells how far a server has come: which step it behaves like, and what the next one wants.

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use colored::Colorize;
use replayer::exercise;
use replayer::guide::Guide;
use replayer::judge::{self, Fault};
use replayer::replay::{self, Typing};
use replayer::server::{root, step_names};
use replayer::session::{Event, Line, Session, escape, read_all, render};
use replayer::subject::Subject;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fs, process};

/// How long a server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long all of it may take. What has not been played by then is left out.
const BUDGET: Duration = Duration::from_secs(40);
/// After so many conversations of a step without an answer, the others are left out.
const MAX_LATE: usize = 3;

/// Plays the sessions to a server, in whatever language it is written, and tells which step it
/// behaves like.
///
/// Exit code: 0 when it behaves like the asked step, or the last one; 1 when it falls short;
/// 2 when it cannot be checked.
#[derive(Parser)]
#[command(bin_name = "cargo how-far")]
struct Arguments {
    /// Where the server listens
    #[arg(default_value = "127.0.0.1:7777")]
    address: String,
    /// What to start it with, and to stop afterwards: -- python3 my_server.py
    #[arg(last = true)]
    command: Vec<OsString>,
    /// Checks this step alone, such as 03
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
}

/// What a conversation with a step has shown.
#[derive(Clone)]
enum Outcome {
    Passed,
    Failed(Fault),
    LeftOut(&'static str),
}

/// What a step's sessions have shown, in the order in which the book comes to them.
struct Report<'a> {
    step: &'a str,
    outcomes: Vec<(&'a Session, Outcome)>,
}

impl Report<'_> {
    fn passed(&self) -> usize {
        self.outcomes
            .iter()
            .filter(|(_, outcome)| matches!(outcome, Outcome::Passed))
            .count()
    }

    fn is_passed(&self) -> bool {
        self.passed() == self.outcomes.len()
    }
}

fn main() {
    match check(&Arguments::parse()) {
        Ok(true) => {}
        Ok(false) => process::exit(1),
        Err(error) => {
            writeln!(io::stderr(), "{error:#}").ok();
            process::exit(2);
        }
    }
}

/// Checks a server, and tells whether it is what was asked for.
fn check(arguments: &Arguments) -> Result<bool> {
    let names = step_names()?;
    let mut sessions = read_all(&root().join("tests/sessions"), &names)?;
    let mut steps: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut exact = arguments.exact;
    if let Some(name) = &arguments.session {
        sessions.retain(|session| session.name == *name);
        let exercises = exercise::read_all(&root().join("tests/exercises"), &names)?;
        // An exercise says exactly what it wants.
        for exercise in
            exercises.into_iter().filter(|exercise| exercise.goal.name == *name)
        {
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
    let text = &arguments.address;
    let addresses = text.to_socket_addrs().with_context(|| {
        format!("{text:?} is not an address: it should be like 127.0.0.1:7777")
    })?;
    let address = addresses.min_by_key(SocketAddr::is_ipv6);
    let address = address.with_context(|| format!("{text} has no address"))?;
    let subject = if arguments.command.is_empty() {
        Subject::running(address)?
    } else {
        Subject::start(address, &arguments.command)?
    };
    let guide = Guide::read(&root(), &names);
    let mut player = Player {
        subject,
        exact,
        start: Instant::now(),
        played: HashMap::new(),
        is_gone: false,
    };
    // From the last step down: what passes there need not be tried with what comes before. One
    // session alone may fit several steps.
    let is_one = arguments.session.is_some();
    let mut reports = Vec::new();
    for step in steps.iter().rev() {
        reports.insert(0, player.check(step, &sessions, &guide)?);
        if !is_one && reports[0].is_passed() {
            break;
        }
    }
    let is_done = reports.last().is_some_and(Report::is_passed);
    let fitting: Vec<&str> = reports
        .iter()
        .filter(|report| report.is_passed())
        .map(|report| report.step)
        .collect();
    let reached = fitting.last().copied().filter(|_| !is_one);
    // What comes next, or when it is like no step: what it comes closest to.
    let last = reports.iter().rposition(Report::is_passed);
    let next = match last {
        Some(last) => reports.get(last + 1),
        None => closest(&reports),
    };
    let mut out = io::stdout().lock();
    if arguments.json {
        let next = if is_done { None } else { next };
        writeln!(out, "{:#}", to_json(reached, next, &reports, &guide))?;
    } else {
        let verdict = verdict(&fitting, is_done, next, arguments);
        writeln!(out, "\n{}", if is_done { verdict.green() } else { verdict.normal() })?;
        if let (false, Some(report)) = (is_done, next) {
            tell(&mut out, report, address, &guide, arguments, &names)?;
        }
    }
    if let Some(path) = &arguments.junit {
        fs::write(path, junit(&reports)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(is_done)
}

/// The step that a server comes closest to: the last one for which hardly anything that it does
/// would have to be undone, or else the one of which it does most.
fn closest<'a>(reports: &'a [Report<'a>]) -> Option<&'a Report<'a>> {
    let is_near = |index: &usize| {
        let names = reports[*index].outcomes.iter().map(|(session, _)| &session.name);
        let fits = |name: &&String| {
            reports[*index..].iter().any(|report| {
                report.outcomes.iter().any(|(session, outcome)| {
                    session.name == **name && matches!(outcome, Outcome::Passed)
                })
            })
        };
        names.filter(fits).count() * 5 >= reports[*index].outcomes.len() * 4
    };
    let near = (0..reports.len()).rev().find(is_near);
    near.map(|index| &reports[index])
        .or_else(|| reports.iter().max_by_key(|report| report.passed()))
}

/// In a sentence or two, how far it is.
fn verdict(
    fitting: &[&str],
    is_done: bool,
    next: Option<&Report>,
    arguments: &Arguments,
) -> String {
    let (next_step, passed, all) =
        next.map_or(("", 0, 0), |next| (next.step, next.passed(), next.outcomes.len()));
    match fitting.last() {
        _ if arguments.session.is_some() => {
            let fits = match fitting {
                [] => String::new(),
                steps => format!(
                    "In this conversation, your server does what it should in {}.",
                    steps.join(", ")
                ),
            };
            let falls_short = match next {
                Some(next) if !is_done => {
                    format!("In {} it should do something else:", next.step)
                }
                _ => String::new(),
            };
            [fits, falls_short].join("\n").trim().to_string()
        }
        Some(step) if is_done && arguments.step.is_none() => {
            format!("Your server behaves like step {step}, the last one.")
        }
        Some(step) if is_done => format!("Your server behaves like step {step}."),
        Some(step) => format!(
            "Your server behaves like step {step}.\n\
             In {passed} of {all} conversations it does what step {next_step} does.\n\
             The first that differs:"
        ),
        None if arguments.step.is_some() => format!(
            "In {passed} of {all} conversations, your server does what step {next_step} does.\n\
             The first that differs:"
        ),
        None => format!(
            "Your server behaves like none of the steps yet.\n\
             It comes closest to {next_step}, in {passed} of {all} conversations.\n\
             The first that differs:"
        ),
    }
}

/// Plays sessions to the server.
struct Player {
    subject: Subject,
    exact: bool,
    start: Instant,
    /// What the conversations have shown that were played: many are the same in several steps.
    played: HashMap<String, Outcome>,
    /// Whether it has ended, and cannot be started again.
    is_gone: bool,
}

impl Player {
    /// Plays all sessions of a step.
    fn check<'a>(
        &mut self,
        step: &'a str,
        sessions: &'a [Session],
        guide: &Guide,
    ) -> Result<Report<'a>> {
        let mut sessions: Vec<&Session> = sessions.iter().collect();
        sessions.sort_by_key(|session| guide.order(step, &session.name));
        let mut late = 0;
        let mut outcomes = Vec::new();
        let mut progress = io::stderr(); // Whoever reads it may have gone.
        write!(progress, "{step} ").ok();
        for session in sessions {
            let lines = session.lines(step);
            let key = format!("{} {}", session.name, render(&lines));
            let outcome = match self.played.get(&key) {
                Some(outcome) => outcome.clone(),
                None if self.is_gone => {
                    Outcome::LeftOut("Not played: the server is gone.")
                }
                None if late >= MAX_LATE => {
                    Outcome::LeftOut("Not played: too many without an answer.")
                }
                None if self.start.elapsed() > BUDGET => {
                    Outcome::LeftOut("Not played: it took too long.")
                }
                None => self.play(&lines)?,
            };
            if let Outcome::Failed(Fault { is_late: true, .. }) = outcome {
                late += 1;
            }
            let _ = write!(
                progress,
                "{}",
                match outcome {
                    Outcome::Passed => ".".green(),
                    Outcome::Failed(_) => "F".red(),
                    Outcome::LeftOut(_) => "-".normal(),
                }
            );
            if !matches!(outcome, Outcome::LeftOut(_)) {
                self.played.insert(key, outcome.clone());
            }
            outcomes.push((session, outcome));
        }
        writeln!(progress).ok();
        Ok(Report { step, outcomes })
    }

    /// Plays one conversation. If it ends the server, that is the fault, and it is started again.
    fn play(&mut self, lines: &[Line]) -> Result<Outcome> {
        let address = self.subject.address;
        let result = if self.exact {
            replay::play(address, lines, Typing::AtOnce).map_err(|what| Fault {
                is_late: what.ends_with("(the connection stays open)")
                    || what.ends_with("(timed out)"),
                what,
                ..Fault::default()
            })
        } else {
            judge::play(address, lines, PATIENCE)
        };
        // An end shows in a conversation that breaks off, a moment before it shows elsewhere.
        let breaks_off = |fault: &Fault| ["(closed)", "(reset)"].contains(&&*fault.came);
        let pause = if result.as_ref().is_err_and(breaks_off) { 50 } else { 10 };
        let mut code = self.subject.ended(Duration::from_millis(pause));
        let is_silent = code.is_none() && result.is_err() && !self.subject.listens();
        if is_silent {
            code = self.subject.ended(Duration::from_millis(500));
        }
        let mut what = if let Some(code) = code {
            let words = self.subject.last_words();
            format!(
                "This conversation has ended the server, with exit code {code}{words}"
            )
        } else if is_silent {
            "This conversation has ended the server: nothing listens any more."
                .to_string()
        } else {
            return Ok(result.map_or_else(Outcome::Failed, |()| Outcome::Passed));
        };
        if self.subject.is_ours() {
            if let Err(error) = self.subject.restart() {
                what += &format!(". To start it again failed: {error:#}");
                self.is_gone = true;
            }
        } else {
            self.is_gone = true;
        }
        Ok(Outcome::Failed(Fault { what, ..Fault::default() }))
    }
}

/// Tells of the first failure in full, of the others in a line, unless asked for all.
fn tell(
    out: &mut impl Write,
    report: &Report,
    address: SocketAddr,
    guide: &Guide,
    arguments: &Arguments,
    names: &[String],
) -> Result<()> {
    let mut others: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut is_first = true;
    for (session, outcome) in &report.outcomes {
        // Its chapter is that of the step with which the conversation has become what it is.
        let lines = session.lines(report.step);
        let since = names.iter().find(|step| session.lines(step) == lines);
        let what = match outcome {
            Outcome::Passed => continue,
            Outcome::LeftOut(why) => why,
            Outcome::Failed(fault) if is_first || arguments.all => {
                tell_in_full(
                    out,
                    (report.step, since.map_or(report.step, |s| s)),
                    session,
                    fault,
                    address,
                    guide,
                )?;
                is_first = false;
                continue;
            }
            // To the byte, what came is told in many lines.
            Outcome::Failed(fault) if fault.what.contains('\n') => "It differs.",
            Outcome::Failed(fault) => &fault.what,
        };
        match others.iter_mut().find(|(known, _)| *known == what) {
            Some((_, names)) => names.push(&session.name),
            None => others.push((what, vec![&session.name])),
        }
    }
    if !others.is_empty() {
        writeln!(out, "\nThe others:")?;
    }
    for (what, names) in &others {
        writeln!(out, "  {what}")?;
        for names in names.chunks(4) {
            writeln!(out, "      {}", names.join(", "))?;
        }
    }
    if !others.is_empty() {
        writeln!(out, "\n--session NAME shows one of them in full, --all every one.")?;
    }
    Ok(())
}

fn tell_in_full(
    out: &mut impl Write,
    (step, since): (&str, &str),
    session: &Session,
    fault: &Fault,
    address: SocketAddr,
    guide: &Guide,
) -> Result<()> {
    let lines = session.lines(step);
    writeln!(out, "\n{} ({})", session.title.bold(), session.name)?;
    writeln!(out, "{}\n", session.about)?;
    // To the byte, the fault is told with all that was said.
    let is_told = fault.what.contains('\n');
    for (line, text) in lines.iter().zip(render(&lines).lines()).filter(|_| !is_told) {
        let is_answer = matches!(
            line.event,
            Event::Receive(_) | Event::Matters(_) | Event::MayBeLost | Event::ServerClose
        );
        if !is_answer {
            writeln!(out, "    {text}")?;
        }
    }
    writeln!(out, "\n{}", fault.what.red())?;
    if !fault.expected.is_empty() || !fault.came.is_empty() {
        writeln!(out, "    expected  {}", fault.expected)?;
        writeln!(out, "    came      {}", fault.came)?;
        writeln!(out, "              {}^", " ".repeat(fault.same))?;
    }
    // The rule that any answer would break says most. Where it is the status, or silence, it is the
    // rule that the session is about.
    let is_about = fault.rule.is_empty() && !fault.is_point;
    let own = guide.rules(&session.name).iter().map(String::as_str).filter(|_| is_about);
    for rule in
        [fault.rule].into_iter().chain(own).filter(|rule| !rule.is_empty()).take(2)
    {
        writeln!(out, "The rule:  {rule}")?;
    }
    if let Some(place) = guide.place(since, &session.name) {
        writeln!(out, "The book:  {place}")?;
    }
    if let Some(command) = again(&lines, address) {
        writeln!(out, "Again:     {command}")?;
    }
    Ok(())
}

/// A command that sends what the client sends, when it is one client that only types.
fn again(lines: &[Line], address: SocketAddr) -> Option<String> {
    let mut pieces = vec![Vec::new()];
    for line in lines {
        match &line.event {
            Event::Send(bytes) => pieces.last_mut()?.extend_from_slice(bytes),
            Event::Silence => pieces.push(Vec::new()),
            Event::Close | Event::HalfClose | Event::Reset => return None,
            _ => {}
        }
        if !line.client.is_empty() || pieces.last()?.len() > 1000 {
            return None;
        }
    }
    let printf = |piece: &Vec<u8>| {
        let text = escape(piece).replace('%', "%%").replace('\'', "'\\''");
        format!("printf '{text}'")
    };
    let pieces: Vec<_> = pieces.iter().map(printf).collect();
    let typed = match &pieces[..] {
        [typed] => typed.clone(),
        pieces => format!("({})", pieces.join("; sleep 2; ")),
    };
    Some(format!("{typed} | curl --max-time 5 telnet://{address}"))
}

fn to_json(
    reached: Option<&str>,
    next: Option<&Report>,
    reports: &[Report],
    guide: &Guide,
) -> Value {
    let steps: Vec<Value> = reports
        .iter()
        .map(|report| {
            json!({
                "step": report.step,
                "passed": report.passed(),
                "sessions": report.outcomes.len(),
            })
        })
        .collect();
    let failures: Vec<Value> = next
        .iter()
        .flat_map(|report| &report.outcomes)
        .filter_map(|(session, outcome)| match outcome {
            Outcome::Passed => None,
            Outcome::LeftOut(why) => {
                Some(json!({ "session": session.name, "left_out": why }))
            }
            Outcome::Failed(fault) => Some(json!({
                "session": session.name,
                "what": fault.what,
                "expected": fault.expected,
                "came": fault.came,
                "rules": guide.rules(&session.name),
            })),
        })
        .collect();
    let next = next.map(|report| report.step);
    json!({ "step": reached, "next": next, "steps": steps, "failures": failures })
}

/// The result for a classroom's CI: a suite for each step, a test case for each session.
fn junit(reports: &[Report]) -> Result<String> {
    use quick_junit::{
        NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite,
    };
    let mut junit = Junit::new("how far");
    for report in reports {
        let mut suite = TestSuite::new(report.step);
        for (session, outcome) in &report.outcomes {
            let mut status = match outcome {
                Outcome::Passed => TestCaseStatus::success(),
                Outcome::Failed(_) => {
                    TestCaseStatus::non_success(NonSuccessKind::Failure)
                }
                Outcome::LeftOut(_) => TestCaseStatus::skipped(),
            };
            match outcome {
                Outcome::Passed => {}
                Outcome::Failed(fault) => drop(status.set_message(fault.what.clone())),
                Outcome::LeftOut(why) => drop(status.set_message(*why)),
            }
            suite.add_test_case(TestCase::new(session.name.clone(), status));
        }
        junit.add_test_suite(suite);
    }
    match junit.to_string() {
        Ok(text) => Ok(text),
        Err(error) => bail!("cannot write JUnit XML: {error}"),
    }
}
