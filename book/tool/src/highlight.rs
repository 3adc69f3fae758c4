//! Colours Rust.

use anyhow::{Context, Result};
use std::sync::LazyLock;
use tree_sitter_highlight::{HighlightConfiguration, Highlighter, HtmlRenderer};

/// What tree-sitter calls the parts of speech that get a colour, and our class for each: of
/// keywords, types, strings, constants and comments. A page has thousands of them.
const CLASSES: [(&str, &str); 11] = [
    ("attribute", "n"),
    ("comment", "c"),
    ("constant", "n"),
    ("constant.builtin", "n"),
    ("constructor", "t"),
    ("escape", "n"),
    ("keyword", "k"),
    ("string", "s"),
    ("type", "t"),
    ("type.builtin", "t"),
    ("variable.builtin", "k"),
];

/// Made once: it takes longer than to colour a file.
static CONFIGURATION: LazyLock<Option<HighlightConfiguration>> = LazyLock::new(|| {
    let mut configuration = HighlightConfiguration::new(
        tree_sitter_rust::LANGUAGE.into(),
        "rust",
        tree_sitter_rust::HIGHLIGHTS_QUERY,
        "",
        "",
    )
    .ok()?;
    configuration.configure(&CLASSES.map(|(name, _)| name));
    Some(configuration)
});

/// The lines of a Rust file in HTML, without their ends.
///
/// # Errors
/// When the highlighter fails.
pub fn rust(source: &str) -> Result<Vec<String>> {
    let configuration = CONFIGURATION.as_ref().context("tree-sitter cannot read Rust")?;
    let mut highlighter = Highlighter::new();
    let events =
        highlighter.highlight(configuration, source.as_bytes(), None, None, |_| None)?;
    let mut renderer = HtmlRenderer::new();
    renderer.render(events, source.as_bytes(), &|highlight, attributes| {
        let class = CLASSES.get(highlight.0).map_or("", |(_, class)| class);
        attributes.extend_from_slice(format!("class={class}").as_bytes());
    })?;
    let short = |line: &str| {
        line.trim_end_matches('\n')
            .replace("<span ", "<i ")
            .replace("</span>", "</i>")
            .replace("<i class=c></i>", "")
    };
    let lines: Vec<_> = renderer.lines().map(short).collect();
    let size = source.lines().count();
    lines.get(..size).map(<[_]>::to_vec).context("the highlighter has lost a line")
}

/// A text in HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
