//! What `CREATE PANEL` may say, and the errors for what it may not.

use watershed_dialect::{Chart, PanelDefinition, StatementKind, parse};

fn panel(text: &str) -> PanelDefinition {
    match parse(text).unwrap().remove(0).kind {
        StatementKind::CreatePanel(panel) => panel,
        other => panic!("not a panel: {other:?}"),
    }
}

#[test]
fn a_panel_in_full_and_in_short() {
    let full = panel(
        "create panel Hot_Zones -- where
         WITH (title = 'Hot zones', about = 'now', chart = 'MAP', x = 'lon', y = 'lat', series = 'city', size = 'n', label = 'zone',
               unit = 'rides', position = 3, wide = true)
         AS WITH z AS (SELECT 1.0 AS lat, 2.0 AS lon) SELECT * FROM z -- all
         ;",
    );
    let some = |text: &str| Some(text.to_owned());
    assert_eq!((full.name.as_str(), full.title.as_str(), full.about, full.chart), ("hot_zones", "Hot zones", some("now"), Chart::Map));
    assert_eq!((full.x, full.y, full.series, full.size, full.label), (some("lon"), some("lat"), some("city"), some("n"), some("zone")));
    assert_eq!((full.unit, full.position, full.wide), (some("rides"), 3, true));
    assert_eq!(full.query, "WITH z AS (SELECT 1.0 AS lat, 2.0 AS lon) SELECT * FROM z");
    let short = panel("CREATE PANEL all_rows WITH (chart = 'table') AS SELECT 1 AS n");
    assert_eq!((short.title.as_str(), short.x, short.wide, short.query.as_str()), ("all rows", None, false, "SELECT 1 AS n"));
}

#[test]
fn mistakes_are_told_at_their_place() {
    for (text, column, said) in [
        ("CREATE PANEL p WITH (chart = 'lin', x = 'a', y = 'b') AS SELECT 1", 30, "did you mean 'line'?"),
        ("CREATE PANEL p WITH (chart = 'line', x = 'a') AS SELECT 1", 16, "has no y"),
        ("CREATE PANEL p WITH (x = 'a', y = 'b') AS SELECT 1", 16, "has no chart"),
        ("CREATE PANEL p WITH (chart = 'table', titel = 'T') AS SELECT 1", 39, "did you mean 'title'?"),
        ("CREATE PANEL p WITH (chart = 'table', position = 'first') AS SELECT 1", 50, "whole number"),
        ("CREATE PANEL a.b WITH (chart = 'table') AS SELECT 1", 15, "expected WITH or AS"),
        ("CREATE PANEL 'p' WITH (chart = 'table') AS SELECT 1", 14, "expected a panel's name"),
        ("CREATE PANEL \"p q\" WITH (chart = 'table') AS SELECT 1", 14, "letters, digits"),
        ("CREATE PANEL p WITH (chart = 'table') AS INSERT INTO t VALUES (1)", 42, "a query after AS"),
        ("CREATE PANEL p WITH (chart = 'table') AS SELEC 1", 42, "SELECT"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.column == Some(column) && error.to_string().contains(said), "{text}: {error:?}");
    }
}
