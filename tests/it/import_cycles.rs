//! No source files import each other in a cycle, except a module and its own children: a file in a
//! cycle cannot be read, moved or tested without the others. The listed families import none of
//! each other, and authentication imports none of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::conventions::{Source, sources};

/// A module's path below the crate, such as `["http", "auth"]`.
type ModulePath = Vec<String>;

/// Which files each file imports, other than its parent and its children.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_files_import_each_other_in_a_cycle() {
    let imports = imports();
    assert!(imports.len() > 150, "only {} files import another", imports.len());
    let cycles: Vec<String> = imports.keys().filter_map(|file| cycle(file, &imports)).collect();
    assert!(cycles.is_empty(), "cycles of imports:\n  {}", cycles.join("\n  "));
}

/// Folders of `src/http` with families that must not import each other.
const FAMILIES: [&str; 7] =
    ["onboarding", "account", "organization", "operator", "user", "oauth", "stripe"];

#[test]
fn no_listed_family_imports_another_and_authentication_imports_none() {
    let imports = imports();
    for importer in FAMILIES.iter().chain(&["auth"]) {
        let folder = format!("src/http/{importer}/");
        let files: Vec<_> = imports.iter().filter(|(file, _)| file.starts_with(&folder)).collect();
        assert!(!files.is_empty(), "no file of {importer} imports another");
        for (file, imported) in files {
            for family in FAMILIES.iter().filter(|family| *family != importer) {
                let other = format!("src/http/{family}/");
                assert!(
                    !imported.iter().any(|it| it.starts_with(&other)),
                    "{file} imports {other}"
                );
            }
        }
    }
}

/// The shortest path of imports from a file back to itself, if there is one.
fn cycle(start: &str, imports: &Imports) -> Option<String> {
    let mut paths = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    let mut next = 0;
    while next < paths.len() {
        let path = paths[next].clone();
        next += 1;
        for imported in imports.get(path.last()?).into_iter().flatten() {
            if imported == start {
                return Some(format!("{} → {start}", path.join(" → ")));
            }
            if seen.insert(imported.clone()) {
                paths.push([path.clone(), vec![imported.clone()]].concat());
            }
        }
    }
    None
}

fn imports() -> Imports {
    let sources = sources("src");
    let library = sources.iter().filter(|it| !it.path.starts_with("src/bin/"));
    let library: Vec<&Source> = library.filter(|it| it.path != "src/main.rs").collect();
    let modules: BTreeMap<ModulePath, &str> =
        library.iter().map(|source| (module_path(&source.path), source.path.as_str())).collect();
    let files = library.iter().map(|source| {
        let own = module_path(&source.path);
        let paths = imported_paths(source.code(), &own);
        let found = paths.into_iter().map(|path| file_of(&path, &modules));
        let unrelated = found.filter(|(module, _)| !is_parent_or_same(&own, module));
        (source.path.clone(), unrelated.map(|(_, file)| file.to_owned()).collect())
    });
    files.filter(|(_, imported): &(_, BTreeSet<_>)| !imported.is_empty()).collect()
}

fn module_path(file: &str) -> ModulePath {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs");
    let path = path.trim_end_matches("/mod");
    path.split('/').filter(|it| *it != "lib").map(str::to_owned).collect()
}

/// The file that defines the longest module that a path names.
fn file_of<'a>(path: &[String], modules: &BTreeMap<ModulePath, &'a str>) -> (ModulePath, &'a str) {
    (0..=path.len())
        .rev()
        .find_map(|length| {
            let module = path[..length].to_vec();
            modules.get(&module).map(|file| (module, *file))
        })
        .expect("lib.rs")
}

/// Whether the modules are equal, or one is the parent of the other.
fn is_parent_or_same(one: &[String], other: &[String]) -> bool {
    let is_parent = |parent: &[String], child: &[String]| {
        child.len() == parent.len() + 1 && child.starts_with(parent)
    };
    one == other || is_parent(one, other) || is_parent(other, one)
}

/// Every path that begins with `crate`, `self` or `super`, from the crate's root.
fn imported_paths(code: &str, own: &[String]) -> Vec<ModulePath> {
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let mut paths = Vec::new();
    for part in code.split("use ").skip(1) {
        let tree = part.split(';').next().unwrap_or_default();
        expand(tree, &[], &mut paths);
    }
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            let path = code[at..].split(|it: char| !it.is_alphanumeric() && !"_:".contains(it));
            paths.push(segments(path.clone().next().unwrap_or_default()));
        }
    }
    paths.iter().filter_map(|path| absolute(path, own)).collect()
}

fn segments(path: &str) -> ModulePath {
    path.split("::").map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

/// Writes out a tree such as `crate::{a, b::{c, d}}`.
fn expand(tree: &str, prefix: &[String], paths: &mut Vec<ModulePath>) {
    let Some((before, rest)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or_default();
        return paths.push([prefix, &segments(name)].concat());
    };
    let prefix = [prefix, &segments(before)].concat();
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut depth, mut start) = (0, 0);
    for (at, character) in inner.char_indices().chain([(inner.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&inner[start..at], &prefix, paths);
                start = at + 1;
            }
            _ => {}
        }
    }
}

fn absolute(path: &[String], own: &[String]) -> Option<ModulePath> {
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([own, &path[1..]].concat()),
        "super" => {
            let up = path.iter().take_while(|it| *it == "super").count();
            Some([&own[..own.len().checked_sub(up)?], &path[up..]].concat())
        }
        _ => None,
    }
}
