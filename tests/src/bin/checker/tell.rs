//! Tells a person how far the server is, on one screen, and what to do next.

use crate::again::again;
use crate::report::{Outcome, Report};
use crate::{Arguments, EARLY, Findings};
use colored::Colorize;
use replayer::guide::Guide;
use replayer::judge::Fault;
use replayer::session::{Event, Session, render};
use std::net::SocketAddr;
use terminal_size::{Height, Width, terminal_size};
use textwrap::core::display_width;

/// Lines that belong together, and how many of them are needed.
struct Block {
    lines: Vec<String>,
    least: usize,
    /// What is less important is cut first.
    importance: usize,
}

/// What is to be told, and of which server.
pub struct Teller<'a> {
    pub arguments: &'a Arguments,
    pub guide: &'a Guide,
    /// All steps.
    pub names: &'a [String],
    pub address: SocketAddr,
    /// What starts the server, or nothing when it runs already.
    pub command: String,
}

impl Teller<'_> {
    /// The verdict. `news` is what has changed since the last one.
    pub fn tell(&self, findings: &Findings, news: &[String]) -> String {
        let size = terminal_size();
        let height = size.map_or(24, |(_, Height(height))| usize::from(height).max(20));
        let mut blocks = vec![fixed(news.to_vec()), fixed(vec![String::new()])];
        let verdict = self.verdict(findings);
        let is_done = findings.is_done;
        blocks.push(fixed(
            verdict
                .lines()
                .flat_map(|line| wrap(line, ""))
                .map(|line| if is_done { line.green().to_string() } else { line })
                .collect(),
        ));
        if let Some(time) = findings.slowness {
            let what = format!(
                "It is slow: half of its answers take {time:.1?} or more to begin."
            );
            blocks.push(fixed(red(&what)));
        }
        if !is_done {
            self.tell_faults(findings, &mut blocks);
        }
        if let Some(lines) = exercises(findings) {
            blocks.push(Block { lines, least: 1, importance: 3 });
        }
        if let Some(next) = findings.next().filter(|_| !is_done) {
            self.tell_others(findings, next, &mut blocks);
        }
        if !self.arguments.all {
            // One line is for the prompt.
            fit(&mut blocks, height - 1);
        }
        let lines: Vec<String> =
            blocks.into_iter().flat_map(|block| block.lines).collect();
        lines.join("\n").trim_end().to_string()
    }

    fn tell_faults(&self, findings: &Findings, blocks: &mut Vec<Block>) {
        let mut is_first = true;
        let is_other = |fault: &Fault| !is_aside(findings, fault);
        let has_first = findings.next().is_some_and(|report| report.first().is_some())
            || findings.everywhere().any(is_other);
        for fault in findings.everywhere() {
            if is_aside(findings, fault) && has_first {
                continue;
            }
            let head = match fault.kind {
                "ends" | "leak" => "It cannot go on like this:".to_string(),
                "early" => "In every answer:".to_string(),
                _ => in_answers(findings),
            };
            blocks.push(fixed(vec![String::new(), head.bold().to_string()]));
            blocks.push(fixed(self.difference(fault)));
            blocks.push(rule(fault.rule));
            if is_first {
                self.tell_again(self.again_of_all(findings, fault), blocks);
            }
            is_first = false;
        }
        let Some(report) = findings.next() else { return };
        for (session, outcome) in &report.outcomes {
            if let Outcome::Failed(fault) = outcome
                && (is_first || self.arguments.all)
            {
                let note = findings.note.as_deref().filter(|_| is_first);
                self.tell_session(report, session, fault, note, blocks);
                is_first = false;
            }
        }
    }

    fn tell_session(
        &self,
        report: &Report,
        session: &Session,
        fault: &Fault,
        note: Option<&str>,
        blocks: &mut Vec<Block>,
    ) {
        let lines = session.lines(report.step);
        // Its chapter is that of the step with which the conversation has become what it is.
        let since = self.names.iter().find(|step| session.lines(step) == lines);
        let since = since.map_or(report.step, String::as_str);
        blocks.push(fixed(vec![
            String::new(),
            format!("{} ({})", session.title.bold(), session.name),
        ]));
        let about = wrap(&session.about, "");
        blocks.push(Block { lines: about, least: 0, importance: 1 });
        // To the byte, the fault is told with all that was said.
        let is_told = fault.what.contains('\n');
        let rendered = render(&lines);
        let typed = lines.iter().zip(rendered.lines()).filter(|(line, _)| {
            !is_told
                && !matches!(
                    line.event,
                    Event::Receive(_)
                        | Event::Matters(_)
                        | Event::MayBeLost
                        | Event::ServerClose
                )
        });
        let typed = typed.map(|(_, text)| cut(&format!("    {text}"), width())).collect();
        blocks.push(Block { lines: typed, least: 1, importance: 4 });
        blocks.push(fixed(self.difference(fault)));
        if let Some(note) = note {
            blocks.push(fixed(wrap(note, "")));
        }
        // The rule that any answer would break says most. Where it is a refusal, or silence, it is
        // the rule that the session is about.
        let is_about = fault.rule.is_empty()
            && !fault.is_point
            && !fault.expected.is_empty()
            && !fault.expected.contains(" 200 ");
        let own = self.guide.rules(&session.name).first().filter(|_| is_about);
        blocks.push(rule(own.map_or(fault.rule, String::as_str)));
        if let Some(place) = self.guide.place(since, &session.name) {
            blocks.push(fixed(wrap(place, "The book:  ")));
        }
        self.tell_again(Some(again(&lines, self.address, &session.name, fault)), blocks);
    }

    /// How to see it again: whoever has started the server has ended it, too.
    fn tell_again(&self, command: Option<String>, blocks: &mut Vec<Block>) {
        let Some(command) = command else { return };
        if !self.command.is_empty() {
            let first = format!("{} (in another terminal)", self.command);
            blocks.push(fixed(vec![cut(&format!("First:     {first}"), width() * 2)]));
        }
        blocks.push(fixed(vec![format!("Again:     {command}")]));
    }

    /// A command that shows what is wrong with all that it does.
    fn again_of_all(&self, findings: &Findings, fault: &Fault) -> Option<String> {
        let address = self.address;
        match fault.kind {
            "ends" => Some(format!(
                "for n in $(seq 50); do curl -sS --max-time 2 -o /dev/null http://{address}/; done"
            )),
            "leak" => None,
            "early" => {
                let report = findings.next()?;
                let is_it = |session: &&&Session| session.name == EARLY;
                let mut sessions = report.outcomes.iter().map(|(session, _)| session);
                let session = sessions.find(is_it)?;
                Some(again(&session.lines(report.step), address, EARLY, fault))
            }
            _ => {
                let report = findings.next()?;
                let session = report.example?;
                Some(again(&session.lines(report.step), address, &session.name, fault))
            }
        }
    }

    /// What is wrong, what was expected, what came, and where they part.
    fn difference(&self, fault: &Fault) -> Vec<String> {
        if fault.what.contains('\n') {
            let room = if self.arguments.all { usize::MAX } else { 12 };
            return fault
                .what
                .lines()
                .take(room)
                .map(|line| line.red().to_string())
                .collect();
        }
        let mut lines = red(&fault.what);
        if !fault.expected.is_empty() || !fault.came.is_empty() {
            let room = width().saturating_sub(15).max(20);
            // The place where they part is to be seen.
            let skip = (fault.same + 10).saturating_sub(room);
            let part = |text: &str| -> String {
                let text: String = text.chars().skip(skip).collect();
                cut(&text, room)
            };
            lines.push(format!("    expected  {}", part(&fault.expected)));
            lines.push(format!("    came      {}", part(&fault.came)));
            lines.push(format!(
                "              {}^",
                " ".repeat(fault.same - skip.min(fault.same))
            ));
        }
        lines
    }

    /// The others in a line, or each with what is wrong, and where to go from here.
    fn tell_others(&self, findings: &Findings, next: &Report, blocks: &mut Vec<Block>) {
        let is_told = |fault: &&Fault| {
            let is_other = |fault: &Fault| !is_aside(findings, fault);
            let has_first = next.first().is_some() || findings.everywhere().any(is_other);
            !is_aside(findings, fault) || !has_first
        };
        let everywhere = findings.everywhere().find(is_told);
        for fault in findings.everywhere().filter(|fault| !is_told(fault)) {
            let what = match fault.kind {
                "leak" => fault.what.clone(),
                _ => format!("And i{} {}", &in_answers(findings)[1..], fault.what),
            };
            blocks.push(fixed(wrap(&what, "")));
        }
        let first = next.first().filter(|_| everywhere.is_none());
        let first = first.map(|(session, _)| &session.name);
        let failed: Vec<&Session> = next
            .outcomes
            .iter()
            .filter(|(session, outcome)| {
                matches!(outcome, Outcome::Failed(_)) && Some(&session.name) != first
            })
            .map(|(session, _)| *session)
            .collect();
        let is_one = self.arguments.session.is_some();
        if !failed.is_empty() && !is_one && !self.arguments.all {
            let names: Vec<&str> =
                failed.iter().map(|session| session.name.as_str()).collect();
            let count = failed.len();
            let head = match (count, first) {
                (1, None) => "One differs: ".to_string(),
                (_, None) => format!("{count} differ: "),
                (1, Some(_)) => "One more differs: ".to_string(),
                _ => format!("{count} more differ: "),
            };
            let text = format!("{head}{}.", names.join(", "));
            blocks.push(Block { lines: wrap(&text, ""), least: 1, importance: 2 });
        }
        if self.arguments.all {
            let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
            for (session, outcome) in &next.outcomes {
                let Outcome::LeftOut(why) = outcome else { continue };
                match groups.iter_mut().find(|(known, _)| known == why) {
                    Some((_, names)) => names.push(&session.name),
                    None => groups.push((why, vec![&session.name])),
                }
            }
            for (why, names) in groups {
                let mut lines = vec![String::new(), why.to_string()];
                lines.extend(wrap(&names.join(", "), "    "));
                blocks.push(fixed(lines));
            }
        }
        let mut ways = vec!["--hint 1 (2, 3) helps with the first"];
        if everywhere.is_some() || next.first().is_none() {
            ways.clear();
        }
        if !failed.is_empty() && !is_one && !self.arguments.all {
            ways.push("--session NAME or --all shows others");
        }
        if !ways.is_empty() {
            blocks.push(fixed(wrap(&format!("{}.", ways.join(", ")), "")));
        }
    }

    /// In a sentence or two, how far it is.
    fn verdict(&self, findings: &Findings) -> String {
        let reached = findings.reached().map(|report| report.step);
        let next = findings.next();
        let name = next.map_or("", |next| next.step);
        let share = next.map_or_else(String::new, |next| {
            format!("{} of {} conversations", next.passed(), next.outcomes.len())
        });
        let left_out = match next.map(|next| (next.left_out(), next.why_left_out())) {
            None | Some((0, _)) => String::new(),
            Some((count, why)) => format!(
                "\n{count} of them {} not played: {}",
                if count == 1 { "was" } else { "were" },
                why.trim_start_matches("Not played: ")
            ),
        };
        if self.arguments.session.is_some() {
            let fitting: Vec<&str> = findings
                .reports
                .iter()
                .filter(|report| report.is_passed())
                .map(|report| report.step)
                .collect();
            let fits = match &fitting[..] {
                [] => String::new(),
                steps => format!(
                    "In this conversation, your server does what it should in {}.",
                    steps.join(", ")
                ),
            };
            let falls_short = match findings.is_done {
                true => String::new(),
                false => format!("In {name} it should do something else.{left_out}"),
            };
            return [fits, falls_short].join("\n").trim().to_string();
        }
        let is_last = |step: &str| self.names.last().is_some_and(|last| last == step);
        match reached {
            Some(step) if is_last(step) => {
                format!(
                    "Your server behaves like step {step}, the last one.\n\
                     What comes after it is in the book: book/src/after.md."
                )
            }
            Some(step) if findings.is_done => {
                format!("Your server behaves like step {step}.")
            }
            Some(step) => format!(
                "Your server behaves like step {step}.\n\
                 In {share} it does what step {name} does.{left_out}"
            ),
            None if findings.slowness.is_some()
                && next.is_some_and(|next| next.left_out() > 0) =>
            {
                let played = next.map_or(0, |next| next.outcomes.len() - next.left_out());
                let passed = next.map_or(0, Report::passed);
                format!(
                    "Your server is too slow to be checked.\n\
                     Of the conversations with step {name}, there was time for {played}: \
                     {passed} are as they should be."
                )
            }
            None if self.arguments.step.is_some() => {
                format!("In {share}, your server does what step {name} does.{left_out}")
            }
            None if next.is_some_and(Report::is_near) => format!(
                "Your server is nearly step {name}: it does what that does in {share}.{left_out}"
            ),
            None => format!(
                "Your server behaves like none of the steps yet.\n\
                 It comes closest to {name}, in {share}.{left_out}"
            ),
        }
    }
}

/// Which exercises of the step that it has reached are done.
fn exercises(findings: &Findings) -> Option<Vec<String>> {
    let step = findings.reached()?.step;
    let all = &findings.exercises;
    if all.is_empty() {
        return None;
    }
    let count = all.iter().filter(|(_, is_done)| *is_done).count();
    let list = |done: bool| -> Vec<String> {
        let named = all.iter().filter(|(_, is_done)| *is_done == done);
        named.map(|(goal, _)| format!("{} ({})", goal.name, goal.title)).collect()
    };
    let mut text =
        format!("Exercises of step {}: {count} of {} done", &step[..2], all.len());
    for (head, names) in [("done: ", list(true)), ("not yet: ", list(false))] {
        if !names.is_empty() {
            text += &format!("; {head}{}", names.join(", "));
        }
    }
    Some(wrap(&format!("{text}."), ""))
}

/// Whether a fault of all answers is but a part of what comes next, or can wait until the
/// conversations are right.
fn is_aside(findings: &Findings, fault: &Fault) -> bool {
    findings.reached().is_some() || fault.kind == "leak"
}

/// In how many answers something is.
fn in_answers(findings: &Findings) -> String {
    match findings.next().map_or((0, 0), |report| report.count) {
        (count, all) if count * 5 >= all * 4 => "In every answer:".to_string(),
        (count, all) => format!("In {count} of {all} answers:"),
    }
}

fn fixed(lines: Vec<String>) -> Block {
    Block { least: lines.len(), lines, importance: usize::MAX }
}

fn rule(text: &str) -> Block {
    let lines = if text.is_empty() { Vec::new() } else { wrap(text, "The rule:  ") };
    Block { lines, least: 0, importance: 2 }
}

fn red(text: &str) -> Vec<String> {
    wrap(text, "").into_iter().map(|line| line.red().to_string()).collect()
}

/// Cuts what is least important, until all fits into so many lines of the terminal.
fn fit(blocks: &mut [Block], height: usize) {
    let width = width();
    let rows = |line: &String| display_width(line).max(1).div_ceil(width);
    loop {
        let all: usize = blocks.iter().flat_map(|block| &block.lines).map(rows).sum();
        if all <= height {
            return;
        }
        let can_be_cut =
            blocks.iter_mut().filter(|block| block.lines.len() > block.least);
        let Some(block) = can_be_cut.min_by_key(|block| block.importance) else { return };
        block.lines.pop();
        if let Some(last) = block.lines.last_mut() {
            let indent = last.len() - last.trim_start().len();
            *last = match block.importance {
                4 => format!("{}…", " ".repeat(indent)),
                _ => cut(&format!("{} …", last.trim_end_matches(" …")), width),
            };
        }
    }
}

fn width() -> usize {
    terminal_size().map_or(80, |(Width(width), _)| usize::from(width).clamp(40, 100))
}

/// A text that is no longer than this, with an ellipsis where it was.
fn cut(text: &str, width: usize) -> String {
    if display_width(text) <= width {
        return text.to_string();
    }
    let mut short = String::new();
    for c in text.trim_end_matches(" …").chars() {
        if display_width(&short) + 2 > width {
            break;
        }
        short.push(c);
    }
    short.trim_end().to_string() + "…"
}

/// A text in lines that fit into the terminal, behind a label.
fn wrap(text: &str, label: &str) -> Vec<String> {
    let indent = " ".repeat(label.len());
    let options = textwrap::Options::new(width())
        .break_words(false)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .initial_indent(label)
        .subsequent_indent(&indent);
    textwrap::wrap(text, options).into_iter().map(String::from).collect()
}
