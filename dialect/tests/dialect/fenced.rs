//! Filters filter the side of a join that they name.

use crate::shared::session;
use crate::small_tables::cells;

/// Columns of one name on both sides; the sides change places, as the right one is smaller.
#[tokio::test]
async fn a_filter_stays_with_its_side_of_a_join() {
    let folder = tempfile::tempdir().unwrap();
    let ctx = session();
    for (name, rows) in [
        ("l", "SELECT value AS i, 'l' || value AS s, value AS n FROM range(0, 1000)"),
        ("r", "SELECT value + 995 AS i, 'r' || value AS s, -value AS n FROM range(0, 10)"),
    ] {
        let path = folder.path().join(format!("{name}.parquet"));
        cells(&ctx, &format!("COPY ({rows}) TO '{}' STORED AS PARQUET", path.display())).await;
        ctx.register_parquet(name, path.to_str().unwrap(), Default::default()).await.unwrap();
    }
    for (query, right) in [
        ("SELECT r.s FROM l RIGHT JOIN r ON l.i = r.i WHERE l.s IS NULL ORDER BY 1", vec!["r5", "r6", "r7", "r8", "r9"]),
        ("SELECT r.s FROM r LEFT JOIN l ON l.i = r.i WHERE l.s IS NULL ORDER BY 1", vec!["r5", "r6", "r7", "r8", "r9"]),
        (
            "SELECT r.s FROM l RIGHT JOIN r ON l.i = r.i WHERE l.s IS NULL OR l.s = 'l995' ORDER BY 1",
            vec!["r0", "r5", "r6", "r7", "r8", "r9"],
        ),
        ("SELECT l.s, r.s FROM l JOIN r ON l.i = r.i ORDER BY l.s DESC LIMIT 2", vec!["l999 r4", "l998 r3"]),
        ("SELECT l.n, r.n FROM l JOIN r ON l.i = r.i ORDER BY r.n LIMIT 2", vec!["999 -4", "998 -3"]),
        ("SELECT l.n, r.n FROM l RIGHT JOIN r ON l.i = r.i ORDER BY r.n LIMIT 2", vec!["NULL -9", "NULL -8"]),
        ("SELECT l.n, r.n FROM r LEFT JOIN l ON l.i = r.i ORDER BY l.n DESC NULLS LAST LIMIT 2", vec!["999 -4", "998 -3"]),
    ] {
        assert_eq!(cells(&ctx, query).await, right, "{query}");
    }
}
