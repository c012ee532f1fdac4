//! The floors of the house: a module may use only modules on lower floors; two on the same floor never name
//! each other. An unknown module fails, so that the table is kept.

use std::path::{Path, PathBuf};

const FLOORS: [(&str, u32); 9] = [
    ("model", 0),
    ("rules", 1),
    ("sys", 2),
    ("store", 3),
    ("view", 3),
    ("usage", 3),
    ("run", 4),
    ("cmd", 5),
    ("cli", 6),
];

/// Modules that must not reach for the world: no IO, no clock, no environment.
const PURE: [&str; 2] = ["model", "rules"];

fn floor_of(module: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("source directory") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every `crate::module` that the text names outside comments, with the `use crate::{a, b}` form spelled out.
fn named_modules(source: &str) -> Vec<String> {
    let code: String =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let group = &group[..group.find("};").unwrap_or(group.len())];
            let mut depth = 0;
            let mut part = String::new();
            for letter in group.chars().chain([',']) {
                match letter {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => named.push(first_word(&std::mem::take(&mut part))),
                    letter => part.push(letter),
                }
            }
        } else {
            named.push(first_word(rest));
        }
    }
    named.retain(|name| !name.is_empty());
    named
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// What breaks the floors in one file of one module.
fn violations(module: &str, source: &str) -> Vec<String> {
    let Some(floor) = floor_of(module) else {
        return vec![format!("module {module} stands on no floor: add it to the table")];
    };
    let mut wrong: Vec<String> = named_modules(source)
        .into_iter()
        .filter(|named| named != module)
        .filter(|named| floor_of(named).is_none_or(|other| other >= floor))
        .map(|named| format!("{module} (floor {floor}) names {named}"))
        .collect();
    if PURE.contains(&module) {
        let code = source.split("#[cfg(test)]").next().unwrap_or(source);
        for world in ["std::fs", "std::env", "std::process", "std::net", "SystemTime::now", "Instant::now", "Utc::now"]
        {
            if code.contains(world) {
                wrong.push(format!("{module} is pure and names {world}"));
            }
        }
    }
    if module != "run" && source.contains("select!") {
        wrong.push(format!("{module} uses select!, which lives in run only"));
    }
    wrong
}

#[test]
fn no_module_names_its_own_floor_or_a_higher_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 10, "the scan found the sources");
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).expect("below src");
        let first = relative.iter().next().expect("a name").to_string_lossy();
        let module = first.trim_end_matches(".rs");
        if matches!(module, "lib" | "main") {
            continue;
        }
        let source = std::fs::read_to_string(&file).expect("readable source");
        wrong.extend(violations(module, &source).into_iter().map(|what| format!("{}: {what}", relative.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_check_sees_what_it_forbids() {
    assert_eq!(violations("store", "use crate::sys::walk;"), Vec::<String>::new());
    assert_eq!(violations("store", "use crate::view::x;").len(), 1);
    assert_eq!(violations("sys", "use crate::{model::Digest, run::drive};").len(), 1);
    assert_eq!(violations("sys", "use crate::{model::{Digest, store}, rules};").len(), 0);
    assert_eq!(violations("attic", "").len(), 1);
    assert_eq!(violations("rules", "let now = std::time::SystemTime::now();").len(), 1);
    assert_eq!(violations("cmd", "tokio::select! {}").len(), 1);
}
