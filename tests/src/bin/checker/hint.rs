//! Hints for a conversation: two in words, and then the part of the step's diff that wins it.

use anyhow::{Context, Result};
use replayer::session::Session;
use std::fs;
use std::path::Path;

/// A hint: the first is general, the second is plain, and the third is code.
///
/// # Errors
/// When a step's file cannot be read.
pub fn hint(
    root: &Path,
    names: &[String],
    session: &Session,
    step: &str,
    number: usize,
) -> Result<String> {
    let hints = session.hints(step);
    if number <= 2 {
        let last = hints
            .last()
            .map_or("There is no hint for it: the book explains it.", |it| it);
        return Ok(hints.get(number - 1).unwrap_or(&last).to_string());
    }
    let (number, items) = session.items(step);
    let Some(at) = names.iter().position(|name| name.starts_with(&number)) else {
        return Ok("No single part of a diff wins it: the chapter's does.".to_string());
    };
    let read = |name: &String| {
        let path = root.join("steps").join(name).join("src/main.rs");
        fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))
    };
    let new = read(&names[at])?;
    let old = at.checked_sub(1).map(|before| read(&names[before])).transpose()?;
    let mut text = String::new();
    for name in &items {
        let [old, new] = [old.as_deref().unwrap_or_default(), &new]
            .map(|source| item(source, name).unwrap_or_default());
        text += &format!("{name}, in steps/{}/src/main.rs:\n", names[at]);
        let patch = diffy::create_patch(&old, &new).to_string();
        for line in patch.lines().filter(|line| {
            !["---", "+++", "@@ "].contains(&line.get(..3).unwrap_or_default())
        }) {
            text += line;
            text.push('\n');
        }
    }
    Ok(text.trim_end().to_string())
}

/// An item of a formatted source, with its comment: `route`, `Request::read`, `impl Request`.
pub fn item(source: &str, name: &str) -> Option<String> {
    if let Some((outer, name)) = name.split_once("::") {
        let whole = item(source, &format!("impl {outer}"))?;
        let inner: Vec<&str> =
            whole.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
        // Without its own first and last line, and what stands before them.
        let start = inner.iter().position(|line| line.starts_with("impl"))?;
        let found = item(&inner.get(start + 1..inner.len() - 1)?.join("\n"), name)?;
        return Some(
            found
                .lines()
                .map(|line| match line {
                    "" => "\n".to_string(),
                    line => format!("    {line}\n"),
                })
                .collect(),
        );
    }
    let lines: Vec<&str> = source.lines().collect();
    let kinds = ["fn ", "struct ", "enum ", "const ", "static ", "use ", ""];
    let starts = |line: &str| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        kinds.iter().any(|kind| {
            let rest = line.strip_prefix(kind).and_then(|rest| rest.strip_prefix(name));
            let is_impl = name.starts_with("impl ");
            rest.is_some_and(|rest| {
                (!kind.is_empty() || is_impl)
                    && !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
            })
        })
    };
    let at = lines.iter().position(|line| starts(line))?;
    let is_comment = |line: &&&str| line.starts_with("//") || line.starts_with("#[");
    let before = lines[..at].iter().rev().take_while(is_comment).count();
    let is_whole = |line: &str| line.ends_with(';') || line.ends_with('}');
    let length = match lines[at] {
        line if is_whole(line) => 1,
        line if line.contains("const ") => {
            lines[at..].iter().position(|line| line.ends_with(';'))? + 1
        }
        _ => lines[at..].iter().position(|line| line.starts_with('}'))? + 1,
    };
    Some(lines[at - before..at + length].iter().map(|line| format!("{line}\n")).collect())
}
