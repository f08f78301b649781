//! The house rules, as a test: each failure names the file and what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Longer files are hard to find one's way in.
const LINES_MAX: usize = 600;

/// Which crates of ours each may use: dependencies point one way.
const MAY_USE: [(&str, &[&str]); 9] = [
    ("message", &[]),
    ("dialect/functions", &["message"]),
    ("dialect", &["message", "dialect/functions"]),
    ("lake", &["message"]),
    ("ingest/simulator", &["message"]),
    ("ingest", &["message", "dialect/functions", "dialect"]),
    ("stream", &["message", "ingest", "lake", "dialect/functions", "dialect"]),
    ("batch", &["message", "lake", "dialect"]),
    ("query", &["message", "lake", "dialect/functions", "dialect"]),
];

/// Words of code that have one home: the word, the folders it may be in, and why.
const HOMES: [(&str, &[&str], &str); 3] = [
    ("env::var", &["src", "tests", "build.rs"], "only the binary reads the environment: hand the value down"),
    ("\"_delta_log", &["lake", "tests"], "only lake/ writes a Delta log"),
    ("use rdkafka", &["ingest", "tests", "examples"], "only ingest/ knows Kafka"),
];

/// Words at which a stranger stops: the word, the endings of the files that do without it, and what to write instead.
const PLAINER: [(&str, &[&str], &str); 3] = [
    ("anew", &["rs", "md"], "'again' or 'from the start'"),
    ("stands", &["rs", "md"], "'is', 'comes' or 'is written'"),
    ("behind", &["rs"], "'after', 'later than' or 'beyond'; of what is not up to date, that it lags"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files of the project with one of these endings, as paths from its root.
fn files(endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the project") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" && name != "node_modules" {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path.strip_prefix(root()).expect("below the root").to_path_buf());
            }
        }
    }
    found.sort();
    assert!(found.len() > 5, "the walk over the project finds its files: {found:?}");
    found
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn rust_files_say_what_they_are_and_stay_short() {
    let mut faults = Vec::new();
    for path in files(&[".rs"]) {
        let text = text(&path);
        let lines = text.lines().count();
        if lines > LINES_MAX {
            faults.push(format!("{}: {lines} lines; split it, {LINES_MAX} is the limit", path.display()));
        }
        if !text.starts_with("//!") {
            faults.push(format!("{}: begin with //! and what the file is for", path.display()));
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if ["util", "utils", "common", "misc", "helpers", "prelude"].contains(&stem.as_str()) {
            faults.push(format!("{}: name the file after what is in it", path.display()));
        }
    }
    none(&faults);
}

#[test]
fn crates_know_only_those_below_them() {
    let mut faults = Vec::new();
    let names: BTreeMap<String, &str> =
        MAY_USE.iter().map(|(folder, _)| (format!("watershed-{}", folder.rsplit('/').next().unwrap_or(folder)), *folder)).collect();
    for (folder, may_use) in MAY_USE {
        let manifest = text(&Path::new(folder).join("Cargo.toml"));
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default().split("\n[").next().unwrap_or_default();
        for line in dependencies.lines() {
            let Some(used) = names.get(line.split(['.', ' ', '=']).next().unwrap_or_default()) else { continue };
            if !may_use.contains(used) {
                faults.push(format!("{folder}/Cargo.toml: {folder} must not know {used}; see the code map in docs/architecture.md"));
            }
        }
    }
    none(&faults);
}

/// Cargo compiles a crate once more to look for examples, unless its manifest says that there are none.
#[test]
fn crates_with_examples_in_their_docs_run_them_and_others_do_not_look() {
    let mut faults = Vec::new();
    for (folder, _) in MAY_USE {
        let says_none = text(&Path::new(folder).join("Cargo.toml")).contains("doctest = false");
        let sources = files(&[".rs"]).into_iter().filter(|path| path.starts_with(Path::new(folder).join("src")));
        let with_example: Vec<PathBuf> = sources.filter(|path| has_example(&text(path))).collect();
        match (with_example.first(), says_none) {
            (Some(path), true) => {
                faults.push(format!("{folder}/Cargo.toml: 'doctest = false' keeps the example in {} from running", path.display()))
            }
            (None, false) => faults.push(format!("{folder}/Cargo.toml: no docs hold an example: say 'doctest = false' under [lib]")),
            _ => {}
        }
    }
    none(&faults);
}

/// Whether docs of a file hold Rust code.
fn has_example(text: &str) -> bool {
    let docs = text.lines().map(str::trim_start).filter(|line| line.starts_with("//!") || line.starts_with("///"));
    let mut fences = docs.filter_map(|line| line[3..].trim_start().strip_prefix("```"));
    // Each second one closes a block.
    while let Some(language) = fences.next() {
        if matches!(language.trim(), "" | "rust" | "no_run" | "should_panic") {
            return true;
        }
        fences.next();
    }
    false
}

#[test]
fn words_stay_at_home() {
    let mut faults = Vec::new();
    for path in files(&[".rs"]) {
        let (shown, text) = (path.display().to_string(), text(&path));
        if shown == "tests/tidy.rs" {
            continue;
        }
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (word, homes, why) in HOMES {
            let at_home = homes.iter().any(|home| path.starts_with(home)) || shown.contains("/tests/") || shown.contains("/examples/");
            if code.contains(word) && !at_home {
                faults.push(format!("{shown}: '{word}': {why}"));
            }
        }
    }
    none(&faults);
}

#[test]
fn comments_and_pages_use_plain_words() {
    let mut faults = Vec::new();
    for path in files(&[".rs", ".md"]) {
        let (shown, text) = (path.display().to_string(), text(&path));
        let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        let (mut in_block, mut quoted) = (false, false);
        for (number, line) in text.lines().enumerate() {
            let read = if ending == "rs" { comment(line) } else { line }.trim_start();
            let is_fence = read.starts_with("```");
            in_block ^= is_fence;
            // A block is code, or what a program printed.
            let words = words(if in_block || is_fence { "" } else { read }, &mut quoted);
            let lags = words.iter().any(|word| word == "lag" || word == "lags");
            for (plainer, endings, instead) in PLAINER {
                let may_stay = plainer == "behind" && lags;
                if endings.contains(&ending.as_str()) && words.iter().any(|word| word == plainer) && !may_stay {
                    faults.push(format!("{shown}:{}: '{plainer}': write {instead}", number + 1));
                }
            }
        }
        if in_block {
            faults.push(format!("{shown}: close its last ``` block"));
        }
    }
    none(&faults);
}

/// What the comment of a line of Rust says; empty without one.
fn comment(line: &str) -> &str {
    let line = line.trim_start();
    let comment = if line.starts_with("//") { line } else { line.split_once(" // ").map_or("", |(_, comment)| comment) };
    comment.trim_start_matches(['/', '!'])
}

/// The words of a line in small letters, without what is quoted in backticks: names, and what programs print. `quoted` says whether
/// a quote of an earlier line is still open; the end of a paragraph closes it.
fn words(line: &str, quoted: &mut bool) -> Vec<String> {
    *quoted &= line.chars().any(char::is_alphanumeric);
    let mut prose = String::new();
    for letter in line.chars() {
        *quoted ^= letter == '`';
        prose.push(if *quoted { ' ' } else { letter });
    }
    prose.to_lowercase().split(|letter: char| !letter.is_alphanumeric()).map(str::to_owned).collect()
}

#[test]
fn operators_are_pure() {
    let mut faults = Vec::new();
    for path in files(&[".rs"]).into_iter().filter(|path| path.starts_with("stream/src/operators")) {
        let text = text(&path);
        for word in ["Instant", "SystemTime", "tokio", "std::fs", "std::thread", "crossbeam", "object_store"] {
            if text.contains(word) {
                faults.push(format!("{}: '{word}': I/O, clocks and channels belong outside of operators/", path.display()));
            }
        }
    }
    none(&faults);
}

#[test]
fn definitions_begin_with_what_they_answer() {
    let mut faults = Vec::new();
    for path in files(&[".sql"]).into_iter().filter(|path| path.starts_with("sql")) {
        if !text(&path).starts_with("-- ") {
            faults.push(format!("{}: begin with a comment that says what it is and what it answers", path.display()));
        }
    }
    none(&faults);
}

#[test]
fn links_between_pages_resolve() {
    let mut faults = Vec::new();
    for path in files(&[".md"]) {
        let text = text(&path);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                continue;
            }
            let folder = path.parent().unwrap_or(Path::new(""));
            if !root().join(folder).join(file).exists() {
                faults.push(format!("{}: nothing is at '{target}'", path.display()));
            }
        }
    }
    none(&faults);
}

#[test]
fn notebooks_are_kept_without_what_they_showed() {
    let mut faults = Vec::new();
    for path in files(&[".ipynb", ".rs"]).into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "ipynb")) {
        let text = text(&path);
        // Outputs hold paths of the machine they were made on, and differ at each run.
        if text.contains("\"output_type\"") || text.contains("\"execution_count\": 1") {
            faults.push(format!("{}: clear its outputs before it is committed", path.display()));
        }
    }
    none(&faults);
}

/// Each crate is compiled by everybody who builds this, so that one more is a decision: `crates.txt` is changed by hand.
#[test]
fn every_crate_of_the_lock_file_is_listed() {
    let count = |names: Vec<String>| {
        let mut versions: BTreeMap<String, usize> = BTreeMap::new();
        names.into_iter().for_each(|name| *versions.entry(name).or_default() += 1);
        versions
    };
    let lock = text(Path::new("Cargo.lock"));
    let locked = count(lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).map(str::to_owned).collect());
    let list = text(Path::new("crates.txt"));
    let listed = count(list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect());
    assert!(locked.len() > 100, "the lock file names its crates: {}", locked.len());
    let mut faults = Vec::new();
    for name in locked.keys().chain(listed.keys()).collect::<BTreeSet<_>>() {
        let [locked, listed] = [&locked, &listed].map(|counted| counted.get(name).copied().unwrap_or(0));
        if locked > listed {
            faults.push(format!(
                "{name}: {locked} versions in Cargo.lock, {listed} in crates.txt: do without, or list it and say in the commit what for"
            ));
        } else if locked < listed {
            faults.push(format!("{name}: {listed} lines in crates.txt, {locked} versions in Cargo.lock: take it off the list"));
        }
    }
    none(&faults);
}
