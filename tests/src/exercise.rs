//! The book's exercises that a session can check: each has a goal, and a worked solution.

use crate::session::Session;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// An exercise.
#[derive(Debug)]
pub struct Exercise {
    /// The step that it changes.
    pub step: String,
    /// What fails before it, and passes after it. Its name is the exercise's.
    pub goal: Session,
    /// The solution, as a patch to the step's `src/main.rs`.
    pub patch: PathBuf,
}

/// Reads all exercises, in the order of their names.
///
/// # Errors
/// Names the file, and what was expected there.
pub fn read_all(folder: &Path, steps: &[String]) -> Result<Vec<Exercise>> {
    let mut exercises = Vec::new();
    let entries =
        fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "session") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let section = text.lines().find_map(|line| line.strip_prefix("@ "));
        let step = steps.iter().find(|step| Some(step.as_str()) == section);
        let step = step.with_context(|| {
            format!(
                "{}: expected a section, such as @ {}",
                path.display(),
                steps.join(", @ ")
            )
        })?;
        let goal = Session::read(&path, std::slice::from_ref(step))?;
        let patch = path.with_extension("patch");
        exercises.push(Exercise { step: step.clone(), goal, patch });
    }
    exercises.sort_by(|a, b| a.goal.name.cmp(&b.goal.name));
    Ok(exercises)
}
