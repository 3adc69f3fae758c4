//! Where the book shows a session, and which rule it is about.

use regex::Regex;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// What the book says of the sessions.
#[derive(Debug, Default)]
pub struct Guide {
    /// For a step's number and a session: in which order its chapter shows it, and where.
    places: HashMap<(String, String), (usize, String)>,
    /// For a step: its chapter.
    chapters: HashMap<String, String>,
    /// For a session: the rules that it is about.
    rules: HashMap<String, Vec<String>>,
}

impl Guide {
    /// Reads the chapters in `book/src`. What cannot be read is not known.
    pub fn read(root: &Path, steps: &[String]) -> Guide {
        let mut guide = Guide::default();
        let [shows, sees] = [
            r"\{\{#(?:session|more|exercise|predict) +(?:(\d\d): *)?([a-z0-9_, ]+)",
            r"\{\{#see ([a-z0-9_]+)\}\}",
        ]
        .map(Regex::new);
        let (Ok(shows), Ok(sees)) = (shows, sees) else { return guide };
        for step in steps {
            let path = format!("book/src/{step}.md");
            let text = fs::read_to_string(root.join(&path)).unwrap_or_default();
            let (mut title, mut heading) = (String::new(), String::new());
            for line in text.lines() {
                if let Some(text) = line.strip_prefix("# ") {
                    title = text.to_string();
                    guide.chapters.insert(step.clone(), format!("{title} ({path})"));
                } else if let Some(text) =
                    line.strip_prefix("## ").or(line.strip_prefix("### "))
                {
                    heading = text.to_string();
                }
                for found in shows.captures_iter(line) {
                    let number =
                        found.get(1).map_or(&step[..2], |number| number.as_str());
                    for name in found[2].split(',') {
                        let order = guide.places.len();
                        let place = format!("{title}, “{heading}” ({path})");
                        let key = (number.to_string(), name.trim().to_string());
                        guide.places.entry(key).or_insert((order, place));
                    }
                }
            }
        }
        let mut rfc = String::new();
        for line in
            fs::read_to_string(root.join("book/src/rfcs.md")).unwrap_or_default().lines()
        {
            if let Some(heading) = line.strip_prefix("## ") {
                rfc = heading.split(',').next().unwrap_or_default().to_string();
            }
            let cells: Vec<&str> = line.split(" | ").collect();
            let [section, rule, ..] = cells[..] else { continue };
            let section = section.split(['[', ']']).nth(1).unwrap_or_default();
            for found in sees.captures_iter(line) {
                let rule = format!("{rfc}, section {section}: {rule}");
                guide.rules.entry(found[1].to_string()).or_default().push(rule);
            }
        }
        guide
    }

    /// What the sessions of a step sort by: first those that its own chapter shows, as it does.
    pub fn order(&self, step: &str, session: &str) -> (bool, usize) {
        let number = step.get(..2).unwrap_or_default().to_string();
        let is_own = self.places.contains_key(&(number, session.to_string()));
        (!is_own, self.find(step, session).map_or(usize::MAX, |place| place.0))
    }

    /// The heading under which a step's chapter shows a session, or the chapter alone.
    pub fn place(&self, step: &str, session: &str) -> Option<&str> {
        let number = step.get(..2)?.to_string();
        let shown = self.places.get(&(number, session.to_string()));
        shown
            .map(|place| place.1.as_str())
            .or(self.chapters.get(step).map(String::as_str))
    }

    /// The last chapter up to the step that shows it, as what came before still holds.
    fn find(&self, step: &str, session: &str) -> Option<&(usize, String)> {
        let number: u32 = step.get(..2)?.parse().ok()?;
        (1..=number).rev().find_map(|number| {
            self.places.get(&(format!("{number:02}"), session.to_string()))
        })
    }

    /// The rules that a session is about.
    pub fn rules(&self, session: &str) -> &[String] {
        self.rules.get(session).map_or(&[], Vec::as_slice)
    }
}
