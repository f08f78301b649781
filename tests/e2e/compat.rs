//! Random queries, answered as DuckDB and SQLite answer them. This is the short form of `make compat`.

use crate::serving::{python, serve};
use crate::tools::folder;

/// How many queries; where they begin, another run asks others.
const QUERIES: &str = "300";

#[test]
fn random_queries_have_the_rows_that_others_give() {
    let warehouse = folder("compat-");
    let path = warehouse.path().display().to_string();
    python("../compat/compat.py", &["make", &path]);
    let (_server, url) = serve(&path);
    let said = python("../compat/compat.py", &["run", &url, QUERIES]);
    assert!(said.contains("300 queries, 0 different"), "{said}");
}
