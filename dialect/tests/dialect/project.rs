//! The project's own definitions in `sql/` parse, plan and can run as streams.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::prelude::SessionContext;
use watershed_dialect::{
    SourceTable, StatementKind, parse, plan_expectation, plan_sink, plan_streaming_table, session_config, session_state,
};

fn sql_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sql_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "sql") {
            found.push(path);
        }
    }
}

#[tokio::test]
async fn every_definition_can_be_applied() {
    let mut files = vec![];
    sql_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql"), &mut files);
    let ctx = SessionContext::new_with_state(session_state(session_config(), None));
    let mut tables = vec![];
    let mut sinks = vec![];
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.display().to_string();
        for statement in parse(&text).unwrap_or_else(|e| panic!("{}", e.render(&text, Some(&name)))) {
            match &statement.kind {
                StatementKind::CreateSource(source) => {
                    ctx.register_table(source.name.clone(), Arc::new(SourceTable::new(source.clone()))).unwrap();
                }
                StatementKind::CreateStreamingTable(_) => tables.push((name.clone(), text.clone(), statement)),
                StatementKind::CreateSink(_) => sinks.push((name.clone(), text.clone(), statement)),
                // Planned over the tables' columns where those are known: by the binary's own test of `sql/`.
                StatementKind::CreateMaterializedView(_) => {}
                // What its query reads is looked up when it is drawn; end-to-end tests draw all of them.
                StatementKind::CreatePanel(_) => {}
                other @ (StatementKind::ExplainView(_) | StatementKind::ExplainTable(_) | StatementKind::Other(_)) => {
                    panic!("{name}: {other:?} is no definition")
                }
            }
        }
    }
    assert!(!tables.is_empty());
    let mut results = BTreeMap::new();
    for (name, text, statement) in tables {
        let StatementKind::CreateStreamingTable(table) = &statement.kind else { continue };
        let planned = plan_streaming_table(&ctx.state(), table).await;
        let planned = planned.unwrap_or_else(|e| panic!("{}", statement.place(e).render(&text, Some(&name))));
        let result = Arc::new(planned.schema().as_arrow().clone());
        for expectation in &table.expectations {
            let planned = plan_expectation(&ctx.state(), expectation, &result);
            planned.unwrap_or_else(|e| panic!("{}", e.render(&text, Some(&name))));
        }
        results.insert((table.schema.clone(), table.table.clone()), result);
    }
    for (name, text, statement) in sinks {
        let StatementKind::CreateSink(sink) = &statement.kind else { continue };
        let result = results.get(&(sink.schema.clone(), sink.table.clone())).unwrap_or_else(|| panic!("{name}: there is no such table"));
        let own = SessionContext::new_with_state(session_state(session_config(), None));
        let planned = plan_sink(&own.state(), sink, result.clone()).await;
        planned.unwrap_or_else(|e| panic!("{}", statement.place(e).render(&text, Some(&name))));
    }
}
