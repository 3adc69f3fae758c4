//! The steps and their stages: their files, cut into pieces, and the diff of each to the one before.

use crate::highlight;
use anyhow::{Context, Result, bail, ensure};
use proc_macro2::Span;
use replayer::server::step_names;
use similar::{Algorithm, ChangeTag, DiffTag, TextDiff, capture_diff_slices};
use std::fs;
use std::ops::Range;
use std::path::Path;
use syn::spanned::Spanned;
use syn::{Expr, ImplItem, Item, Lit};

/// A file of a step.
pub struct File {
    /// Its path, from the root of the repository.
    pub path: String,
    /// Its lines, without their ends.
    pub lines: Vec<String>,
    /// Its lines in HTML, coloured.
    pub html: Vec<String>,
    /// Its pieces, in order. Together they have every line.
    pub pieces: Vec<Piece>,
}

/// A part of a file that has a name: an item, a method, the `use` lines.
pub struct Piece {
    /// Its name, unique in the step: `handle`, `Request::read`, `impl Request {`, `use`.
    pub name: String,
    /// Its lines, from 0, with the empty ones before it.
    pub lines: Range<usize>,
}

/// A step, or a stage on the way to it.
pub struct Step {
    /// `03-headers`, or `03a-field-lines`
    pub name: String,
    /// `Cargo.toml`, and `src/main.rs` or the stage's own file.
    pub files: [File; 2],
    /// What stands between a step and the one before, in order.
    pub stages: Vec<Step>,
    /// What its constants are in words, by name: `8192`, or `6` for six seconds.
    values: Vec<(String, String)>,
}

/// A line of a diff.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Whether it stays, goes or comes.
    pub change: ChangeTag,
    /// Where it stands in the old file, from 0.
    pub old: Option<usize>,
    /// Where it stands in the new file, from 0.
    pub new: Option<usize>,
}

/// A piece of a diff.
pub struct Part {
    /// The name of the piece.
    pub name: String,
    /// Which file of the step it is in, 0 or 1.
    pub file: usize,
    /// Its lines.
    pub rows: Vec<Row>,
}

impl Step {
    /// Reads all steps, in order.
    ///
    /// # Errors
    /// Names the file, and the place in it that is not Rust.
    pub fn read_all(root: &Path) -> Result<Vec<Step>> {
        step_names(root)?.into_iter().map(|name| Step::read(root, name)).collect()
    }

    fn read(root: &Path, name: String) -> Result<Step> {
        let folder = format!("steps/{name}");
        let read =
            |path: &str| fs::read_to_string(root.join(path)).context(path.to_string());
        let manifest = read(&format!("{folder}/Cargo.toml"))?;
        let path = format!("{folder}/src/main.rs");
        let mut step = Step::parse(name, &folder, &manifest, &path, &read(&path)?)?;
        for name in stage_names(&root.join(&folder).join("examples"))? {
            let path = format!("{folder}/examples/{name}.rs");
            step.stages.push(Step::parse(
                name,
                &folder,
                &manifest,
                &path,
                &read(&path)?,
            )?);
        }
        Ok(step)
    }

    /// The step's stages, and the step itself.
    pub fn legs(&self) -> impl Iterator<Item = &Step> {
        self.stages.iter().chain([self])
    }

    /// A step that differs from this one by a patch to `src/main.rs`.
    ///
    /// # Errors
    /// When the patch does not fit, or what comes out is not Rust.
    pub fn patched(&self, patch: &str) -> Result<Step> {
        let [manifest, main] =
            [0, 1].map(|file: usize| self.files[file].lines.join("\n") + "\n");
        let patch = diffy::Patch::from_str(patch)?;
        let folder = format!("steps/{}", self.name);
        let path = &self.files[1].path;
        let main = diffy::apply(&main, &patch)?;
        Step::parse(self.name.clone(), &folder, &manifest, path, &main)
    }

    fn parse(
        name: String,
        folder: &str,
        manifest: &str,
        path: &str,
        main: &str,
    ) -> Result<Step> {
        let lines: Vec<_> = manifest.lines().map(String::from).collect();
        let html = lines.iter().map(|line| highlight::escape(line)).collect();
        let all = Piece { name: "Cargo.toml".into(), lines: 0..lines.len() };
        let manifest =
            File { path: format!("{folder}/Cargo.toml"), lines, html, pieces: vec![all] };
        let syntax = syn::parse_file(main).map_err(|error| {
            let start = error.span().start();
            anyhow::anyhow!("{path}:{}:{}: {error}", start.line, start.column + 1)
        })?;
        let lines: Vec<_> = main.lines().map(String::from).collect();
        let pieces = pieces(&syntax, lines.len());
        let mut known: Vec<_> = pieces.iter().map(|piece| &piece.name).collect();
        known.sort();
        for pair in known.windows(2) {
            ensure!(pair[0] != pair[1], "{path} has more than one {:?}", pair[0]);
        }
        let html = highlight::rust(main).context(path.to_string())?;
        let values = values(&syntax.items);
        let main = File { path: path.to_string(), lines, html, pieces };
        Ok(Step { name, files: [manifest, main], stages: Vec::new(), values })
    }

    /// The two digits that begin its name.
    pub fn number(&self) -> &str {
        &self.name[..2]
    }

    /// The value of a constant, in words.
    ///
    /// # Errors
    /// Names the constants that there are.
    pub fn value(&self, name: &str) -> Result<&str> {
        let found = self.values.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).with_context(|| {
            let known: Vec<_> = self.values.iter().map(|value| &*value.0).collect();
            format!("{} has no constant {name}, only {}", self.name, known.join(", "))
        })
    }

    /// A piece by its name, or all of an `impl`, with the file that it is in.
    ///
    /// # Errors
    /// Names the pieces that there are.
    pub fn find(&self, name: &str) -> Result<(usize, Range<usize>)> {
        for (index, file) in self.files.iter().enumerate() {
            let mut found = file.pieces.iter().filter(|piece| is_in(&piece.name, name));
            if let Some(first) = found.next() {
                let start = first.lines.start + blank(&file.lines[first.lines.clone()]);
                let end = found.next_back().unwrap_or(first).lines.end;
                return Ok((index, start..end));
            }
        }
        bail!("{} has no {name:?}, only {}", self.name, names(self).join(", "))
    }

    /// The diff to the step before, piece by piece. To nothing, for the first step.
    ///
    /// # Errors
    /// When a line would be shown as changed that is in both files at its place.
    pub fn diff(&self, before: Option<&Step>) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        for (index, new) in self.files.iter().enumerate() {
            let before = before.map(|step| &step.files[index]);
            let start = parts.len();
            diff_pieces(before, new, index, &mut parts);
            let Some(old) = before else { continue };
            let lines = [old, new].map(|file| -> Vec<&str> {
                file.lines.iter().map(String::as_str).collect()
            });
            let least = TextDiff::from_slices(&lines[0], &lines[1]);
            let least =
                least.iter_all_changes().filter(|line| line.tag() != ChangeTag::Equal);
            let shown: usize =
                parts[start..].iter().map(|part| changes(part).count()).sum();
            let least = least.count();
            ensure!(
                shown == least,
                "{} differs from {} in {least} lines, but item by item in {shown}: an item \
                 has moved or has another name, or a line has changed items",
                new.path,
                old.path
            );
        }
        Ok(parts)
    }
}

/// The names of the stages in a folder, in order: none, where there is no such folder.
fn stage_names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return Ok(names) };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.push(
                path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            );
        }
    }
    names.sort();
    Ok(names)
}

/// The lines of a part that come or go.
pub fn changes(part: &Part) -> impl Iterator<Item = &Row> {
    part.rows.iter().filter(|row| row.change != ChangeTag::Equal)
}

/// Whether a piece is what a directive names: itself, or a part of the named `impl`.
pub fn is_in(piece: &str, name: &str) -> bool {
    let is_part = |of| {
        piece.trim_end_matches([' ', '{', '}']) == name
            || piece.strip_prefix(of).is_some_and(|rest| rest.starts_with("::"))
    };
    piece == name || name.strip_prefix("impl ").is_some_and(is_part)
}

/// The names that a directive may use.
pub fn names(step: &Step) -> Vec<String> {
    let pieces = step.files.iter().flat_map(|file| &file.pieces);
    let names = pieces.filter(|piece| !piece.name.ends_with('}'));
    names.map(|piece| piece.name.trim_end_matches(" {").to_string()).collect()
}

/// How many of the first lines are empty.
fn blank(lines: &[String]) -> usize {
    lines.iter().take_while(|line| line.is_empty()).count()
}

/// Cuts a file into pieces.
fn pieces(file: &syn::File, size: usize) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut add = |name: String, end: usize| {
        let start = pieces.last().map_or(0, |last| last.lines.end);
        match pieces.last_mut() {
            Some(last) if last.name == "use" && name == "use" => last.lines.end = end,
            _ => pieces.push(Piece { name, lines: start..end }),
        }
    };
    let end = |span: Span| span.end().line;
    if let Some(last) = file.attrs.last() {
        add("//!".into(), end(last.span()));
    }
    for item in &file.items {
        let name = match item {
            Item::Use(_) => "use".into(),
            Item::Const(item) => item.ident.to_string(),
            Item::Fn(item) => item.sig.ident.to_string(),
            Item::Static(item) => item.ident.to_string(),
            Item::Struct(item) => item.ident.to_string(),
            Item::Enum(item) => item.ident.to_string(),
            Item::Impl(item) => {
                let name = impl_name(item);
                // An associated item without a `for` belongs to the type's own name.
                let of = name.trim_start_matches("impl ").to_string();
                add(format!("{name} {{"), end(item.brace_token.span.open()));
                for item in &item.items {
                    let own = match item {
                        ImplItem::Const(item) => item.ident.to_string(),
                        ImplItem::Fn(item) => item.sig.ident.to_string(),
                        _ => "something".into(),
                    };
                    add(format!("{of}::{own}"), end(item.span()));
                }
                add(format!("{name} }}"), end(item.span()));
                continue;
            }
            other => format!("line {}", other.span().start().line),
        };
        add(name, end(item.span()));
    }
    if let Some(last) = pieces.last_mut() {
        last.lines.end = size;
    }
    pieces
}

/// `impl Request`, or `impl Read for Timed`.
fn impl_name(item: &syn::ItemImpl) -> String {
    let word = |path: &syn::Path| {
        path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default()
    };
    let own = match &*item.self_ty {
        syn::Type::Path(path) => word(&path.path),
        _ => "?".into(),
    };
    match &item.trait_ {
        Some((path, _)) => format!("impl {} for {own}", word(path)),
        None => format!("impl {own}"),
    }
}

/// The constants of a file, also those inside a function, and their values in words.
fn values(items: &[Item]) -> Vec<(String, String)> {
    let mut values = Vec::new();
    for item in items {
        match item {
            Item::Const(item) => values.extend(value(&item.ident, &item.expr)),
            Item::Fn(item) => {
                for statement in &item.block.stmts {
                    if let syn::Stmt::Item(Item::Const(item)) = statement {
                        values.extend(value(&item.ident, &item.expr));
                    }
                }
            }
            _ => {}
        }
    }
    values
}

fn value(name: &syn::Ident, expression: &Expr) -> Option<(String, String)> {
    let literal = match expression {
        Expr::Lit(literal) => &literal.lit,
        Expr::Call(call) => match call.args.first() {
            Some(Expr::Lit(literal)) => &literal.lit,
            _ => return None,
        },
        _ => return None,
    };
    let Lit::Int(number) = literal else { return None };
    Some((name.to_string(), number.to_string().replace('_', ",")))
}

/// The diff of two files, piece by piece. Pieces of one name are compared to each other.
fn diff_pieces(old: Option<&File>, new: &File, file: usize, parts: &mut Vec<Part>) {
    let names = |file: &File| -> Vec<String> {
        file.pieces.iter().map(|piece| piece.name.clone()).collect()
    };
    let old_names = old.map(names).unwrap_or_default();
    let gone =
        |index: usize| Row { change: ChangeTag::Delete, old: Some(index), new: None };
    let come =
        |index: usize| Row { change: ChangeTag::Insert, old: None, new: Some(index) };
    for op in capture_diff_slices(Algorithm::Myers, &old_names, &names(new)) {
        let (tag, olds, news) = op.as_tag_tuple();
        let old_pieces = old.map_or(&[][..], |old| &old.pieces[olds]);
        if let (DiffTag::Equal, Some(old)) = (tag, old) {
            for (before, after) in old_pieces.iter().zip(&new.pieces[news]) {
                let slices = [(old, before), (new, after)].map(|(file, piece)| {
                    file.lines[piece.lines.clone()]
                        .iter()
                        .map(String::as_str)
                        .collect::<Vec<_>>()
                });
                let diff = TextDiff::from_slices(&slices[0], &slices[1]);
                let rows = diff.iter_all_changes().map(|line| Row {
                    change: line.tag(),
                    old: line.old_index().map(|index| index + before.lines.start),
                    new: line.new_index().map(|index| index + after.lines.start),
                });
                parts.push(Part { name: after.name.clone(), file, rows: rows.collect() });
            }
            continue;
        }
        for piece in old_pieces {
            let rows = piece.lines.clone().map(gone).collect();
            parts.push(Part { name: piece.name.clone(), file, rows });
        }
        for piece in &new.pieces[news] {
            let rows = piece.lines.clone().map(come).collect();
            parts.push(Part { name: piece.name.clone(), file, rows });
        }
    }
}
