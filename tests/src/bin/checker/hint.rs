//! Hints for a conversation: two in words, and then the part of the step's diff that wins it.

use anyhow::{Context, Result};
use replayer::guide::Guide;
use replayer::session::{Session, wins};
use std::fs;
use std::path::{Path, PathBuf};

/// A hint: the first is general, the second is plain, and the third is code.
///
/// # Errors
/// When a step's file cannot be read.
pub fn hint(
    root: &Path,
    names: &[String],
    guide: &Guide,
    session: &Session,
    step: &str,
    number: usize,
) -> Result<String> {
    if number <= 2 {
        let hints = session.hints(step);
        let rule = guide.rules(&session.name).first();
        let own = hints.get(number - 1).or(hints.last()).map(|hint| hint.to_string());
        let known = own.or(rule.cloned()).unwrap_or_else(|| session.about.clone());
        return Ok(known);
    }
    // What makes the conversation what it is now, is in the step with which it became so.
    let lines = session.lines(step);
    let since = names.iter().position(|name| session.lines(name) == lines);
    let since = since.context("there is no such step")?;
    let versions = versions(root, names, since)?;
    let text = fs::read_to_string(root.join("tests/stages.txt")).unwrap_or_default();
    let wins = wins(&text);
    let is_it = |(name, _): &(String, PathBuf)| {
        wins.get(name).is_some_and(|won| won.sessions.contains(&session.name))
    };
    let at = versions.iter().position(is_it).unwrap_or(versions.len() - 1);
    let read = |path: &PathBuf| {
        fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))
    };
    let new = read(&versions[at].1)?;
    let (before, old) = match at.checked_sub(1) {
        Some(before) => (versions[before].0.clone(), read(&versions[before].1)?),
        None => ("nothing".to_string(), String::new()),
    };
    let mut text = format!("From {before} to {}:\n", versions[at].0);
    let patch = diffy::create_patch(&old, &new).to_string();
    for line in patch.lines().skip(2) {
        text += if line.starts_with("@@") { "…" } else { line };
        text.push('\n');
    }
    Ok(text.trim_end().to_string())
}

/// The step before, the stages on the way, and the step, with their files.
fn versions(root: &Path, names: &[String], at: usize) -> Result<Vec<(String, PathBuf)>> {
    let main =
        |name: &String| (name.clone(), root.join("steps").join(name).join("src/main.rs"));
    let mut versions: Vec<_> =
        at.checked_sub(1).map(|before| main(&names[before])).into_iter().collect();
    let folder = root.join("steps").join(&names[at]).join("examples");
    let mut stages = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        stages.push((name, path));
    }
    stages.sort();
    versions.extend(stages);
    versions.push(main(&names[at]));
    Ok(versions)
}
