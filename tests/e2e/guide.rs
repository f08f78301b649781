//! Every SQL example of the guide and the README runs.
//!
//! The ```` ```sql ```` blocks of a page that begin with `CREATE` are applied, together with the definitions in `sql/` unless the page brings
//! sources of its own by the same names; all others are asked of the shell. A block marked ```` ```sql refused ```` must be refused.

use std::path::{Path, PathBuf};

use crate::tools::folder;
use crate::watershed::Watershed;

struct Example {
    line: usize,
    refused: bool,
    text: String,
}

impl Example {
    fn defines(&self) -> bool {
        self.text.lines().find(|line| !line.starts_with("--")).is_some_and(|line| line.trim_start().to_uppercase().starts_with("CREATE "))
    }
}

fn examples(page: &Path) -> Vec<Example> {
    let text = std::fs::read_to_string(page).expect("a page");
    let (mut found, mut open): (Vec<Example>, Option<Example>) = (Vec::new(), None);
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.trim()) {
            (Some(_), "```") => found.extend(open.take()),
            (Some(example), _) => example.text.push_str(&format!("{line}\n")),
            (None, "```sql") => open = Some(Example { line: number + 1, refused: false, text: String::new() }),
            (None, "```sql refused") => open = Some(Example { line: number + 1, refused: true, text: String::new() }),
            (None, _) => {}
        }
    }
    assert!(open.is_none(), "{}: a block does not end", page.display());
    found
}

/// The definitions in `sql/`, one text each.
fn demo_definitions(folder: &Path, into: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("sql/") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            demo_definitions(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "sql") {
            into.push(std::fs::read_to_string(&path).expect("a definition"));
        }
    }
}

/// What a definition makes: the words after `CREATE` up to its name.
fn made(definition: &str) -> Vec<String> {
    let text = definition.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join(" ");
    let head = |statement: &str| {
        let words: Vec<String> = statement.split_whitespace().map(str::to_lowercase).collect();
        let kind = words.iter().position(|w| ["source", "table", "view", "sink", "panel"].contains(&w.as_str()))?;
        words.first().filter(|w| *w == "create").and(words.get(kind + 1)).map(|name| name.trim_end_matches('(').to_string())
    };
    text.split(';').filter_map(head).collect()
}

fn check(page: &Path, root: &Path) {
    let examples = examples(page);
    let folder = folder("guide-");
    let (project, warehouse) = (folder.path().join("sql"), folder.path().join("warehouse").display().to_string());
    std::fs::create_dir(&project).expect("a folder");
    let own: Vec<&Example> = examples.iter().filter(|e| e.defines() && !e.refused).collect();
    let own_names: Vec<String> = own.iter().flat_map(|e| made(&e.text)).collect();
    for (i, example) in own.iter().enumerate() {
        std::fs::write(project.join(format!("page{i}.sql")), &example.text).expect("written");
    }
    let mut demo = Vec::new();
    demo_definitions(&root.join("sql"), &mut demo);
    // A page that brings a source of the demo's name is applied alone: the demo's tables want the demo's columns.
    let demo_names: Vec<String> = demo.iter().flat_map(|text| made(text)).collect();
    if !own_names.iter().any(|name| !name.contains('.') && demo_names.contains(name)) {
        for (i, text) in demo.iter().enumerate() {
            if !made(text).iter().any(|name| own_names.contains(name)) {
                std::fs::write(project.join(format!("demo{i}.sql")), text).expect("written");
            }
        }
    }
    let project_path = project.display().to_string();
    let page = page.display();
    let applied = Watershed::new(["apply", &project_path, "--yes", "--warehouse", &warehouse]).run();
    assert!(applied.status.success(), "{page}: the definitions are not accepted\n{}", applied.output());
    for example in examples.iter().filter(|e| !e.defines()) {
        let asked = Watershed::new(["shell", "--warehouse", &warehouse, "-c", &example.text]).run();
        assert_eq!(asked.status.success(), !example.refused, "{page}:{}:\n{}\n{}", example.line, example.text, asked.output());
    }
    for example in examples.iter().filter(|e| e.defines() && e.refused) {
        std::fs::write(project.join("refused.sql"), &example.text).expect("written");
        let refused = Watershed::new(["apply", &project_path, "--yes", "--warehouse", &warehouse]).run();
        assert!(!refused.status.success(), "{page}:{}: it should have been refused\n{}", example.line, example.text);
        std::fs::remove_file(project.join("refused.sql")).expect("removed");
    }
}

#[test]
fn every_example_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<PathBuf> =
        std::fs::read_dir(root.join("docs/guide")).expect("the guide").map(|entry| entry.expect("an entry").path()).collect();
    pages.push(root.join("README.md"));
    pages.retain(|page| page.extension().is_some_and(|ending| ending == "md") && !examples(page).is_empty());
    pages.sort();
    assert!(pages.len() >= 4, "pages with examples: {pages:?}");
    pages.iter().for_each(|page| check(page, root));
}
