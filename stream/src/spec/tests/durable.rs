//! What must stay as it is from version to version: fingerprints of each kind of step, and what is explained of the tables in `sql/`.

use std::path::Path;

use super::plan;
use crate::golden::golden;
use crate::project::Project;
use crate::spec::PlanSpec;
use crate::spec::explain::Holds;

pub(super) const KINDS: &[(&str, &str)] = &[
    ("project", "SELECT id, upper(city) AS city, amount * 2 AS twice, price, at FROM pay"),
    ("filter", "SELECT id FROM pay WHERE amount > 1 AND city LIKE 'a%' OR flag IS NOT TRUE AND day < DATE '2026-01-01'"),
    (
        "tumble",
        "SELECT window_start, city, count(*) AS n, sum(rate) AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour')
         GROUP BY window_start, window_end, city",
    ),
    (
        "hop",
        "SELECT window_end, max(amount) FILTER (WHERE flag) AS m FROM HOP(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour', INTERVAL '2 hours')
         GROUP BY window_start, window_end HAVING max(amount) > 1",
    ),
    (
        "cumulate",
        "SELECT window_end, count(DISTINCT city) AS n FROM CUMULATE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour', INTERVAL '1 day')
         GROUP BY window_start, window_end",
    ),
    ("deduplicate", "SELECT id, city FROM DEDUPLICATE(TABLE pay PARTITION BY id, DESCRIPTOR(at), INTERVAL '10 minutes')"),
    (
        "over",
        "SELECT id, count(*) OVER w AS n, sum(rate) OVER w AS s FROM pay
         WINDOW w AS (PARTITION BY city ORDER BY at RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW)",
    ),
    (
        "deduplicate_tumble",
        "SELECT window_start, city, count(*) AS n FROM TUMBLE(TABLE (SELECT * FROM DEDUPLICATE(TABLE pay PARTITION BY id, DESCRIPTOR(at),
         INTERVAL '10 minutes')), DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end, city",
    ),
    (
        "tumble_tumble",
        "SELECT window_end, city, max(n) AS most FROM TUMBLE(TABLE (SELECT window_start AS began, city, town, count(*) AS n FROM
         TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 minute') GROUP BY window_start, window_end, city, town), DESCRIPTOR(began), INTERVAL '1 hour')
         GROUP BY window_start, window_end, city",
    ),
    (
        "tumble_over",
        "SELECT window_end, city, n, sum(n) OVER (PARTITION BY city ORDER BY window_end RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW)
         AS s FROM (SELECT window_end, city, count(*) AS n FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 minute')
         GROUP BY window_start, window_end, city)",
    ),
];

/// A record holds the fingerprint: were it to change, no pipeline could go on. A value here may change only together with
/// [`crate::spec::VERSION`], and then records with the old one must still be accepted.
#[tokio::test]
async fn fingerprints_stay() {
    let mut text = String::new();
    for (kind, query) in KINDS {
        let spec = plan(query).await.spec;
        text.push_str(&format!(
            "{kind}\nlayout 1: {}\nlayout 2: {}\nlayout 3: {}\n{}\n\n",
            spec.v1,
            spec.v2(),
            spec.fingerprint(),
            spec.meaning()
        ));
    }
    golden("fingerprints.txt", &text);
}

#[tokio::test]
async fn records_of_older_layouts_are_accepted() {
    let spec = plan(KINDS[2].1).await.spec;
    let other = plan(KINDS[3].1).await.spec;
    for fingerprint in [|spec: &PlanSpec| spec.v1.clone(), PlanSpec::v2, PlanSpec::fingerprint] {
        assert!(spec.accepts(&fingerprint(&spec)) && !spec.accepts(&fingerprint(&other)));
    }
    assert!(!spec.accepts("") && !spec.accepts("2:0") && !spec.accepts("3:0") && !spec.accepts("4:0"));
}

pub(super) fn repository() -> Project {
    let mut texts = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "sql") {
                texts.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut project = Project::default();
    for text in &texts {
        for statement in watershed_dialect::parse(text).unwrap() {
            if !matches!(statement.kind, watershed_dialect::StatementKind::CreateMaterializedView(_)) {
                project.add(statement.kind).unwrap();
            }
        }
    }
    project
}

#[tokio::test]
async fn tables_of_the_repository_are_explained() {
    let planned = repository().plan_all().await.unwrap();
    assert!(planned.len() > 5);
    for (name, blueprint) in planned {
        golden(&format!("explain/{name}.txt"), &blueprint.explain(&Holds::default()));
    }
}

#[tokio::test]
async fn each_stage_is_explained() {
    let mut text = String::new();
    for (kind, query) in KINDS.iter().filter(|(kind, _)| kind.contains('_')) {
        text.push_str(&format!("{kind}\n{}\n", plan(query).await.explain(&Holds::default())));
    }
    golden("stages.txt", &text);
}

#[tokio::test]
async fn every_expression_of_the_repository_is_known_by_its_structure() {
    for (name, blueprint) in repository().plan_all().await.unwrap() {
        for expression in blueprint.spec.steps().flat_map(|step| step.expressions()) {
            assert!(expression.is_known(), "{name}: {expression}");
        }
    }
    for (kind, query) in KINDS {
        assert!(plan(query).await.spec.steps().flat_map(|step| step.expressions()).all(|e| e.is_known()), "{kind}");
    }
}
