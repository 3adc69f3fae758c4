//! Checks the book as it is rendered.

use anyhow::{Result, ensure};
use mdbook_html::HtmlHandlebars;
use mdbook_preprocessor::PreprocessorContext;
use mdbook_preprocessor::book::Book;
use mdbook_renderer::{RenderContext, Renderer};
use regex::Regex;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

/// A rendered page.
struct Page {
    ids: HashSet<String>,
    links: Vec<String>,
}

/// Renders the book into a folder of its own, and follows every link inside of the book and
/// into the repository. Returns how many there are.
///
/// # Errors
/// Says in a line each which link on which page leads nowhere.
pub fn links(
    context: &PreprocessorContext,
    book: &Book,
    root: &Path,
    repository: &str,
) -> Result<usize> {
    let folder = tempfile::tempdir()?;
    let mut config = context.config.clone();
    config.set("output.html.search.enable", false)?;
    let render = RenderContext::new(&context.root, book.clone(), config, folder.path());
    HtmlHandlebars::new().render(&render)?;
    let attributes = Regex::new("<[^>]* (id|href|src)=\"([^\"]*)\"")?;
    let mut pages = HashMap::new();
    for entry in fs::read_dir(folder.path())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // mdBook's page for what is not there stands where the reader has got lost.
        if name.ends_with(".html") && name != "404.html" {
            pages.insert(name, Page::parse(&fs::read_to_string(&path)?, &attributes));
        }
    }
    let (mut count, mut problems) = (0, Vec::new());
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
                    None => folder.path().join(path).is_file(),
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
    /// Finds the attributes, which mdBook writes in double quotes, always.
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
