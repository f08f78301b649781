//! Puts the project `sql/` into the binary, so that `watershed demo` works anywhere: writes `demo_sql.rs`, a list of (path, text).

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    println!("cargo::rerun-if-changed=sql");
    let mut files = Vec::new();
    collect(&root.join("sql"), &mut files);
    files.sort();
    let entry = |path: &PathBuf| {
        let name = path.strip_prefix(&root).expect("below the root").display().to_string();
        format!("    ({name:?}, include_str!({:?})),\n", path.display().to_string())
    };
    let entries: String = files.iter().map(entry).collect();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("demo_sql.rs");
    fs::write(out, format!("&[\n{entries}]")).expect("the build folder can be written");
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder).expect("sql/ can be read") {
        let path = entry.expect("sql/ can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "sql") {
            files.push(path);
        }
    }
}
