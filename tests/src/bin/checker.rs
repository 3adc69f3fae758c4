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
/// The same, after it has been late too often.
const IMPATIENCE: Duration = Duration::from_millis(500);
/// How often that is. If it has answered in no conversation yet, the others are left out.
const MAX_LATE: usize = 3;
/// How long all of it may take. What has not been played by then is left out.
const BUDGET: Duration = Duration::from_secs(35);
/// How long to look, after a conversation, whether the server has ended.
const AFTER: Duration = Duration::from_millis(10);
/// The same, after a client that has left without hearing, or when there is a suspicion.
const LEAVE: Duration = Duration::from_millis(200);

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

    fn left_out(&self) -> usize {
        let is_left_out = |outcome: &Outcome| matches!(outcome, Outcome::LeftOut(_));
        self.outcomes.iter().filter(|(_, outcome)| is_left_out(outcome)).count()
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
    let names = step_names(&root())?;
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
    ensure!(address.port() != 0, "Say on which port it listens: nothing listens on 0");
    if let Some(path) = &arguments.junit {
        fs::write(path, "")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
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
        last: String::new(),
        is_ended: false,
        has_answered: false,
    };
    // From the last step down, each up to its first failure: the first step that passes is the
    // one. Then the rest of what is told. One session alone may fit several steps.
    let is_one = arguments.session.is_some();
    let mut reports = Vec::new();
    for step in steps.iter().rev() {
        let is_whole = is_one || steps.len() == 1;
        reports.insert(0, player.check(step, &sessions, &guide, is_whole)?);
        if !is_one && reports[0].is_passed() {
            break;
        }
    }
    let last = reports.iter().rposition(Report::is_passed);
    let rest =
        last.map_or(0..reports.len(), |last| last + 1..reports.len().min(last + 2));
    for index in rest.filter(|_| !is_one && steps.len() > 1) {
        reports[index] = player.check(reports[index].step, &sessions, &guide, true)?;
        if last.is_none() {
            // Then it is told from the beginning of the book on.
            let step = reports[index].step;
            reports[index]
                .outcomes
                .sort_by_key(|(session, _)| guide.order(step, &session.name).1);
        }
    }
    if !player.subject.finish() {
        let warning = "the command has left a process behind. End it before you go on";
        writeln!(io::stderr(), "Something still listens on {address}: {warning}.").ok();
    }
    let is_done = reports.last().is_some_and(Report::is_passed);
    let fitting: Vec<&str> = reports
        .iter()
        .filter(|report| report.is_passed())
        .map(|report| report.step)
        .collect();
    let reached = fitting.last().copied().filter(|_| !is_one);
    // What comes next, or when it is like no step: what it comes closest to.
    let next = match last {
        Some(last) => reports.get(last + 1),
        None => closest(&reports),
    };
    let mut out = io::stdout().lock();
    if arguments.json {
        let next = if is_done { None } else { next };
        writeln!(out, "{:#}", to_json(is_done, reached, next, &reports, &guide))?;
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
/// would have to be undone, or else the one of whose answers it gives most.
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
    let answers = |report: &&Report| {
        let passed = report.outcomes.iter().filter(|(session, outcome)| {
            matches!(outcome, Outcome::Passed) && has_answer(&session.lines(report.step))
        });
        passed.count()
    };
    near.map(|index| &reports[index]).or_else(|| reports.iter().rev().max_by_key(answers))
}

/// Whether a conversation has an answer.
fn has_answer(lines: &[Line]) -> bool {
    lines.iter().any(|line| matches!(line.event, Event::Receive(_)))
}

/// In a sentence or two, how far it is.
fn verdict(
    fitting: &[&str],
    is_done: bool,
    next: Option<&Report>,
    arguments: &Arguments,
) -> String {
    let next_step = next.map_or("", |next| next.step);
    let share = next.map_or_else(String::new, |next| {
        let not_played = match next.left_out() {
            0 => String::new(),
            count => format!(" ({count} were not played)"),
        };
        format!("{} of {} conversations{not_played}", next.passed(), next.outcomes.len())
    });
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
             In {share} it does what step {next_step} does.\n\
             The first that differs:"
        ),
        None if arguments.step.is_some() => format!(
            "In {share}, your server does what step {next_step} does.\n\
             The first that differs:"
        ),
        None => format!(
            "Your server behaves like none of the steps yet.\n\
             It comes closest to {next_step}, in {share}.\n\
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
    /// The conversation that was played last, as in `played`.
    last: String,
    /// Whether that one has ended the server, as the next has found out.
    is_ended: bool,
    /// Whether it has answered anything yet.
    has_answered: bool,
}

impl Player {
    /// Plays the sessions of a step: all of them, or up to the first that fails.
    fn check<'a>(
        &mut self,
        step: &'a str,
        sessions: &'a [Session],
        guide: &Guide,
        is_whole: bool,
    ) -> Result<Report<'a>> {
        let mut sessions: Vec<&Session> = sessions.iter().collect();
        sessions.sort_by_key(|session| guide.order(step, &session.name));
        let (mut late, mut has_failed) = (0, false);
        let mut outcomes: Vec<(&Session, Outcome)> = Vec::new();
        let mut progress = io::stderr(); // Whoever reads it may have gone.
        write!(progress, "{step} ").ok();
        let key = |session: &Session| {
            format!("{} {}", session.name, render(&session.lines(step)))
        };
        for session in sessions {
            if has_failed && !is_whole {
                let why = "Not played: one before it has failed.";
                outcomes.push((session, Outcome::LeftOut(why)));
                continue;
            }
            let patience = if late < MAX_LATE { PATIENCE } else { IMPATIENCE };
            let outcome = match self.played.get(&key(session)) {
                Some(outcome) => outcome.clone(),
                None if self.is_gone => {
                    Outcome::LeftOut("Not played: the server is gone.")
                }
                None if late >= MAX_LATE && !self.has_answered => {
                    Outcome::LeftOut("Not played: it has answered nothing so far.")
                }
                None if self.start.elapsed() > BUDGET => {
                    Outcome::LeftOut("Not played: it took too long.")
                }
                None => self.play(&session.lines(step), patience)?,
            };
            if std::mem::take(&mut self.is_ended) {
                let what =
                    "This conversation has ended the server, a moment later".into();
                let ended = Outcome::Failed(Fault { what, ..Fault::default() });
                let before =
                    outcomes.iter_mut().find(|(before, _)| key(before) == self.last);
                if let Some((_, outcome)) = before {
                    *outcome = ended.clone();
                    has_failed = true;
                }
                self.played.insert(self.last.clone(), ended);
            }
            if let Outcome::Failed(fault) = &outcome {
                late += usize::from(fault.is_late);
                has_failed = true;
            }
            let mark = match outcome {
                Outcome::Passed => ".".green(),
                Outcome::Failed(_) => "F".red(),
                Outcome::LeftOut(_) => "-".normal(),
            };
            write!(progress, "{mark}").ok();
            if !matches!(outcome, Outcome::LeftOut(_)) {
                if !self.played.contains_key(&key(session)) {
                    self.last = key(session);
                }
                self.played.insert(key(session), outcome.clone());
            }
            outcomes.push((session, outcome));
        }
        writeln!(progress).ok();
        Ok(Report { step, outcomes })
    }

    /// Plays one conversation. If it ends the server, that is the fault, and it is started again.
    fn play(&mut self, lines: &[Line], patience: Duration) -> Result<Outcome> {
        let (result, end) = self.play_once(lines, patience, AFTER);
        let is_unreachable = result.as_ref().is_err_and(|fault| fault.is_unreachable);
        let Some(mut what) = end else {
            self.has_answered |= match &result {
                Ok(()) => has_answer(lines),
                Err(fault) => !fault.is_late,
            };
            return Ok(result.map_or_else(Outcome::Failed, |()| Outcome::Passed));
        };
        if !self.subject.is_ours() {
            self.is_gone = true;
            self.is_ended = is_unreachable;
            if is_unreachable {
                return Ok(Outcome::LeftOut("Not played: the server is gone."));
            }
        } else if let Err(error) = self.subject.restart() {
            what += &format!(". To start it again failed: {error:#}");
            self.is_gone = true;
        } else if let (result, None) = self.play_once(lines, patience, LEAVE) {
            // By itself, it does not end the server: so it was the one before.
            self.is_ended = true;
            return Ok(result.map_or_else(Outcome::Failed, |()| Outcome::Passed));
        } else if let Err(error) = self.subject.restart() {
            what += &format!(". To start it again failed: {error:#}");
            self.is_gone = true;
        }
        Ok(Outcome::Failed(Fault { what, ..Fault::default() }))
    }

    /// Plays one conversation once. Returns what is wrong, and how it has ended the server, if it
    /// has done so within this time after it.
    fn play_once(
        &mut self,
        lines: &[Line],
        patience: Duration,
        after: Duration,
    ) -> (Result<(), Fault>, Option<String>) {
        let address = self.subject.address;
        let result = if self.exact {
            replay::play(address, lines, Typing::AtOnce).map_err(|what| Fault {
                is_late: what.ends_with("(the connection stays open)")
                    || what.ends_with("(timed out)"),
                is_unreachable: what.starts_with("cannot connect"),
                what,
                ..Fault::default()
            })
        } else {
            judge::play(address, lines, patience)
        };
        // An end shows in a conversation that breaks off, a moment before it shows elsewhere.
        let breaks_off = |fault: &Fault| ["(closed)", "(reset)"].contains(&&*fault.came);
        let leaves = lines.last().is_some_and(|line| {
            matches!(line.event, Event::Close | Event::HalfClose | Event::Reset)
        });
        let pause = match &result {
            _ if leaves => LEAVE,
            Err(fault) if breaks_off(fault) => after.max(Duration::from_millis(50)),
            _ => after,
        };
        let mut code = self.subject.ended(pause);
        let is_suspect = leaves || result.is_err();
        let is_silent = code.is_none() && is_suspect && !self.subject.listens();
        if is_silent {
            code = self.subject.ended(Duration::from_millis(500));
        }
        let end = match code {
            Some(code) => {
                Some(format!("with exit code {code}{}", self.subject.last_words()))
            }
            None if is_silent => Some("and nothing listens any more".to_string()),
            None => None,
        };
        (result, end.map(|end| format!("This conversation has ended the server, {end}")))
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
    writeln!(out, "{}\n", wrap(&session.about, ""))?;
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
    let what = if is_told { fault.what.clone() } else { wrap(&fault.what, "") };
    writeln!(out, "\n{}", what.red())?;
    if !fault.expected.is_empty() || !fault.came.is_empty() {
        writeln!(out, "    expected  {}", fault.expected)?;
        writeln!(out, "    came      {}", fault.came)?;
        writeln!(out, "              {}^", " ".repeat(fault.same))?;
    }
    // The rule that any answer would break says most. Where it is a refusal, or silence, it is the
    // rule that the session is about.
    let is_about = fault.rule.is_empty()
        && !fault.is_point
        && !fault.expected.is_empty()
        && !fault.expected.contains(" 200 ");
    let own = guide.rules(&session.name).iter().map(String::as_str).filter(|_| is_about);
    for rule in
        [fault.rule].into_iter().chain(own).filter(|rule| !rule.is_empty()).take(2)
    {
        writeln!(out, "{}", wrap(rule, "The rule:  "))?;
    }
    if let Some(place) = guide.place(since, &session.name) {
        writeln!(out, "{}", wrap(place, "The book:  "))?;
    }
    if let Some(command) = again(&lines, address) {
        writeln!(out, "Again:     {command}")?;
    }
    Ok(())
}

/// A text in lines that fit into the terminal, behind a label.
fn wrap(text: &str, label: &str) -> String {
    let indent = " ".repeat(label.len());
    let options = textwrap::Options::new(textwrap::termwidth().min(100))
        .break_words(false)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .initial_indent(label)
        .subsequent_indent(&indent);
    textwrap::fill(text, options)
}

/// A command that sends what the clients send, when they only type: each but the last in the
/// background, where it stays for a while.
fn again(lines: &[Line], address: SocketAddr) -> Option<String> {
    let mut clients: Vec<(&str, Vec<Vec<u8>>)> = Vec::new();
    for line in lines {
        let index = clients.iter().position(|client| client.0 == line.client);
        let index = index.unwrap_or_else(|| {
            clients.push((&line.client, vec![Vec::new()]));
            clients.len() - 1
        });
        let pieces = &mut clients[index].1;
        match &line.event {
            Event::Send(bytes) => pieces.last_mut()?.extend_from_slice(bytes),
            Event::Silence => pieces.push(Vec::new()),
            Event::Close if clients.len() > 1 => {}
            Event::Close | Event::HalfClose | Event::Reset => return None,
            _ => {}
        }
        if clients[index].1.last()?.len() > 1000 {
            return None;
        }
    }
    let printf = |piece: &Vec<u8>| {
        let text = escape(piece).replace('%', "%%").replace('\'', "'\\''");
        format!("printf '{text}'")
    };
    let count = clients.len();
    let commands = clients.iter().enumerate().map(|(index, (_, pieces))| {
        let mut parts = Vec::new();
        for (at, piece) in pieces.iter().enumerate() {
            parts.extend((at > 0).then(|| "sleep 2".to_string()));
            parts.extend((!piece.is_empty()).then(|| printf(piece)));
        }
        let is_last = index + 1 == count;
        parts.extend((!is_last).then(|| "sleep 8".to_string()));
        let typed = match &parts[..] {
            [typed] => typed.clone(),
            parts => format!("({})", parts.join("; ")),
        };
        let time = if is_last { 5 } else { 15 };
        format!("{typed} | curl --max-time {time} telnet://{address}")
    });
    Some(commands.collect::<Vec<_>>().join(" & "))
}

fn to_json(
    is_done: bool,
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
                "played": report.outcomes.len() - report.left_out(),
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
    json!({
        "passed": is_done,
        "step": reached,
        "next": next,
        "steps": steps,
        "failures": failures,
    })
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
                Outcome::Failed(fault) => {
                    status.set_message(fault.what.clone());
                    let (expected, came) = (&fault.expected, &fault.came);
                    status.set_description(format!("expected: {expected}\ncame: {came}"));
                }
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
