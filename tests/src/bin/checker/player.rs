//! Plays sessions to the server, and finds out which of them ends it.

use replayer::judge::{Fault, Verdict, judge};
use replayer::listen::{Recording, is_intimate, listen, script, takes_long};
use replayer::replay::{self, Typing};
use replayer::session::{Event, Line, Session, render};
use replayer::subject::{Subject, request};
use std::collections::{HashMap, HashSet};
use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take for an answer.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How long one may take that has been much quicker so far.
const IMPATIENCE: Duration = Duration::from_millis(500);
/// How long it may take when a failure is tried again.
const SECOND_CHANCE: Duration = Duration::from_secs(1);
/// The most that a slow one is waited for.
const MAX_PATIENCE: Duration = Duration::from_secs(5);
/// How often it may be late. If it has answered nothing by then, the rest is left out.
const MAX_LATE: usize = 3;
/// How long all of it may take. What has not been played by then is left out.
const BUDGET: Duration = Duration::from_secs(30);
/// How long to look, after a conversation, whether the server has ended.
const AFTER: Duration = Duration::from_millis(2);
/// The same, after a client that has left without hearing, or when there is a suspicion.
const LEAVE: Duration = Duration::from_millis(100);
/// How often a conversation is played alone before it is held to be innocent.
pub const TRIALS: usize = 3;
/// How many conversations are played side by side to a server that can.
const WIDTH: usize = 4;
/// How many descriptors it may have more in the end than after the first answer: one for so many
/// connections, as some keep a few for later.
const MAX_LEAK: usize = 5;
/// How long it may take to close them.
const CLOSING_TIME: Duration = Duration::from_millis(1500);

/// What has come of playing a conversation.
#[derive(Clone)]
enum Played {
    Heard(Recording),
    /// To the byte: what is wrong.
    Exact(Option<Fault>),
    /// It has ended the server.
    Ended(String),
    LeftOut(&'static str),
}

/// What is to be played.
#[derive(Clone)]
struct Job {
    key: String,
    lines: Vec<Line>,
}

impl Job {
    /// How many connections it takes: one for each client, and one more to compare HEAD with GET.
    fn connections(&self) -> usize {
        let names: HashSet<&str> =
            self.lines.iter().map(|line| line.client.as_str()).collect();
        let is_head = |line: &Line| matches!(&line.event, Event::Send(bytes) if bytes.starts_with(b"HEAD "));
        names.len() + usize::from(self.lines.first().is_some_and(is_head))
    }
}

/// What a conversation with a step has shown.
pub enum Shown {
    Verdict(Verdict),
    LeftOut(&'static str),
}

/// Plays sessions to the server.
pub struct Player {
    pub subject: Subject,
    exact: bool,
    /// Whether what takes long is played in any case.
    pub is_thorough: bool,
    start: Instant,
    /// What the conversations have shown that were played: many are the same in several steps.
    played: HashMap<String, Played>,
    /// Whether it has ended, and cannot be started again.
    is_gone: bool,
    /// The conversation that was played last.
    last: Option<Job>,
    /// How often it was late.
    late: usize,
    /// How long its answers took to begin.
    times: Vec<Duration>,
    /// Whether it serves a client while another says nothing.
    is_concurrent: Option<bool>,
    /// How often it was started, and how many connections there were since then.
    starts: usize,
    connections: usize,
    /// After how many connections it has ended, and how, when no conversation did it.
    deaths: Vec<(usize, String)>,
    /// How many descriptors it had in the beginning.
    descriptors: Option<usize>,
}

impl Player {
    pub fn new(subject: Subject, exact: bool) -> Player {
        Player {
            subject,
            exact,
            is_thorough: false,
            start: Instant::now(),
            played: HashMap::new(),
            is_gone: false,
            last: None,
            late: 0,
            times: Vec::new(),
            is_concurrent: None,
            starts: 0,
            connections: 1,
            deaths: Vec::new(),
            descriptors: None,
        }
    }

    /// Plays what has not been played yet of these conversations with a step.
    pub fn play_all(&mut self, sessions: &[&Session], step: &str) {
        let mut jobs: Vec<Job> = Vec::new();
        for session in sessions {
            let job = self.job(session, step);
            let is_known = jobs.iter().any(|known| known.key == job.key);
            if !is_known && !self.played.contains_key(&job.key) {
                jobs.push(job);
            }
        }
        if jobs.is_empty() {
            return;
        }
        let is_concurrent = self.is_concurrent();
        if self.descriptors.is_none() {
            self.descriptors = self.subject.descriptors();
        }
        let (long, short): (Vec<Job>, Vec<Job>) =
            jobs.into_iter().partition(|job| takes_long(&job.lines));
        // What takes long waits while the others are played, from the start of the server on.
        let mut waiting = Vec::new();
        for job in long {
            if is_concurrent && !self.exact {
                let listener = self.begin(&job);
                waiting.push((job, self.starts, listener));
            } else if is_concurrent || self.is_thorough {
                self.play_one(job);
            } else {
                let why = "Not played: it serves one client after the other, which comes first.";
                self.played.insert(job.key, Played::LeftOut(why));
            }
        }
        let mut rest = short.into_iter().peekable();
        let count = rest.len();
        while let Some(job) = rest.next() {
            progress(count - rest.len(), count);
            let mut batch = vec![job];
            while batch.len() < self.width()
                && !is_intimate(&batch[0].lines)
                && let Some(job) = rest.next_if(|job| !is_intimate(&job.lines))
            {
                batch.push(job);
            }
            self.play_batch(batch);
            for (job, starts, listener) in &mut waiting {
                if *starts != self.starts && !self.is_gone {
                    (*starts, *listener) = (self.starts, self.begin(job));
                }
            }
        }
        for (job, starts, listener) in waiting {
            let recording = listener.join().unwrap_or_default();
            let is_whole = starts == self.starts && !self.is_gone;
            if is_whole && self.has_ended(AFTER, recording.breaks_off()).is_none() {
                self.played.insert(job.key, Played::Heard(recording));
            } else {
                self.play_one(job);
            }
        }
        progress(0, 0);
    }

    /// Begins to play a conversation beside others.
    fn begin(&self, job: &Job) -> thread::JoinHandle<Recording> {
        let (address, lines) = (self.subject.address, job.lines.clone());
        thread::spawn(move || listen(address, &lines, PATIENCE))
    }

    /// Whether it answers at the first line, with more than step 02 would.
    pub fn answers_early(&self, session: &Session, step: &str) -> Option<Fault> {
        let Some(Played::Heard(recording)) =
            self.played.get(&self.job(session, step).key)
        else {
            return None;
        };
        let has_fields = recording.heard.first()?.has_field("Content-Type");
        let fault = judge(&session.lines(step), recording).fault?;
        let is_early =
            fault.expected == "(silence)" && !fault.came.starts_with('(') && has_fields;
        let what = "It answers at the first line, and should wait for the empty line.";
        is_early.then(|| Fault { what: what.to_string(), kind: "early", ..fault })
    }

    /// What a conversation with a step has shown, when it has been played.
    pub fn shown(&self, session: &Session, step: &str) -> Shown {
        let job = self.job(session, step);
        let fault = |fault| Verdict { fault, has_answer: true, ..Verdict::default() };
        match self.played.get(&job.key) {
            None => Shown::LeftOut("Not played."),
            Some(Played::LeftOut(why)) => Shown::LeftOut(why),
            Some(Played::Exact(exact)) => Shown::Verdict(fault(exact.clone())),
            Some(Played::Ended(what)) => {
                let ended = Fault::new(what.clone(), "", "");
                Shown::Verdict(fault(Some(Fault { is_point: true, ..ended })))
            }
            Some(Played::Heard(recording)) => {
                Shown::Verdict(judge(&session.lines(step), recording))
            }
        }
    }

    /// Plays one that has failed again, with more patience. Says whether it passes now, and keeps
    /// that when it was only too late before.
    pub fn passes_alone(
        &mut self,
        session: &Session,
        step: &str,
        was_late: bool,
    ) -> bool {
        let job = self.job(session, step);
        let is_heard = matches!(self.played.get(&job.key), Some(Played::Heard(_)));
        // That it serves one client after the other is known by now, and makes others wait.
        let is_known = self.is_concurrent == Some(false)
            && job.lines.iter().any(|line| !line.client.is_empty())
            || takes_long(&job.lines);
        if self.is_over().is_some() || !is_heard || is_known {
            return false;
        }
        let patience = SECOND_CHANCE.max(self.patience());
        let recording = listen(self.subject.address, &job.lines, patience);
        self.connections += 1;
        let passes = judge(&session.lines(step), &recording).fault.is_none();
        if was_late {
            self.played.insert(job.key, Played::Heard(recording));
        }
        passes
    }

    /// Whether an exercise is done.
    pub fn is_met(&mut self, goal: &Session, step: &str) -> bool {
        if self.is_over().is_some() {
            return false;
        }
        let lines = goal.lines(step);
        let result =
            replay::play_within(PATIENCE, self.subject.address, &lines, Typing::AtOnce);
        if self.subject.ended(AFTER).is_some() && self.subject.restart().is_err() {
            self.is_gone = true;
        }
        result.is_ok()
    }

    /// What is wrong with the server as a whole.
    pub fn troubles(&mut self) -> Vec<Fault> {
        let mut troubles = Vec::new();
        if let Some((count, how)) = self.deaths.first() {
            let is_regular = self.deaths.len() > 1
                && self.deaths.iter().all(|(other, _)| other.abs_diff(*count) <= 2);
            let when = if is_regular { "each time" } else { "" };
            let what = format!(
                "It ended {when} after about {count} connections, {how}. No conversation ends it \
                 when it is played alone."
            );
            let fault = Fault::new(what.replace("  ", " "), "", "");
            troubles.push(Fault { kind: "ends", ..fault });
        }
        let before = self.descriptors.filter(|_| self.starts == 0 && !self.is_gone);
        if let Some(before) = before.filter(|_| self.connections > 20) {
            let deadline = Instant::now() + CLOSING_TIME;
            let more = loop {
                let more = self.subject.descriptors().unwrap_or(0).saturating_sub(before);
                if more * MAX_LEAK < self.connections || Instant::now() > deadline {
                    break more;
                }
                thread::sleep(Duration::from_millis(50));
            };
            if more * MAX_LEAK >= self.connections {
                let what = format!(
                    "After {} connections it has {more} more open than in the beginning, and \
                     closes them no more: one day it cannot open another.",
                    self.connections
                );
                troubles.push(Fault { kind: "leak", ..Fault::new(what, "", "") });
            }
        }
        troubles
    }

    /// How long half of its answers take, when that is slow.
    pub fn slowness(&self) -> Option<Duration> {
        let mut times = self.times.clone();
        times.sort();
        let median = times.get(times.len() / 2).copied()?;
        (median > Duration::from_millis(500)).then_some(median)
    }

    fn has_answered_nothing(&self) -> bool {
        self.times.is_empty() && self.late >= MAX_LATE
    }

    fn job(&self, session: &Session, step: &str) -> Job {
        let lines = session.lines(step);
        let what = if self.exact { render(&lines) } else { script(&lines) };
        Job { key: format!("{}\n{what}", session.name), lines }
    }

    /// How long it may take for an answer, after what it has taken so far.
    fn patience(&self) -> Duration {
        match self.times.iter().max() {
            None => PATIENCE,
            Some(slowest) => (*slowest * 4).clamp(IMPATIENCE, MAX_PATIENCE),
        }
    }

    /// How many conversations are played side by side. When it is not ours to be started again,
    /// one after the other, if it is quick enough: so it is known which one has ended it.
    fn width(&self) -> usize {
        let slowest = self.times.iter().max().copied().unwrap_or_default();
        match self.is_concurrent {
            Some(true) if self.exact => 1,
            Some(true) if slowest > IMPATIENCE => WIDTH * 4,
            Some(true) if self.subject.is_ours() || slowest > IMPATIENCE / 10 => WIDTH,
            _ => 1,
        }
    }

    /// Whether it serves a client while another says nothing.
    fn is_concurrent(&mut self) -> bool {
        if let Some(known) = self.is_concurrent {
            return known;
        }
        let address = self.subject.address;
        self.connections += 3;
        let time = ask(address, PATIENCE);
        self.times.extend(time);
        self.late += usize::from(time.is_none());
        let is_concurrent = time.is_some_and(|time| {
            let Ok(idle) = TcpStream::connect_timeout(&address, PATIENCE) else {
                return false;
            };
            // Whoever serves one after the other has taken this one by now.
            let second = ask(address, Duration::from_millis(300) + time * 3);
            request(idle, PATIENCE); // It asks in the end: to leave is another matter.
            second.is_some()
        });
        self.is_concurrent = Some(is_concurrent);
        is_concurrent
    }

    fn play_batch(&mut self, jobs: Vec<Job>) {
        if jobs.len() == 1 || self.is_over().is_some() {
            return jobs.into_iter().for_each(|job| self.play_one(job));
        }
        let (address, patience) = (self.subject.address, self.patience());
        let recordings: Vec<Recording> = thread::scope(|scope| {
            let listeners: Vec<_> = jobs
                .iter()
                .map(|job| scope.spawn(|| listen(address, &job.lines, patience)))
                .collect();
            listeners.into_iter().map(|it| it.join().unwrap_or_default()).collect()
        });
        self.connections += jobs.iter().map(Job::connections).sum::<usize>();
        let is_left = |job: &Job| leaves(&job.lines);
        let pause = if jobs.iter().any(is_left) { LEAVE } else { AFTER };
        let is_suspect = recordings.iter().any(Recording::breaks_off);
        let count = self.connections;
        let end = self.has_ended(pause, is_suspect);
        let has_ended = end.is_some();
        if has_ended && self.subject.is_ours() {
            self.restart();
        }
        let starts = self.starts;
        for (job, recording) in jobs.into_iter().zip(recordings) {
            // Side by side, one may be late because of another, or meet the end of another.
            if has_ended || recording.breaks_off() || recording.is_late() {
                self.play_one(job);
            } else {
                self.learn(&recording);
                self.last = Some(job.clone());
                self.played.insert(job.key, Played::Heard(recording));
            }
        }
        // If none of them ends it when it is played alone, it was none of them.
        if let Some(how) = end.filter(|_| starts == self.starts && self.subject.is_ours())
        {
            self.deaths.push((count, how));
        }
    }

    /// Why nothing more is played.
    fn is_over(&self) -> Option<&'static str> {
        match () {
            () if self.is_gone => Some("Not played: the server is gone."),
            () if self.has_answered_nothing() => {
                Some("Not played: it has answered nothing so far.")
            }
            () if self.start.elapsed() > BUDGET => Some("Not played: it took too long."),
            () => None,
        }
    }

    /// Plays one conversation. If it ends the server, that is the fault, and it is started again.
    fn play_one(&mut self, job: Job) {
        if let Some(why) = self.is_over() {
            self.played.insert(job.key, Played::LeftOut(why));
            return;
        }
        let (played, end) = self.play_once(&job, AFTER);
        let played = match end {
            None => {
                if let Played::Heard(recording) = &played {
                    self.learn(recording);
                }
                played
            }
            Some(how) => self.find_culprit(&job, played, &how),
        };
        self.last = Some(job.clone());
        self.played.insert(job.key, played);
    }

    fn learn(&mut self, recording: &Recording) {
        self.late += usize::from(recording.is_late());
        self.times.extend(recording.slowest());
    }

    /// Plays one conversation once. Returns how it has ended the server, if it has done so within
    /// this time after it.
    fn play_once(&mut self, job: &Job, after: Duration) -> (Played, Option<String>) {
        let address = self.subject.address;
        let lines = &job.lines;
        self.connections += job.connections();
        let (played, breaks_off, is_suspect) = if self.exact {
            let patience = if takes_long(lines) { PATIENCE * 5 } else { PATIENCE };
            let result = replay::play_within(patience, address, lines, Typing::AtOnce);
            let fault = result.err().map(|what| Fault::new(what, "", ""));
            let is_suspect = fault.is_some();
            (Played::Exact(fault), is_suspect, is_suspect)
        } else {
            let patience = match self.late {
                0..6 => self.patience(),
                _ => self.patience().min(IMPATIENCE / 2),
            };
            let recording = listen(address, lines, patience);
            let (breaks_off, late) = (recording.breaks_off(), recording.is_late());
            (Played::Heard(recording), breaks_off, breaks_off || late)
        };
        // An end shows in a conversation that breaks off, a moment before it shows elsewhere.
        let pause = match () {
            () if leaves(lines) => LEAVE,
            () if breaks_off => after.max(Duration::from_millis(15)),
            () => after,
        };
        let end = self.has_ended(pause, leaves(lines) || is_suspect);
        (played, end)
    }

    /// How the server has ended, if it has.
    fn has_ended(&mut self, pause: Duration, is_suspect: bool) -> Option<String> {
        if !self.subject.is_ours() && !is_suspect {
            return None;
        }
        let end = self.subject.ended(pause);
        if end.is_some() || !is_suspect {
            return end;
        }
        self.connections += 1;
        if self.subject.listens() {
            return None;
        }
        let end = self.subject.ended(Duration::from_millis(500));
        Some(end.unwrap_or_else(|| "and nothing listens any more".to_string()))
    }

    /// Starts it again, and says what follows from that for a sentence on its end.
    fn restart(&mut self) -> String {
        self.starts += 1;
        self.connections = 1;
        match self.subject.restart() {
            Ok(()) => String::new(),
            Err(error) => {
                self.is_gone = true;
                format!(". To start it again failed: {error:#}")
            }
        }
    }

    /// The server has ended in this conversation. Was it this one, the one before, or neither?
    fn find_culprit(&mut self, job: &Job, played: Played, how: &str) -> Played {
        let count = self.connections;
        if !self.subject.is_ours() {
            self.is_gone = true;
            let doubt = "It was not started by this, so it cannot be tried again.";
            let Played::Heard(recording) = &played else { return played };
            if recording.heard.is_empty()
                && let Some(last) = self.last.take()
            {
                let what =
                    format!("The server ended after this conversation, {how}. {doubt}");
                self.played.insert(last.key, Played::Ended(what));
                return Played::LeftOut("Not played: the server is gone.");
            }
            let what = format!("The server ended in this conversation, {how}. {doubt}");
            return Played::Ended(what);
        }
        let failed = self.restart();
        if self.is_gone {
            let what = format!("The server ended in this conversation, {how}{failed}");
            return Played::Ended(what);
        }
        if self.deaths.len() > 1 {
            self.deaths.push((count, how.to_string()));
            let (played, end) = self.play_once(job, AFTER);
            if end.is_some() {
                self.restart();
            }
            return played;
        }
        // A suspect is played to a server that is fresh.
        let mut latest = played;
        for _ in 0..TRIALS {
            let (played, end) = self.play_once(job, LEAVE);
            let failed = self.restart();
            if let Some(how) = end {
                let what =
                    format!("This conversation has ended the server, {how}{failed}");
                return Played::Ended(what);
            }
            latest = played;
        }
        if let Some(last) = self.last.clone() {
            for _ in 0..TRIALS {
                let (_, end) = self.play_once(&last, LEAVE);
                let failed = self.restart();
                if let Some(how) = end {
                    let what = format!(
                        "This conversation has ended the server, a moment later, {how}{failed}"
                    );
                    self.played.insert(last.key, Played::Ended(what));
                    return latest;
                }
            }
        }
        self.deaths.push((count, how.to_string()));
        latest
    }
}

/// Whether the clients leave without having heard an answer.
fn leaves(lines: &[Line]) -> bool {
    lines.last().is_some_and(|line| {
        matches!(line.event, Event::Close | Event::HalfClose | Event::Reset)
    })
}

/// How long it takes to answer a good request, if it does within a time.
fn ask(address: SocketAddr, patience: Duration) -> Option<Duration> {
    let start = Instant::now();
    let stream = TcpStream::connect_timeout(&address, patience).ok()?;
    request(stream, patience).then(|| start.elapsed())
}

/// Shows on a terminal how far it is, and takes that away in the end.
fn progress(done: usize, all: usize) {
    if io::stderr().is_terminal() {
        let text = match all {
            0 => String::new(),
            _ => format!("Playing conversations: {done} of {all}"),
        };
        write!(io::stderr(), "\r\x1b[K{text}").ok();
    }
}
