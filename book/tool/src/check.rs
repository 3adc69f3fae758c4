//! Checks the book as it is rendered.

use anyhow::{Result, ensure};
use regex::Regex;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

/// A rendered page.
struct Page {
    ids: HashSet<String>,
    links: Vec<String>,
}

/// Follows every link of the rendered book, inside of it and into the repository, and returns how
/// many there are.
///
/// # Errors
/// Says in a line each which link on which page leads nowhere, and where a directive is left.
pub fn links(folder: &Path, root: &Path, repository: &str) -> Result<usize> {
    // mdBook writes attributes in double quotes, and none within a text.
    let attributes = Regex::new(" (id|href|src)=\"([^\"]*)\"")?;
    let code = Regex::new("(?s)<pre.*?</pre>")?;
    let (mut count, mut problems) = (0, Vec::new());
    let mut pages = HashMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // mdBook's page for what is not there stands where the reader has got lost.
        if name.ends_with(".html") && name != "404.html" {
            let text = fs::read_to_string(&path)?;
            if code.replace_all(&text, "").contains("{{") {
                problems.push(format!("{name}: a {{{{ is left"));
            }
            pages.insert(name, Page::parse(&text, &attributes));
        }
    }
    for (name, page) in &pages {
        for link in &page.links {
            let (path, id) = link.split_once('#').unwrap_or((link, ""));
            let is_good = match path.strip_prefix(repository) {
                Some(file) => root.join(file).exists(),
                None if path.starts_with("http://") || path.starts_with("https://") => {
                    continue;
                }
                None if path.is_empty() => page.ids.contains(id),
                None => match pages.get(path) {
                    Some(page) => id.is_empty() || page.ids.contains(id),
                    None => folder.join(path).is_file(),
                },
            };
            count += 1;
            if !is_good {
                problems.push(format!("{name}: the link {link} leads nowhere"));
            }
        }
    }
    problems.sort();
    ensure!(problems.is_empty(), problems.join("\n"));
    Ok(count)
}

impl Page {
    fn parse(text: &str, attributes: &Regex) -> Page {
        let (mut ids, mut links) = (HashSet::new(), Vec::new());
        for found in attributes.captures_iter(text) {
            match &found[1] {
                "id" => drop(ids.insert(found[2].to_string())),
                _ => links.push(found[2].to_string()),
            }
        }
        Page { ids, links }
    }
}
