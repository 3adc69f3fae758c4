//! Every session against every stage. On the way from one step to the next a session goes as in
//! the one or as in the other, and none that goes as in the next falls back.
//!
//! What each stage wins stands in `tests/stages.txt`, which the book prints. After a change on
//! purpose, `UPDATE_SESSIONS=1 cargo test --test stages` writes it anew.

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::{Arguments, Trial};
use replayer::replay::{Typing, play_within};
use replayer::server::{Server, Step, build_stages, root, step_names};
use replayer::session::{Event, Line, Session, read_all, wins};
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use std::{env, fs, process, thread};

/// How long to wait for an answer: longer than the longest deadline of a step.
const PATIENCE: Duration = Duration::from_secs(8);
/// How many sessions are played to a stage at a time: they wait more than they compute.
const CLIENTS: usize = 16;

/// A stage, the steps that it stands between, and how the sessions go.
struct Stage {
    server: Step,
    /// Nothing for the stages of the first step.
    before: Option<String>,
    step: String,
    outcomes: OnceLock<HashMap<String, Outcome>>,
}

/// How a session goes.
enum Outcome {
    /// As in the step itself.
    Own,
    /// As in the step before, if only when the step itself would speak.
    Before,
    /// In neither way: what happened.
    Third(String),
}

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(5); // They wait, too.
    let (stages, sessions) = prepare().unwrap_or_else(|error| {
        eprintln!("{error:#}");
        process::exit(1);
    });
    if env::var_os("UPDATE_SESSIONS").is_some() {
        let file = root().join("tests/stages.txt");
        let written = won(&stages, &sessions).and_then(|text| Ok(fs::write(file, text)?));
        if let Err(error) = written {
            eprintln!("cannot write tests/stages.txt: {error:#}");
            process::exit(1);
        }
        return;
    }
    let (stages, sessions) = (Arc::new(stages), Arc::new(sessions));
    let trials = (0..stages.len()).map(|index| {
        let (stages, sessions) = (Arc::clone(&stages), Arc::clone(&sessions));
        Trial::test(stages[index].server.name.clone(), move || {
            check(&stages, index, &sessions).map_err(|error| format!("{error:#}").into())
        })
    });
    let counts = (0..stages.len()).filter(|index| stages[*index].before.is_some());
    let counts = counts.map(|index| {
        let stages = Arc::clone(&stages);
        let name = format!("how_far::{}", stages[index].server.name);
        let count = move || {
            let stage = &stages[index];
            let won = wins(&fs::read_to_string(root().join("tests/stages.txt"))?);
            let noted = won.get(&stage.server.name).map_or(0, |won| won.how_far);
            let counted = stage.how_far()?;
            ensure!(
                counted == noted,
                "{counted} conversations, not {noted}: UPDATE_SESSIONS=1"
            );
            Ok(())
        };
        // For CI: the checker has patience of its own.
        Trial::test(name, move || count().map_err(|error| format!("{error:#}").into()))
            .with_ignored_flag(true)
    });
    let trials = trials.chain(counts).collect();
    libtest_mimic::run(&arguments, trials).exit();
}

/// Builds all stages, and reads all sessions.
fn prepare() -> Result<(Vec<Stage>, Vec<Session>)> {
    let steps = step_names(&root())?;
    let mut stages = Vec::new();
    for server in build_stages()? {
        let at = steps.iter().position(|step| step[..2] == server.name[..2]);
        let at = at.with_context(|| format!("{} belongs to no step", server.name))?;
        stages.push(Stage {
            server,
            before: at.checked_sub(1).map(|before| steps[before].clone()),
            step: steps[at].clone(),
            outcomes: OnceLock::new(),
        });
    }
    Ok((stages, read_all(&root().join("tests/sessions"), &steps)?))
}

impl Stage {
    /// How each session goes, by its name.
    fn outcomes(&self, sessions: &[Session]) -> &HashMap<String, Outcome> {
        self.outcomes.get_or_init(|| {
            let next = AtomicUsize::new(0);
            let outcomes = Mutex::new(HashMap::new());
            thread::scope(|scope| {
                for _ in 0..CLIENTS {
                    scope.spawn(|| {
                        while let Some(session) =
                            sessions.get(next.fetch_add(1, Ordering::Relaxed))
                        {
                            let outcome = self.outcome(session);
                            if let Ok(mut outcomes) = outcomes.lock() {
                                outcomes.insert(session.name.clone(), outcome);
                            }
                        }
                    });
                }
            });
            outcomes.into_inner().unwrap_or_default()
        })
    }

    /// Plays a session as the step has it, and if that is not how it goes, as the step before.
    fn outcome(&self, session: &Session) -> Outcome {
        let own = session.lines(&self.step);
        let mut report = match self.play(&own) {
            Ok(()) => return Outcome::Own,
            Err(report) => format!("as in {}:\n{report}", self.step),
        };
        let Some(before) = &self.before else {
            return Outcome::Before; // The very first may still be ended by a client.
        };
        let lines = session.lines(before);
        for lines in late(&lines, &own).into_iter().chain([lines]) {
            match self.play(&lines) {
                Ok(()) => return Outcome::Before,
                Err(other) => report += &format!("as in {before}:\n{other}"),
            }
        }
        Outcome::Third(report)
    }

    /// In how many conversations it does what its step does, as `cargo how-far` judges it.
    fn how_far(&self) -> Result<u64> {
        let server = Server::start(&self.server, "")?;
        let output = Command::new(env!("CARGO_BIN_EXE_checker"))
            .args(["--json", "--step", &self.step[..2], &server.address.to_string()])
            .output()?;
        let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        said["conversations"]["passed"].as_u64().context("the checker does not count")
    }

    /// Plays a conversation to a server of its own.
    fn play(&self, lines: &[Line]) -> Result<(), String> {
        let server =
            Server::start(&self.server, "").map_err(|error| format!("{error:#}"))?;
        play_within(PATIENCE, server.address, lines, Typing::AtOnce)?;
        server.check().map_err(|error| format!("{error:#}\n"))
    }

    /// Whether a session goes as in the step itself.
    fn is_own(&self, session: &Session, sessions: &[Session]) -> bool {
        matches!(self.outcomes(sessions).get(&session.name), Some(Outcome::Own))
    }

    /// Whether the step changes a session.
    fn is_changed(&self, session: &Session) -> bool {
        self.before.as_ref().is_none_or(|before| session.differs(before, &self.step))
    }
}

/// Checks that a stage goes no third way, wins something, loses nothing, and leaves something.
fn check(stages: &[Stage], index: usize, sessions: &[Session]) -> Result<()> {
    let stage = &stages[index];
    let (name, step) = (&stage.server.name, &stage.step);
    let last = index.checked_sub(1).map(|last| &stages[last]);
    let last = last.filter(|last| last.step == *step);
    let mut faults = String::new();
    let mut is_last = true;
    for session in sessions {
        match stage.outcomes(sessions).get(&session.name) {
            Some(Outcome::Third(report)) => {
                let _ = writeln!(faults, "{} goes a third way:\n{report}", session.name);
            }
            Some(Outcome::Before)
                if last.is_some_and(|last| last.is_own(session, sessions)) =>
            {
                let _ = writeln!(
                    faults,
                    "{} falls back: it went as in {step}.",
                    session.name
                );
            }
            Some(Outcome::Own) => {}
            _ => is_last = false,
        }
    }
    ensure!(faults.is_empty(), "{faults}");
    ensure!(!is_last, "{name} leaves nothing for {step} to win");
    let won = wins(&fs::read_to_string(root().join("tests/stages.txt"))?);
    let won = won.get(name);
    let won = won.map(|won| won.sessions.iter().map(String::as_str).collect());
    let now: HashSet<&str> = new(stage, last, sessions).collect();
    ensure!(!now.is_empty(), "{name} wins nothing");
    if won.as_ref() != Some(&now) {
        bail!(
            "{name} wins {now:?}, and tests/stages.txt says {won:?}: UPDATE_SESSIONS=1 writes it"
        );
    }
    Ok(())
}

/// The names of the sessions that a stage wins: that its step changes, and that go as in it now.
fn new<'a>(
    stage: &'a Stage,
    last: Option<&'a Stage>,
    sessions: &'a [Session],
) -> impl Iterator<Item = &'a str> {
    let is_new = move |session: &&Session| {
        let was_own = last.is_some_and(|last| last.is_own(session, sessions));
        stage.is_changed(session) && stage.is_own(session, sessions) && !was_own
    };
    sessions.iter().filter(is_new).map(|session| session.name.as_str())
}

/// What all stages win, as `tests/stages.txt` has it.
fn won(stages: &[Stage], sessions: &[Session]) -> Result<String> {
    let mut text =
        "# For each stage, in how many conversations it does what its step does, as the checker\n\
         # counts, and the sessions that it wins: from there on they go as in the step.\n\
         # Written by UPDATE_SESSIONS=1 cargo test --test stages\n"
            .to_string();
    for (index, stage) in stages.iter().enumerate() {
        let last = index.checked_sub(1).map(|last| &stages[last]);
        let last = last.filter(|last| last.step == stage.step);
        // The first of all does not live so long.
        let how_far = if stage.before.is_some() { stage.how_far()? } else { 0 };
        let _ = writeln!(text, "\n{} {how_far}", stage.server.name);
        for name in new(stage, last, sessions) {
            let _ = writeln!(text, "  {name}");
        }
    }
    Ok(text)
}

/// What happens in a conversation, without what is said about it.
fn events(lines: &[Line]) -> Vec<(&str, &Event)> {
    let lines = lines.iter().filter(|line| !matches!(line.event, Event::Matters(_)));
    lines.map(|line| (line.client.as_str(), &line.event)).collect()
}

fn is_heard(line: &Line) -> bool {
    matches!(line.event, Event::Receive(_) | Event::MayBeLost | Event::ServerClose)
}

/// The conversation with the step itself, but with the answers of the step before: it may wait as
/// the step does, and still say the old thing. Nothing where the step before has heard more by
/// then, or says it at the same time anyway.
fn late(before: &[Line], own: &[Line]) -> Option<Vec<Line>> {
    let typed = |lines: &[Line], client: &str| -> Vec<u8> {
        let events =
            lines.iter().filter(|line| line.client == client).map(|line| &line.event);
        let sent = events.filter_map(|event| match event {
            Event::Send(bytes) => Some(bytes.as_slice()),
            _ => None,
        });
        sent.collect::<Vec<_>>().concat()
    };
    let is_more =
        |line: &Line| !typed(own, &line.client).starts_with(&typed(before, &line.client));
    if before.iter().any(is_more) {
        return None;
    }
    let groups = |lines: &[Line]| -> Vec<Vec<Line>> {
        let is_same =
            |a: &Line, b: &Line| is_heard(a) && is_heard(b) && a.client == b.client;
        lines.chunk_by(is_same).map(<[Line]>::to_vec).collect()
    };
    let mut answers: HashMap<String, VecDeque<Vec<Line>>> = HashMap::new();
    for group in groups(before).into_iter().filter(|group| is_heard(&group[0])) {
        answers.entry(group[0].client.clone()).or_default().push_back(group);
    }
    let mut late = Vec::new();
    for group in groups(own) {
        let is_answer = is_heard(&group[0]);
        late.extend(if is_answer {
            answers.get_mut(&group[0].client)?.pop_front()?
        } else {
            group
        });
    }
    (events(&late) != events(before)).then_some(late)
}
