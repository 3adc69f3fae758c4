//! A class's results as a table.

use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use textwrap::core::display_width;

/// A row for each file: name, furthest step, conversations of the next one, first fault.
///
/// # Errors
/// When a file cannot be read.
pub fn table(files: &[PathBuf]) -> Result<String> {
    let mut rows = vec![["name", "step", "of the next", "first fault"].map(String::from)];
    for file in files {
        let text = fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        rows.push(match serde_json::from_str::<Value>(&text) {
            Ok(result) => row(name, &result),
            Err(_) => [
                name,
                "?".into(),
                String::new(),
                "this is no result of cargo how-far --json".into(),
            ],
        });
    }
    let width = |column: usize| {
        rows.iter().map(|row| display_width(&row[column])).max().unwrap_or(0)
    };
    let widths = [0, 1, 2].map(width);
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(widths) {
            text += cell;
            text += &" ".repeat(width - display_width(cell) + 2);
        }
        text += &row[3];
        text = text.trim_end().to_string() + "\n";
    }
    Ok(text)
}

fn row(name: String, result: &Value) -> [String; 4] {
    if let Some(error) = result["error"].as_str() {
        return [name, "?".into(), String::new(), error.to_string()];
    }
    let step = result["step"].as_str().unwrap_or("none yet");
    let next = match (result["next"].as_str(), &result["conversations"]) {
        (Some(next), count) => {
            format!(
                "{}: {} of {}",
                next.get(..2).unwrap_or(next),
                count["passed"],
                count["of"]
            )
        }
        _ => "done".to_string(),
    };
    let first = &result["first"];
    let text = |key: &str| first[key].as_str().unwrap_or_default();
    let fault = match text("session") {
        "" => text("what").to_string(),
        session => format!("{session}: {}", text("what")),
    };
    [name, step.to_string(), next, fault.lines().next().unwrap_or_default().to_string()]
}
