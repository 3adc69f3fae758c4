//! What a chapter's `{{#…}}` become. `book/README.md` describes them for who writes a chapter.

use crate::page;
use crate::steps::{Part, Row, Step, changes, is_in};
use anyhow::{Context, Result, bail, ensure};
use indexmap::IndexMap;
use mdbook_preprocessor::book::{Book, Chapter};
use regex::{Captures, Regex};
use replayer::exercise::{self, Exercise};
use replayer::session::{Event, Session, Won, read_all, wins};
use serde::Deserialize;
use similar::ChangeTag;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

/// What the book is about, and what of it the chapters have shown so far.
pub struct Directives {
    /// All steps.
    pub steps: Vec<Step>,
    /// The diff of each step to the one before.
    pub diffs: Vec<Vec<Part>>,
    /// For each step, the way to it: its stages, and then itself.
    legs: Vec<Vec<Leg>>,
    /// How many of the legs of its step the chapter has come to the end of.
    run: usize,
    /// The sessions that are asked for where they are shown first.
    asked: HashSet<String>,
    /// The sessions that the chapter has shown, with the step.
    ids: HashSet<String>,
    /// The sessions that each stage wins, by its name.
    wins: HashMap<String, Won>,
    /// All sessions.
    pub sessions: Vec<Session>,
    /// All exercises that a session can check.
    pub exercises: Vec<Exercise>,
    /// What a link to a file of the repository begins with.
    pub repository: String,
    /// Where each session is shown first, in the order of the chapters.
    places: IndexMap<String, String>,
    /// How long the parts of the chapters take, from their front matter: the chapter's name, the
    /// part's heading, and minutes.
    minutes: Vec<(String, String, u32)>,
    /// All that clients send in the sessions, and all that they receive.
    said: [String; 2],
    /// The exercises that a chapter sets.
    set: HashSet<String>,
    /// What is wrong, a line each.
    problems: Vec<String>,
}

/// The way from one stage or step to the next.
struct Leg {
    /// The diff.
    parts: Vec<Part>,
    /// Which parts of it the chapter of its step shows.
    shown: HashSet<usize>,
}

impl Directives {
    /// Reads the steps and the sessions.
    ///
    /// # Errors
    /// Names the file, and what is wrong with it.
    pub fn read(root: &Path, repository: String) -> Result<Directives> {
        let steps = Step::read_all(root)?;
        let names: Vec<_> = steps.iter().map(|step| step.name.clone()).collect();
        let sessions = read_all(&root.join("tests/sessions"), &names)?;
        let exercises = exercise::read_all(&root.join("tests/exercises"), &names)?;
        let (mut diffs, mut legs, mut before) = (Vec::new(), Vec::new(), None);
        for step in &steps {
            diffs.push(step.diff(before)?);
            let mut own = Vec::new();
            for leg in step.legs() {
                own.push(Leg { parts: leg.diff(before)?, shown: HashSet::new() });
                before = Some(leg);
            }
            legs.push(own);
        }
        let wins =
            wins(&fs::read_to_string(root.join("tests/stages.txt")).unwrap_or_default());
        let (places, minutes, set, problems) = Default::default();
        let said = said(&sessions, &names);
        Ok(Directives {
            steps,
            diffs,
            legs,
            run: 0,
            asked: HashSet::new(),
            ids: HashSet::new(),
            wins,
            sessions,
            exercises,
            repository,
            places,
            minutes,
            said,
            set,
            problems,
        })
    }

    /// Replaces the directives of all chapters. Returns what has been counted, in words.
    ///
    /// # Errors
    /// Says in a line each what is wrong: a directive, by chapter and line; a changed line that
    /// no diff of its chapter shows; a session that is in no chapter; code or a transcript that
    /// is typed by hand.
    pub fn replace(&mut self, book: &mut Book) -> Result<String> {
        book.for_each_chapter_mut(|chapter| self.read_front_matter(chapter));
        // Once to find out where each session is shown, and then again, to link to it.
        let known = self.problems.len();
        book.clone().for_each_chapter_mut(|chapter| self.replace_in(chapter));
        self.problems.truncate(known);
        book.for_each_chapter_mut(|chapter| self.replace_in(chapter));
        let (shown, all) = self.coverage();
        for session in &self.sessions {
            if !self.places.contains_key(&session.name) {
                let problem = "is in no chapter: show it with {{#session}} or {{#more}}";
                self.problems
                    .push(format!("tests/sessions/{}.session {problem}", session.name));
            }
        }
        for exercise in &self.exercises {
            let name = &exercise.goal.name;
            if !self.set.contains(name) {
                let problem = "is in no chapter: set it with {{#exercise}}";
                self.problems.push(format!("tests/exercises/{name}.session {problem}"));
            }
        }
        ensure!(self.problems.is_empty(), self.problems.join("\n"));
        Ok(format!(
            "{shown} of {all} changed lines shown, {} sessions",
            self.sessions.len()
        ))
    }

    /// Takes the front matter off a chapter: TOML between two lines of `+++`. Empty lines take its
    /// place, so that the others keep their numbers.
    fn read_front_matter(&mut self, chapter: &mut Chapter) {
        let Some(path) = &chapter.path else { return };
        let Some(rest) = chapter.content.strip_prefix("+++\n") else { return };
        let Some((matter, text)) = rest.split_once("\n+++\n") else { return };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let place = format!("book/src/{}", path.display());
        match toml::from_str::<FrontMatter>(matter) {
            Ok(matter) => {
                for (heading, minutes) in matter.minutes {
                    if !text.contains(&format!("\n## {heading}\n")) {
                        self.problems
                            .push(format!("{place}: there is no heading {heading:?}"));
                    }
                    self.minutes.push((stem.clone(), heading, minutes));
                }
            }
            Err(error) => {
                self.problems.push(format!("{place}: in its front matter: {error}"))
            }
        }
        let lines = matter.lines().count() + 2;
        chapter.content = "\n".repeat(lines) + text;
    }

    /// The parts of a chapter, or the named one, with their minutes.
    fn parts(&self, chapter: &str, heading: &str) -> Result<Vec<&(String, String, u32)>> {
        let is_it = |part: &&(String, String, u32)| {
            part.0 == chapter || part.0.starts_with(&format!("{chapter}-"))
        };
        let all: Vec<_> = self.minutes.iter().filter(is_it).collect();
        ensure!(!all.is_empty(), "{chapter} has no minutes in its front matter");
        let known: Vec<_> = all.iter().map(|part| part.1.as_str()).collect();
        let found: Vec<_> = match heading {
            "" => all,
            _ => self
                .minutes
                .iter()
                .filter(is_it)
                .filter(|part| part.1 == heading)
                .collect(),
        };
        ensure!(
            !found.is_empty(),
            "{chapter} has no {heading:?}, only {}",
            known.join("; ")
        );
        Ok(found)
    }

    /// A plan of a lesson: `of 45: introduction Sockets; 01`.
    fn plan(&self, text: &str) -> Result<String> {
        let (time, items) = text
            .strip_prefix("of ")
            .and_then(|text| text.split_once(':'))
            .context("expected of MINUTES: CHAPTER [PART]; …")?;
        let time: u32 = time.trim().parse().context("expected a number of minutes")?;
        let mut rows = Vec::new();
        let mut sum = 0;
        for item in items.split(';').map(str::trim) {
            let (chapter, heading) = item.split_once(' ').unwrap_or((item, ""));
            for (chapter, heading, minutes) in self.parts(chapter, heading)? {
                rows.push((sum, chapter.as_str(), heading.as_str(), *minutes));
                sum += minutes;
            }
        }
        ensure!(sum <= time, "these parts take {sum} minutes, not {time}");
        Ok(page::plan(time, &rows, sum))
    }

    /// Replaces the directives of a chapter.
    fn replace_in(&mut self, chapter: &mut Chapter) {
        let Some(path) = chapter.path.clone() else { return };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let own = self.steps.iter().position(|step| step.name == stem);
        self.run = 0;
        self.ids.clear();
        let page = path.with_extension("html").to_string_lossy().into_owned();
        #[allow(clippy::unwrap_used)] // The patterns are literals.
        let [pattern, comment, drawn] = [
            r"\{\{#([a-z]+) *([^}]*?)\}\}",
            "(?s)<!--.*?-->",
            r#"<text [^>]*class="bytes (sent|received)"[^>]*>([^<]*)<"#,
        ]
        .map(|pattern| Regex::new(pattern).unwrap());
        // Nobody sees what is in a comment. Its lines are kept, to be counted.
        let content = comment.replace_all(&chapter.content, |found: &Captures| {
            "\n".repeat(found[0].matches('\n').count())
        });
        let mut text = String::new();
        let mut is_code = false;
        for (index, line) in content.lines().enumerate() {
            let place = format!("book/src/{}:{}", path.display(), index + 1);
            let fence = line.trim_start(); // It may stand in a list.
            if let Some(language) =
                fence.strip_prefix("```").or(fence.strip_prefix("~~~"))
            {
                if !is_code && language != "sh" {
                    let problem = "only commands (```sh) are written by hand: show code with \
                                   {{#diff}}, and conversations with {{#session}}";
                    self.problems.push(format!("{place}: {problem}"));
                }
                is_code = !is_code;
            }
            for found in drawn.captures_iter(line) {
                let text =
                    found[2].trim_end_matches(['…', ' ']).replace(" CR LF", "\r\n");
                let said = &self.said[usize::from(&found[1] == "received")];
                if !said.contains(&text.replace("CR LF", "\r\n")) {
                    let problem =
                        format!("{:?} is {} in no session", &found[2], &found[1]);
                    self.problems
                        .push(format!("{place}: {problem}, but in this picture"));
                }
            }
            if pattern.replace_all(line, "").contains("{{") {
                self.problems.push(format!("{place}: what is this {{{{ for? {line}"));
            }
            let line = pattern.replace_all(line, |found: &Captures| {
                let (name, argument) = (&found[1], found[2].trim());
                let text = self.replacement(name, argument, own, &page);
                // In a list, a block is indented like the directive that it comes from.
                let indent = &line[..line.len() - line.trim_start().len()];
                let text = text.map(|text| text.replace('\n', &format!("\n{indent}")));
                text.unwrap_or_else(|error| {
                    self.problems.push(format!("{place}: {}: {error:#}", &found[0]));
                    String::new()
                })
            });
            text += &line.replace("](../../", &format!("]({}", self.repository));
            text.push('\n');
        }
        if let Some(leg) = own.and_then(|own| self.steps[own].legs().nth(self.run)) {
            let name = &leg.name;
            self.problems.push(format!(
                "book/src/{}: there is no {{{{#run {name}}}}}",
                path.display()
            ));
        }
        chapter.content = text;
    }

    /// What a directive becomes. `own` is the step that the chapter is about.
    fn replacement(
        &mut self,
        directive: &str,
        argument: &str,
        own: Option<usize>,
        page: &str,
    ) -> Result<String> {
        let (step, what) = self.step(argument, own)?;
        let chosen = || {
            let known: Vec<_> = self.steps.iter().map(Step::number).collect();
            step.with_context(|| {
                format!("expected a step and a colon: {}", known.join(", "))
            })
        };
        Ok(match directive {
            "diff" if what.is_empty() => {
                let index = chosen()?;
                let before = index.checked_sub(1).map(|before| &self.steps[before]);
                page::whole(
                    before,
                    &self.steps[index],
                    &self.diffs[index],
                    &self.repository,
                )
            }
            "diff" => {
                let index = chosen()?;
                let before = index.checked_sub(1).map(|before| &self.steps[before]);
                // In its own chapter, a step is told leg by leg.
                if own != Some(index) {
                    let (step, parts) = (&self.steps[index], &self.diffs[index]);
                    let found = named(step, parts, what)?;
                    return Ok(figures(before, step, parts, &found, &self.repository));
                }
                let at = self.run;
                let mut legs = self.steps[index].legs();
                let before = match at.checked_sub(1) {
                    Some(last) => legs.nth(last),
                    None => before,
                };
                let step = legs.next().context("its step has been run already")?;
                let leg = &mut self.legs[index][at];
                let found = named(step, &leg.parts, what)?;
                leg.shown.extend(&found);
                figures(before, step, &leg.parts, &found, &self.repository)
            }
            "run" => {
                let index = own.context("only the chapter of a step runs it")?;
                let leg = self.steps[index].legs().nth(self.run);
                let leg = leg.context("its step has been run already")?;
                ensure!(leg.name == argument, "expected {}, which comes next", leg.name);
                self.run += 1;
                self.run_it(index, leg)
            }
            "session" => self.transcript(what, chosen()?, page, false)?,
            "predict" => {
                let (name, why) = what.split_once(':').context("expected NAME: why")?;
                self.prediction(name.trim(), chosen()?, page, why.trim())?
            }
            "more" => {
                let step = chosen()?;
                let names = what.split(',').map(str::trim);
                let texts: Result<Vec<_>> =
                    names.map(|name| self.transcript(name, step, page, true)).collect();
                texts?.concat()
            }
            "exercise" => self.exercise(what)?,
            "plan" => self.plan(argument)?,
            "minutes" => {
                let chapter = page.trim_end_matches(".html");
                let parts = self.parts(chapter, argument)?;
                parts.iter().map(|part| part.2).sum::<u32>().to_string()
            }
            "sessions" => {
                // In the order in which the book comes to them.
                let mut sessions: Vec<_> = self.sessions.iter().collect();
                sessions.sort_by_key(|session| self.places.get_index_of(&session.name));
                page::table(&sessions, &self.steps, &self.places)
            }
            "see" => {
                self.session(what)?;
                let place = self.places.get(what).context("it is in no chapter")?;
                format!("[`{what}`]({place})")
            }
            "lines" => self.steps[chosen()?].files[1].lines.len().to_string(),
            "size" => {
                let (added, removed) = size(&self.diffs[chosen()?]);
                format!("+{added} −{removed}")
            }
            "value" => self.steps[chosen()?].value(what)?.to_string(),
            "at" => {
                let step = &self.steps[chosen()?];
                let (file, lines) = step.find(what)?;
                let (first, last) = (lines.start + 1, lines.end);
                let path = &step.files[file].path;
                let repository = &self.repository;
                let number = step.number();
                format!(
                    "[`{what}`]({repository}{path}#L{first}-L{last}) ({number}, line {first})"
                )
            }
            _ => bail!(
                "expected one of diff, run, session, predict, more, exercise, sessions, see, lines, size, value, at, \
                 minutes, plan"
            ),
        })
    }

    /// The step that an argument begins with, or the chapter's own, and the rest.
    fn step<'a>(
        &self,
        argument: &'a str,
        own: Option<usize>,
    ) -> Result<(Option<usize>, &'a str)> {
        let (number, what) = argument.split_once(':').unwrap_or((argument, ""));
        if number.len() != 2 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok((own, argument));
        }
        let known: Vec<_> = self.steps.iter().map(Step::number).collect();
        let found = known.iter().position(|known| *known == number);
        let index = found.with_context(|| {
            format!("there is no step {number}, only {}", known.join(", "))
        })?;
        Ok((Some(index), what.trim()))
    }

    fn session(&self, name: &str) -> Result<&Session> {
        self.sessions.iter().find(|session| session.name == name).with_context(|| {
            let known: Vec<_> =
                self.sessions.iter().map(|session| &*session.name).collect();
            format!("there is no session {name:?}, only {}", known.join(", "))
        })
    }

    /// The goal and the solution of an exercise, folded.
    fn exercise(&mut self, name: &str) -> Result<String> {
        let found = self.exercises.iter().find(|exercise| exercise.goal.name == name);
        let exercise = found.with_context(|| {
            let known: Vec<_> =
                self.exercises.iter().map(|known| &*known.goal.name).collect();
            format!("there is no exercise {name:?}, only {}", known.join(", "))
        })?;
        let step = self.steps.iter().find(|step| step.name == exercise.step);
        let step = step.with_context(|| format!("there is no step {}", exercise.step))?;
        if self.set.insert(name.to_string()) {
            return Ok(String::new()); // The first time, only places are looked for.
        }
        let path = format!("tests/exercises/{name}.patch");
        let patch = fs::read_to_string(&exercise.patch).context(path.clone())?;
        let solved = step.patched(&patch).context(path.clone())?;
        let parts = solved.diff(Some(step))?;
        let goal = page::goal(&exercise.goal, step, &self.repository)
            + &page::hints(&exercise.goal, step);
        Ok(goal + &page::solution(step, &solved, &parts, &path, &self.repository))
    }

    /// A session against a step, folded or not.
    fn transcript(
        &mut self,
        name: &str,
        step: usize,
        page: &str,
        is_folded: bool,
    ) -> Result<String> {
        let session = self.session(name)?;
        let step = &self.steps[step];
        let id = format!("{name}-{}", step.number());
        let text = page::transcript(session, step, &id, is_folded, &self.repository);
        self.show(name, page, id, false);
        Ok(text)
    }

    /// A session that the reader is to guess.
    fn prediction(
        &mut self,
        name: &str,
        step: usize,
        page: &str,
        why: &str,
    ) -> Result<String> {
        let session = self.session(name)?;
        let step = &self.steps[step];
        let id = format!("{name}-{}", step.number());
        ensure!(!self.ids.contains(&id), "the chapter has shown its answer already");
        let text = page::prediction(session, step, &id, why, &self.repository);
        self.show(name, page, id, true);
        Ok(text)
    }

    /// Remembers where a session is shown: where it is explained, rather than where it is asked
    /// for, and in a step's own chapter rather than on the cover.
    fn show(&mut self, name: &str, page: &str, id: String, is_asked: bool) {
        let worth = |page: &str, is_asked: bool| {
            (!is_asked, page.starts_with(|first: char| first.is_ascii_digit()))
        };
        let known = self.places.get(name);
        let known = known.map(|place| worth(place, self.asked.contains(name)));
        if known < Some(worth(page, is_asked)) {
            self.places.shift_remove(name);
            self.places.insert(name.to_string(), format!("{page}#{id}"));
            match is_asked {
                true => drop(self.asked.insert(name.to_string())),
                false => drop(self.asked.remove(name)),
            }
        }
        self.ids.insert(id);
    }

    /// How to run a stage or step, and what is won there.
    fn run_it(&self, index: usize, leg: &Step) -> String {
        let step = &self.steps[index];
        let before = index.checked_sub(1).map(|before| self.steps[before].name.as_str());
        let won = |name: &String| {
            let won = self.wins.get(name);
            won.into_iter().flat_map(|won| won.sessions.iter().cloned())
        };
        let earlier: HashSet<String> = step
            .stages
            .iter()
            .take_while(|stage| stage.name != leg.name)
            .flat_map(|stage| won(&stage.name))
            .collect();
        let new: HashSet<String> = won(&leg.name).collect();
        let is_changed = |session: &&Session| {
            before.is_none_or(|before| session.differs(before, &step.name))
        };
        let changed: Vec<&Session> = self.sessions.iter().filter(is_changed).collect();
        let is_step = leg.name == step.name;
        let is_new = |session: &&&Session| match is_step {
            true => !earlier.contains(&session.name),
            false => new.contains(&session.name),
        };
        let new: Vec<&Session> = changed.iter().filter(is_new).copied().collect();
        let so_far = if is_step { changed.len() } else { earlier.len() + new.len() };
        let how_far = match self.wins.get(&leg.name) {
            Some(won) if !is_step => won.how_far,
            _ => self.sessions.len() as u64,
        };
        let counts =
            [so_far as u64, changed.len() as u64, how_far, self.sessions.len() as u64];
        page::run(step, leg, &new, counts, &self.places)
    }

    /// How many changed lines the steps' chapters show, and how many there are. Those that are
    /// not shown are problems.
    fn coverage(&mut self) -> (usize, usize) {
        let (mut shown, mut all) = (0, 0);
        let mut before = None;
        for (index, step) in self.steps.iter().enumerate() {
            for (leg, place) in step.legs().zip(&self.legs[index]) {
                for (at, part) in place.parts.iter().enumerate() {
                    all += changes(part).count();
                    // A line that comes says more than one that goes, or an empty one.
                    let is_text = |row: &&Row| {
                        row.new.is_some_and(|line| {
                            !leg.files[part.file].lines[line].is_empty()
                        })
                    };
                    let first = changes(part).find(is_text).or(changes(part).next());
                    let Some(first) = first else { continue };
                    if place.shown.contains(&at) {
                        shown += changes(part).count();
                        continue;
                    }
                    let (from, line) = match (first.new, before) {
                        (None, Some(before)) => (before, first.old.unwrap_or_default()),
                        (line, _) => (leg, line.unwrap_or_default()),
                    };
                    let file = &from.files[part.file];
                    self.problems.push(format!(
                        "{}:{}: {:?} has changed lines, but no {{{{#diff}}}} of \
                         book/src/{}.md shows it before {{{{#run {}}}}}: {:?}",
                        file.path,
                        line + 1,
                        part.name,
                        step.name,
                        leg.name,
                        file.lines[line].trim()
                    ));
                }
                before = Some(leg);
            }
        }
        (shown, all)
    }
}

/// The parts of a diff that are named, all of which must have changed.
fn named(step: &Step, parts: &[Part], what: &str) -> Result<Vec<usize>> {
    let mut found: Vec<usize> = Vec::new();
    for name in what.split(',').map(str::trim) {
        let is_named = |&part: &usize| is_in(&parts[part].name, name);
        let named: Vec<usize> = (0..parts.len()).filter(is_named).collect();
        if named.is_empty() {
            step.find(name)?;
        }
        let mut changed = named.iter().flat_map(|&part| changes(&parts[part]));
        ensure!(changed.next().is_some(), "{name} has not changed since {{{{#run}}}}");
        found.extend(named);
    }
    Ok(found)
}

/// Parts of a diff. What stands together in the file stands together on the page.
fn figures(
    before: Option<&Step>,
    step: &Step,
    parts: &[Part],
    found: &[usize],
    repository: &str,
) -> String {
    let neighbours =
        found.chunk_by(|a, b| a + 1 == *b && parts[*a].file == parts[*b].file);
    let figures = neighbours.map(|chunk| {
        let chunk: Vec<_> = chunk.iter().map(|&part| &parts[part]).collect();
        page::diff(before, step, &chunk, repository)
    });
    figures.collect()
}

/// What stands before a chapter.
#[derive(Deserialize)]
struct FrontMatter {
    /// How long each part takes, by its heading.
    minutes: IndexMap<String, u32>,
}

/// All that clients send in the sessions with these steps, and all that they receive.
fn said(sessions: &[Session], steps: &[String]) -> [String; 2] {
    let mut said = [Vec::new(), Vec::new()];
    for (session, step) in
        sessions.iter().flat_map(|session| steps.iter().map(move |step| (session, step)))
    {
        for line in session.lines(step) {
            match &line.event {
                // A long filling says no more than its beginning.
                Event::Send(bytes) => said[0].extend(bytes.iter().copied().take(1000)),
                Event::Receive(bytes) => said[1].extend(bytes.iter().flatten().copied()),
                _ => {}
            }
        }
        said.iter_mut().for_each(|bytes| bytes.push(0));
    }
    said.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// How many lines of `src/main.rs` come and go.
fn size(parts: &[Part]) -> (usize, usize) {
    let main = parts.iter().filter(|part| part.file == 1).flat_map(changes);
    let (mut added, mut removed) = (0, 0);
    for row in main {
        match row.change {
            ChangeTag::Insert => added += 1,
            _ => removed += 1,
        }
    }
    (added, removed)
}
