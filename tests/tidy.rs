//! The shape of the tree, kept by a test: layers, file lengths, where unsafe code and file I/O may stand, and that the
//! commands of the README are the ones that continuous integration runs.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot read the tree fails")]
#![expect(clippy::disallowed_methods, reason = "it reads the sources, not a log")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers of `docs/ARCHITECTURE.md`, lowest first. A module may import from layers below its own, and from its own
/// module; never from a module beside it.
const LAYERS: &[&[&str]] = &[
    &["types", "error", "testing"],
    &["format", "storage"],
    &["producer", "leader_epoch"],
    &["index", "checkpoint"],
    &["segment"],
    &["recovery", "retention", "compaction"],
    &["log"],
    &["log_dir", "producer_ids"],
    &["producer_names"],
];

/// Modules of layer 0 that may import each other, in this order: an error names offsets and sequences.
const BESIDE: &[(&str, &str)] = &[("error", "types")];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn is_test_file(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests")
        || path.file_stem().is_some_and(|stem| stem == "tests" || stem.to_string_lossy().starts_with("test_"))
}

/// The top-level module that a source file belongs to; `None` for `lib.rs`.
fn module_of(path: &Path) -> Option<String> {
    let relative = path.strip_prefix(root().join("src")).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    let name = first.strip_suffix(".rs").unwrap_or(&first).to_owned();
    (name != "lib").then_some(name)
}

fn layer_of(module: &str) -> usize {
    LAYERS.iter().position(|layer| layer.contains(&module)).unwrap_or_else(|| {
        panic!("module {module} has no layer: name it in LAYERS and in docs/ARCHITECTURE.md")
    })
}

/// The code of a file without comments and without what stands behind `#[cfg(test)]`.
fn code_of(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Top-level modules named by `crate::…` paths, `crate::{…}` groups included.
fn imports_of(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            for letter in group.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' | ':' | ' ' | '\n' if depth == 0 => {
                        found.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
                    }
                    letter if depth == 0 => word.push(letter),
                    _ => {}
                }
            }
            found.extend(Some(word).filter(|word| !word.is_empty()));
        } else {
            found.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    found.retain(|name| name.chars().next().is_some_and(char::is_lowercase));
    found
}

#[test]
fn imports_run_strictly_downward() {
    let mut wrong = Vec::new();
    for path in rust_files(&root().join("src")) {
        let Some(module) = module_of(&path).filter(|_| !is_test_file(&path)) else { continue };
        let layer = layer_of(&module);
        for import in imports_of(&code_of(&path)) {
            let allowed = import == module
                || BESIDE.contains(&(module.as_str(), import.as_str()))
                || layer_of(&import) < layer;
            if !allowed {
                wrong.push(format!("{}: {module} (layer {layer}) imports {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "imports against the layer order:\n{}", wrong.join("\n"));
}

#[test]
fn an_upward_import_would_be_found() {
    let code = "use crate::{log::Log, types::Offset};\nuse crate::segment::scan;";
    assert_eq!(imports_of(code), ["log", "types", "segment"]);
    assert!(layer_of("log") > layer_of("producer"));
}

#[test]
fn files_are_short_enough_to_read_at_one_sitting() {
    let long: Vec<String> = rust_files(&root().join("src"))
        .into_iter()
        .chain(rust_files(&root().join("cli/src")))
        .filter(|path| !is_test_file(path))
        .map(|path| (fs::read_to_string(&path).unwrap().lines().count(), path))
        .filter(|(lines, _)| *lines > 450)
        .map(|(lines, path)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "split by responsibility:\n{}", long.join("\n"));
}

#[test]
fn unsafe_code_stands_in_one_module() {
    let unsafe_code: Vec<PathBuf> = rust_files(&root().join("src"))
        .into_iter()
        .filter(|path| {
            let code = code_of(path);
            code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl")
        })
        .collect();
    assert_eq!(unsafe_code, [root().join("src/storage/map.rs")]);
}

#[test]
fn only_the_storage_layer_calls_the_operating_system_for_files() {
    let wrong: Vec<PathBuf> = rust_files(&root().join("src"))
        .into_iter()
        .filter(|path| module_of(path).is_some_and(|module| module != "storage") && !is_test_file(path))
        .filter(|path| {
            let code = code_of(path);
            code.contains("std::fs") || code.contains("rustix::fs") || code.contains("memmap2")
        })
        .collect();
    assert_eq!(wrong, Vec::<PathBuf>::new());
}

/// The indented or fenced shell commands of a Markdown section.
fn commands_under(text: &str, heading: &str) -> Vec<String> {
    let section = text.split(heading).nth(1).unwrap_or_else(|| panic!("README has a section {heading}"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut commands = Vec::new();
    let mut fenced = false;
    for line in section.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced && line.starts_with("cargo ") {
            commands.push(line.trim().to_owned());
        }
    }
    commands
}

#[test]
fn the_readme_has_two_commands_and_continuous_integration_runs_them() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let script = fs::read_to_string(root().join(".ci/run")).unwrap();
    let commands = commands_under(&readme, "## Two commands");
    assert_eq!(commands.len(), 2, "one runs the crash test, one the tests: {commands:?}");
    assert!(commands[0].contains("crash-test"), "{}", commands[0]);
    let lines: Vec<&str> = script.lines().map(str::trim).collect();
    assert!(lines.contains(&commands[1].as_str()), "`.ci/run` does not call `{}`", commands[1]);
    assert!(lines.iter().any(|line| line.contains("crash-test")), "`.ci/run` runs no crash test");
}

#[test]
fn every_module_begins_with_what_it_is_for() {
    let bare: Vec<PathBuf> = rust_files(&root().join("src"))
        .into_iter()
        .filter(|path| !is_test_file(path))
        .filter(|path| {
            let text = fs::read_to_string(path).unwrap();
            // The crate's own header is the README.
            !text.starts_with("//!") && !text.starts_with("#![doc = include_str!")
        })
        .collect();
    assert_eq!(bare, Vec::<PathBuf>::new(), "these files have no module header");
}

#[test]
fn every_layer_is_named_in_the_architecture_page() {
    let page = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let mut missing = BTreeMap::new();
    for module in LAYERS.iter().copied().flatten() {
        if !page.contains(&format!("`{module}")) {
            missing.insert(*module, "not mentioned");
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}
