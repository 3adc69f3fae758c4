//! The HTML of diffs, files, transcripts and the table. No blank line may stand in it: it would
//! end the HTML in a Markdown file.

use crate::highlight::escape;
use crate::steps::{Part, Row, Step, changes};
use indexmap::IndexMap;
use replayer::session::{Event, Line, Session, render};
use similar::ChangeTag;
use std::fmt::Write;

/// How many unchanged lines stay in sight beside a changed one.
const CONTEXT: usize = 3;

/// The diff of pieces that stand together in a step.
pub fn diff(
    before: Option<&Step>,
    step: &Step,
    parts: &[&Part],
    repository: &str,
) -> String {
    let Some((file, name)) = parts.first().map(|part| (part.file, &part.name)) else {
        return String::new();
    };
    let name = name.trim_end_matches(" {");
    let rows: Vec<Row> = parts.iter().flat_map(|part| &part.rows).copied().collect();
    let rows = without_blank(&rows, file, before, step);
    let lines: Vec<usize> = rows.iter().filter_map(|row| row.new).collect();
    let path = &step.files[file].path;
    let (label, link) = match (lines.first(), lines.last()) {
        (Some(first), Some(last)) if first == last => {
            (format!("line {}", first + 1), format!("#L{}", first + 1))
        }
        (Some(first), Some(last)) => (
            format!("lines {}–{}", first + 1, last + 1),
            format!("#L{}-L{}", first + 1, last + 1),
        ),
        _ => ("removed".to_string(), String::new()),
    };
    let place = place(before, step, parts, rows).unwrap_or_default();
    let listing = listing(before, step, file, rows, name);
    format!(
        "<figure class=\"code\">\n<figcaption><a href=\"{repository}{path}{link}\">{path}</a> \
         <span>{label}{place}</span></figcaption>\n{listing}</figure>\n"
    )
}

/// Where a piece goes that is all new: behind which one that is there already, or was shown.
fn place(
    before: Option<&Step>,
    step: &Step,
    parts: &[&Part],
    rows: &[Row],
) -> Option<String> {
    before?;
    let first = parts.first()?;
    let is_new = rows.iter().all(|row| row.change == ChangeTag::Insert);
    let pieces = &step.files[first.file].pieces;
    let at = pieces.iter().position(|piece| piece.name == first.name)?;
    let last = pieces.get(at.checked_sub(1)?)?;
    let name = escape(last.name.trim_end_matches([' ', '{', '}']));
    let place = if last.name.ends_with('{') { "first in" } else { "after" };
    is_new.then(|| format!(", new, {place} <code>{name}</code>"))
}

/// How to run a stage or step: the command, how many of the conversations that the step changes
/// now go as in it, of how many, and those that are new here; and in how many, of all that there
/// are, `cargo how-far` says that one's own does what the step does.
pub fn run(
    step: &Step,
    leg: &Step,
    new: &[&Session],
    [so_far, changed, how_far, all]: [u64; 4],
    places: &IndexMap<String, String>,
) -> String {
    let (name, number) = (&leg.name, step.number());
    let is_step = leg.name == step.name;
    let kind = if is_step { "bin" } else { "example" };
    let count = match is_step {
        true => format!(
            "All {changed} conversations that step {number} changes go as they should."
        ),
        false => format!(
            "Of the {changed} conversations that step {number} changes, {so_far} now go as in step \
             {number}, to the byte."
        ),
    };
    let verdict = match is_step {
        true => format!("this should say that yours behaves like step {number}"),
        false => {
            format!("of all {all} conversations, this should count {how_far} by now")
        }
    };
    let judged = match how_far {
        0 => String::new(), // Nobody could say: a client ends it.
        _ => format!(
            "<p class=\"command\"><code>cargo how-far --step {number}</code></p>\n\
             <p>In yours, words may differ: {verdict}.</p>\n"
        ),
    };
    let mut links = String::new();
    for session in new {
        let place = places.get(&session.name).map_or("", String::as_str);
        let title = escape(&session.title);
        let _ = write!(links, "<li><a href=\"{place}\">{title}</a></li>");
    }
    let size = new.len();
    let list = match new {
        [] => String::new(),
        _ if size > 4 => format!(
            "<details><summary>New here: {size} of them</summary>\n<ul>{links}</ul>\n</details>\n"
        ),
        _ => format!("<p>New here:</p>\n<ul>{links}</ul>\n"),
    };
    format!(
        "<div class=\"run\">\n<p class=\"title\">Run it</p>\n\
         <p class=\"command\"><code>cargo run --{kind} {name}</code></p>\n\
         <p>{count}</p>\n{list}{judged}</div>\n"
    )
}

/// The solution of an exercise, folded away: a diff to the step.
pub fn solution(
    before: &Step,
    step: &Step,
    parts: &[Part],
    path: &str,
    repository: &str,
) -> String {
    let mut listings = String::new();
    for part in parts.iter().filter(|part| changes(part).next().is_some()) {
        let name = part.name.trim_end_matches(" {");
        let rows = without_blank(&part.rows, part.file, Some(before), step);
        listings += &listing(Some(before), step, part.file, rows, name);
    }
    format!(
        "<details class=\"solution\">\n<summary>A solution</summary>\n<p class=\"caption\">\
         <a href=\"{repository}{path}\">{path}</a></p>\n{listings}</details>\n"
    )
}

/// Rows without the empty lines at their beginning.
fn without_blank<'a>(
    rows: &'a [Row],
    file: usize,
    before: Option<&Step>,
    step: &Step,
) -> &'a [Row] {
    let is_empty = |row: &&Row| {
        row.new.is_none_or(|line| step.files[file].lines[line].is_empty())
            && row
                .old
                .zip(before)
                .is_none_or(|(line, step)| step.files[file].lines[line].is_empty())
    };
    &rows[rows.iter().take_while(is_empty).count()..]
}

/// The whole file of a step, folded away, with its diff marked in it.
pub fn whole(
    before: Option<&Step>,
    step: &Step,
    parts: &[Part],
    repository: &str,
) -> String {
    let parts: Vec<&Part> = parts.iter().filter(|part| part.file == 1).collect();
    let (size, path) = (step.files[1].lines.len(), &step.files[1].path);
    let figure = diff(before, step, &parts, repository);
    format!(
        "<details class=\"whole\">\n<summary>{path}: {size} lines</summary>\n{figure}</details>\n"
    )
}

/// Lines of a diff. Long unchanged stretches fold.
fn listing(
    before: Option<&Step>,
    step: &Step,
    file: usize,
    rows: &[Row],
    name: &str,
) -> String {
    let mut html = format!(
        "<div class=\"listing\" tabindex=\"0\" role=\"group\" aria-label=\"Code of {}\">",
        escape(name)
    );
    let mut start = 0;
    for chunk in rows
        .chunk_by(|a, b| (a.change == ChangeTag::Equal) == (b.change == ChangeTag::Equal))
    {
        let end = start + chunk.len();
        // An item's first lines say what it is; its last lines say nothing.
        let head = if start == 0 { 2 } else { CONTEXT };
        let tail = if end == rows.len() { 1 } else { CONTEXT };
        let is_long =
            chunk[0].change == ChangeTag::Equal && chunk.len() > head + tail + 1;
        let folded = if is_long { head..chunk.len() - tail } else { 0..0 };
        html += "<pre>";
        for (index, row) in chunk.iter().enumerate() {
            let is_folded = folded.contains(&index);
            if is_folded && index == folded.start {
                let size = folded.len();
                html += "</pre><details><summary>";
                let _ = write!(html, "{size} unchanged lines</summary><pre>");
            }
            line(before, step, file, row, &mut html);
            if is_folded && index + 1 == folded.end {
                html += "</pre></details><pre>";
            }
        }
        html += "</pre>";
        start = end;
    }
    html.replace("</pre><pre>", "") + "</div>\n"
}

/// A line of code. Its end stands inside of its element, so that it goes where the line goes.
fn line(before: Option<&Step>, step: &Step, file: usize, row: &Row, html: &mut String) {
    let tag = match row.change {
        ChangeTag::Insert if before.is_some() => Some("ins"),
        ChangeTag::Delete => Some("del"),
        _ => None,
    };
    let from = if row.new.is_some() { Some(step) } else { before };
    let text = from
        .zip(row.new.or(row.old))
        .and_then(|(step, line)| step.files[file].html.get(line))
        .map_or("", String::as_str);
    match tag {
        Some(tag) => drop(write!(html, "<{tag}>{text}\n</{tag}>")),
        None if text.is_empty() => *html += "<wbr>\n", // No blank line in HTML: see above.
        None => drop(writeln!(html, "{text}")),
    }
}

/// A session against a step, as its file has it.
pub fn transcript(
    session: &Session,
    step: &Step,
    id: &str,
    is_folded: bool,
    repository: &str,
) -> String {
    let command = format!("scripts/telnet-demo.sh {} {}", step.number(), session.name);
    let path = format!("tests/sessions/{}.session", session.name);
    conversation(session, step, id, is_folded, &format!("{repository}{path}"), &command)
}

/// A session to be guessed: what the client does, and folded away what comes of it, and why.
pub fn prediction(
    session: &Session,
    step: &Step,
    id: &str,
    why: &str,
    repository: &str,
) -> String {
    let mut lines = session.lines(&step.name);
    lines.retain(|line| !matches!(line.event, Event::Matters(_)));
    let is_answer = |line: &Line| {
        use Event::{MayBeLost, Receive, ServerClose, Silence};
        matches!(line.event, Receive(_) | ServerClose | MayBeLost | Silence)
    };
    let end = lines.iter().position(is_answer).unwrap_or(lines.len());
    let (name, title, number) = (&session.name, escape(&session.title), step.number());
    let clients = clients(&lines);
    let (request, answer) =
        (said(&lines[..end], &clients), said(&lines[end..], &clients));
    let command = format!("scripts/telnet-demo.sh {number} {name}");
    format!(
        "<figure class=\"session prediction\" id=\"{id}\">\n<figcaption>\
         <span class=\"title\">{title}</span> \
         <a href=\"{repository}tests/sessions/{name}.session\">{name}.session</a></figcaption>\n\
         {request}<details class=\"answer\">\n<summary>What does step {number} do?</summary>\n\
         {answer}\n{why}\n\n\
         <p class=\"command\"><code>{command}</code></p>\n</details>\n</figure>\n"
    )
}

/// The goal of an exercise, folded away, with the command that checks it.
pub fn goal(session: &Session, step: &Step, repository: &str) -> String {
    let command = format!("cargo how-far --session {}", session.name);
    let link = format!("{repository}tests/exercises/{}.session", session.name);
    conversation(session, step, &session.name, true, &link, &command)
}

/// The hints for an exercise, folded, one after the other.
pub fn hints(session: &Session, step: &Step) -> String {
    let heads = ["A hint", "A plainer hint"];
    let hints = session.hints(&step.name).into_iter().zip(heads);
    let hints = hints.map(|(hint, head)| {
        // Code in a hint is marked as in Markdown.
        let mut text = String::new();
        for (index, part) in escape(hint).split('`').enumerate() {
            let (before, after) = if index % 2 == 1 { ("<code>", "</code>") } else { ("", "") };
            text += &format!("{before}{part}{after}");
        }
        format!("<details class=\"hint\"><summary>{head}</summary>\n<p>{text}</p>\n</details>\n")
    });
    hints.collect()
}

fn conversation(
    session: &Session,
    step: &Step,
    id: &str,
    is_folded: bool,
    link: &str,
    command: &str,
) -> String {
    let (name, title, number) = (&session.name, escape(&session.title), step.number());
    let mut lines = session.lines(&step.name);
    lines.retain(|line| !matches!(line.event, Event::Matters(_))); // Not for readers.
    let body = said(&lines, &clients(&lines))
        + &format!("<p class=\"command\"><code>{command}</code></p>\n");
    let caption = format!("step {number}, <a href=\"{link}\">{name}.session</a>");
    if is_folded {
        // A link to what is inside unfolds it.
        return format!(
            "<details class=\"session\">\n<summary>{title}</summary>\n\
             <p class=\"caption\" id=\"{id}\">{caption}</p>\n{body}</details>\n"
        );
    }
    format!(
        "<figure class=\"session\" id=\"{id}\">\n<figcaption><span class=\"title\">{title}</span> \
         {caption}</figcaption>\n{body}</figure>\n"
    )
}

/// What clients and server say and do.
fn said(lines: &[Line], clients: &[String]) -> String {
    let mut html = String::new();
    let mut last = None;
    for (row, (line, text)) in lines.iter().zip(render(lines).lines()).enumerate() {
        let (class, spoken) = match line.event {
            Event::Receive(_) => {
                ("received", format!("server answers {}: ", line.client))
            }
            Event::Send(_) if !text[line.client.len()..].starts_with('*') => {
                ("sent", format!("{} types: ", line.client))
            }
            _ => ("event", format!("{} event: ", line.client)),
        };
        let who = (class, &line.client);
        // Who speaks is said when it changes.
        let spoken = if last == Some(who) {
            String::new()
        } else {
            let spoken = spoken.replace(" :", ":");
            format!("<span class=\"spoken\">{}</span>", spoken.trim_start())
        };
        last = Some(who);
        let rest = text.get(line.client.len() + 2..).unwrap_or_default();
        let rest = if rest.is_empty() {
            "<span class=\"spoken\">an empty line</span>".to_string()
        } else {
            escape(rest)
        };
        let place = if clients.len() > 1 {
            let column = clients.iter().position(|client| *client == line.client);
            format!(
                " data-client=\"{}\" style=\"--column: {}; --row: {}\"",
                line.client,
                column.unwrap_or(0) + 1,
                row + 1
            )
        } else {
            String::new()
        };
        let _ = write!(html, "<span class=\"{class}\"{place}>{spoken}{rest}\n</span>");
    }
    let several = if clients.len() > 1 { " several" } else { "" };
    format!("<pre class=\"conversation{several}\">{html}</pre>\n")
}

/// The names of the clients, in the order in which they come.
fn clients(lines: &[Line]) -> Vec<String> {
    let mut clients: Vec<String> = Vec::new();
    for line in lines {
        if !clients.contains(&line.client) {
            clients.push(line.client.clone());
        }
    }
    clients
}

/// All sessions and what each step answers.
pub fn table(
    sessions: &[&Session],
    steps: &[Step],
    places: &IndexMap<String, String>,
) -> String {
    let mut html = "<div class=\"table-wrapper\" tabindex=\"0\" role=\"group\" \
                    aria-label=\"All sessions\">\n<table class=\"sessions\">\n<thead><tr>\
                    <th scope=\"col\">session</th>"
        .to_string();
    for step in steps {
        let (name, number) = (&step.name, step.number());
        let _ =
            write!(html, "<th scope=\"col\"><a href=\"{name}.html\">{number}</a></th>");
    }
    html += "</tr></thead>\n<tbody>\n";
    for session in sessions {
        let place = places.get(&session.name).map_or("", String::as_str);
        let _ = write!(
            html,
            "<tr><th scope=\"row\"><a href=\"{place}\">{}</a></th>",
            escape(&session.title)
        );
        let mut last = Vec::new();
        for step in steps {
            let mut lines = session.lines(&step.name);
            lines.retain(|line| !matches!(line.event, Event::Matters(_)));
            let text = clients(&lines)
                .iter()
                .map(|client| outcome(&lines, client))
                .collect::<Vec<_>>()
                .join("; ");
            let is_changed = !last.is_empty() && lines != last;
            let cell = if is_changed { format!("<em>{text}</em>") } else { text };
            let number = step.number();
            let _ = write!(html, "<td data-step=\"{number}\">{cell}</td>");
            last = lines;
        }
        html += "</tr>\n";
    }
    html + "</tbody>\n</table>\n</div>\n"
}

/// What a client gets, in words: `200`, or `waits, 200`.
fn outcome(lines: &[Line], client: &str) -> String {
    let mut words = Vec::new();
    for line in lines.iter().filter(|line| line.client == client) {
        match &line.event {
            Event::Silence => words.push("waits".to_string()),
            Event::ServerClose => words.push("no answer".to_string()),
            Event::MayBeLost => words.push("or nothing".to_string()),
            Event::Receive(bytes) => {
                let text: Vec<u8> = bytes.iter().flatten().copied().collect();
                let text = String::from_utf8_lossy(&text);
                let status =
                    text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
                words.extend(status.map(String::from));
            }
            _ => {}
        }
    }
    let name = if client.is_empty() { String::new() } else { format!("{client} ") };
    format!(
        "{name}{}",
        if words.is_empty() { "leaves".to_string() } else { words.join(", ") }
    )
}

/// The plan of a lesson: for each part when it begins, where it stands, and how long it takes.
pub fn plan(time: u32, rows: &[(u32, &str, &str, u32)], sum: u32) -> String {
    let mut html = "<div class=\"table-wrapper\" tabindex=\"0\" role=\"group\" \
                    aria-label=\"A plan\">\n<table class=\"plan\">\n<thead><tr>\
                    <th scope=\"col\">minute</th><th scope=\"col\">part</th>\
                    <th scope=\"col\">minutes</th></tr></thead>\n<tbody>\n"
        .to_string();
    for (start, chapter, heading, minutes) in rows {
        let number =
            chapter.get(..2).filter(|number| number.bytes().all(|b| b.is_ascii_digit()));
        let name =
            number.map_or((*chapter).to_string(), |number| format!("step {number}"));
        let words =
            heading.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let id = words.collect::<Vec<_>>().join("-").to_lowercase();
        let heading = escape(heading);
        let _ = writeln!(
            html,
            "<tr><td>{start}</td><td>{name}: <a href=\"{chapter}.html#{id}\">{heading}</a></td>\
             <td>{minutes}</td></tr>"
        );
    }
    let rest = time - sum;
    let _ = write!(
        html,
        "<tr><td>{sum}</td><td>questions, mishaps, exercises</td><td>{rest}</td></tr>\n\
         <tr><th scope=\"row\">{time}</th><td></td><td>{time} in all</td></tr>\n\
         </tbody>\n</table>\n</div>\n"
    );
    html
}
