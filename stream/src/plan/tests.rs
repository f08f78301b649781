//! Which stages a query has, and by what rows are shared out to them.

use super::Blueprint;
use crate::exchange::Exchange;
use crate::project::Project;
use crate::spec::{Sharing, StepSpec};

const SOURCE: &str = "CREATE SOURCE pay (id BIGINT NOT NULL, at TIMESTAMP NOT NULL, amount BIGINT, rate DOUBLE, city VARCHAR, zone VARCHAR,
    WATERMARK FOR at AS at - INTERVAL '1 second') WITH (connector = 'kafka', topic = 'pay', format = 'json');
    CREATE SOURCE refund (no BIGINT NOT NULL, back TIMESTAMP NOT NULL, sum BIGINT, city VARCHAR, rate INT,
    WATERMARK FOR back AS back - INTERVAL '5 seconds') WITH (connector = 'kafka', topic = 'refund', format = 'json');";

async fn plan(query: &str) -> Blueprint {
    let project = Project::parse([SOURCE, &format!("CREATE STREAMING TABLE gold.x AS {query}")]).unwrap_or_else(|e| panic!("{e}\n{query}"));
    let planned = project.plan_all().await.unwrap_or_else(|e| panic!("{e}\n{query}"));
    planned.into_values().next().unwrap()
}

/// `city: over, late`: what a stage is shared out by, and its steps but for those that compute row by row.
async fn stages(query: &str) -> Vec<String> {
    let blueprint = plan(query).await;
    let name = |step: &StepSpec| match step {
        StepSpec::Late { .. } => Some("late"),
        StepSpec::AssignWindows { .. } => Some("window"),
        StepSpec::AggregatePartial { .. } => Some("partial"),
        StepSpec::AggregateFinal { .. } => Some("final"),
        StepSpec::Place => Some("place"),
        StepSpec::Rebase { .. } => Some("rebase"),
        StepSpec::InOrder { .. } => Some("order"),
        StepSpec::Over { .. } => Some("over"),
        StepSpec::Deduplicate { .. } => Some("deduplicate"),
        StepSpec::Fork { .. } => Some("fork"),
        StepSpec::IntervalJoin { .. } => Some("join"),
        StepSpec::Filter { .. } | StepSpec::Project { .. } | StepSpec::Expect { .. } | StepSpec::Deliver { .. } => None,
    };
    let stage = |stage: &crate::spec::StageSpec| {
        let by = match &stage.sharing {
            Sharing::ByPartition => "partition".to_owned(),
            Sharing::ByKey { names, .. } => names.join("+"),
            Sharing::ToOne => "all".to_owned(),
        };
        let inputs = stage.inputs.iter().map(|input| (input + 1).to_string()).collect::<Vec<_>>().join("+");
        // Of one stage after the other it says nothing.
        let by = if stage.inputs.len() > 1 { format!("{by} of {inputs}") } else { by };
        format!("{by}: {}", stage.steps.iter().filter_map(name).collect::<Vec<_>>().join(", "))
    };
    // Each chain can be made, and the keys of the next stage are among its columns.
    for place in 0..blueprint.stages() {
        let chain = blueprint.chain(place, 0).unwrap();
        let _: Option<Exchange> = blueprint.exchange(place, &chain.schema(), 2).unwrap();
    }
    blueprint.spec.stages.iter().map(stage).collect()
}

const ONCE: &str = "DEDUPLICATE(TABLE pay PARTITION BY id, DESCRIPTOR(at), INTERVAL '10 minutes')";
const BACK: &str = "RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW";
const MINUTES: &str = "SELECT window_start, window_end, window_time, city, zone, count(*) AS n
    FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 minute') GROUP BY window_start, window_end, window_time, city, zone";

#[tokio::test]
async fn steps_that_need_other_rows_together_are_stages_of_their_own() {
    assert_eq!(stages("SELECT id FROM pay WHERE amount > 1").await, ["partition: "]);
    assert_eq!(stages(MINUTES).await, ["partition: late, partial", "city+zone: final"].map(|s| s.replace("late", "window, late")));
    let counted =
        format!("SELECT window_end, city, count(*) AS n FROM TUMBLE(TABLE (SELECT * FROM {ONCE}), DESCRIPTOR(at), INTERVAL '1 hour')");
    assert_eq!(
        stages(&format!("{counted} GROUP BY window_start, window_end, city")).await,
        ["partition: late", "id: deduplicate, window, partial", "city: final"]
    );
    let over = format!("SELECT *, count(*) OVER (PARTITION BY city ORDER BY at {BACK}) AS n FROM pay");
    let per_zone = format!("SELECT window_end, zone, max(n) AS n FROM TUMBLE(TABLE ({over}), DESCRIPTOR(at), INTERVAL '1 hour')");
    assert_eq!(
        stages(&format!("{per_zone} GROUP BY window_start, window_end, zone")).await,
        ["partition: late", "city: order, over, window, partial", "zone: final"]
    );
    let twice = format!("SELECT id, sum(n) OVER (PARTITION BY zone ORDER BY at {BACK}) AS s FROM ({over})");
    assert_eq!(stages(&twice).await, ["partition: late", "city: order, over", "zone: order, over"]);
    let all = format!("SELECT id, count(*) OVER (ORDER BY at {BACK}) AS n FROM {ONCE}");
    assert_eq!(stages(&all).await, ["partition: late", "id: deduplicate", "all: order, over"]);
    let once = format!("SELECT id FROM DEDUPLICATE(TABLE (SELECT * FROM {ONCE}) PARTITION BY city, DESCRIPTOR(at), INTERVAL '1 minute')");
    assert_eq!(stages(&once).await, ["partition: late", "id: deduplicate", "city: deduplicate"]);
}

#[tokio::test]
async fn rows_that_are_together_are_not_shared_out_again() {
    let over = format!("SELECT id, count(*) OVER (PARTITION BY id, city ORDER BY at {BACK}) AS n FROM {ONCE}");
    assert_eq!(stages(&over).await, ["partition: late", "id: deduplicate, order, over"]);
    let renamed = format!("SELECT id AS k, upper(city) AS c, at FROM {ONCE}");
    let counted = "GROUP BY window_start, window_end, k";
    let counted = format!("SELECT k, count(*) AS n FROM TUMBLE(TABLE ({renamed}), DESCRIPTOR(at), INTERVAL '1 hour') {counted}");
    assert_eq!(stages(&counted).await, ["partition: late", "id: deduplicate, window, partial, final"]);
    // A key that is no longer there, or is only part of another, does not keep rows together.
    let made = format!("SELECT -id AS id, city, at FROM {ONCE}");
    let over = format!("SELECT count(*) OVER (PARTITION BY id ORDER BY at {BACK}) AS n FROM ({made})");
    assert_eq!(stages(&over).await, ["partition: late", "id: deduplicate", "id: order, over"]);
    // Fewer keys.
    let over = format!("SELECT id, city, at, count(*) OVER (PARTITION BY id, city ORDER BY at {BACK}) AS n FROM pay");
    let once = format!("SELECT id FROM DEDUPLICATE(TABLE ({over}) PARTITION BY city, DESCRIPTOR(at), INTERVAL '1 minute')");
    assert_eq!(stages(&once).await, ["partition: late", "id+city: order, over", "city: deduplicate"]);
    // All in one task stays there only for what needs all in one.
    let over = format!("SELECT id, city, at, count(*) OVER (ORDER BY at {BACK}) AS n FROM pay");
    let again = format!("SELECT id, sum(n) OVER (ORDER BY at {BACK}) AS n FROM (SELECT * FROM ({over}) WHERE n > 1)");
    assert_eq!(stages(&again).await, ["partition: late", "all: order, over, order, over"]);
    let counted = |by: &str| {
        let windows = format!("TUMBLE(TABLE ({over}), DESCRIPTOR(at), INTERVAL '1 hour')");
        format!("SELECT window_end, max(n) AS n FROM {windows} GROUP BY window_start, window_end{by}")
    };
    assert_eq!(stages(&counted("")).await, ["partition: late", "all: order, over, window, partial, final"]);
    assert_eq!(stages(&counted(", city")).await, ["partition: late", "all: order, over, window, partial", "city: final"]);
}

#[tokio::test]
async fn results_of_windows_go_through_further_steps() {
    let window = "partition: window, late, partial";
    let same = format!("SELECT window_end, city, max(n) AS n FROM ({MINUTES}) GROUP BY window_start, window_end, city");
    assert_eq!(stages(&same).await, [window, "city+zone: final, partial", "city: final"]);
    let finer = format!("SELECT window_end, city, zone, max(n) AS n FROM ({MINUTES}) GROUP BY window_start, window_end, city, zone");
    assert_eq!(stages(&finer).await, [window, "city+zone: final, partial, final"]);
    let hours = |time: &str, by: &str| {
        let renamed = format!("SELECT {time} AS t, city, zone, n FROM ({MINUTES})");
        format!(
            "SELECT window_end, sum(n) AS n FROM TUMBLE(TABLE ({renamed}), DESCRIPTOR(t), INTERVAL '1 hour') GROUP BY window_start, window_end{by}"
        )
    };
    assert_eq!(stages(&hours("window_time", "")).await, [window, "city+zone: final, window, partial", "all: final"]);
    assert_eq!(stages(&hours("window_end", ", zone, city")).await, [window, "city+zone: final, window, partial, final"]);
    assert_eq!(stages(&hours("window_start", ", city")).await, [window, "city+zone: final, rebase, window, partial", "city: final"]);
    let over = |time: &str| format!("SELECT *, sum(n) OVER (PARTITION BY city ORDER BY {time} {BACK}) AS s FROM ({MINUTES})");
    assert_eq!(stages(&over("window_time")).await, [window, "city+zone: final", "city: place, order, over"]);
    assert_eq!(stages(&over("window_start")).await, [window, "city+zone: final, rebase", "city: place, order, over"]);
    // What is in order by the end may still be kept back when the watermark has come there.
    let closed = format!("SELECT window_end, max(s) AS s FROM ({}) GROUP BY window_start, window_end", over("window_end"));
    assert_eq!(stages(&closed).await, [window, "city+zone: final", "city: place, order, over, rebase, partial", "all: final"]);
    let closed = format!("SELECT window_end, max(s) AS s FROM ({}) GROUP BY window_start, window_end", over("window_time"));
    assert_eq!(stages(&closed).await, [window, "city+zone: final", "city: place, order, over, partial", "all: final"]);
    let once = format!("SELECT city FROM DEDUPLICATE(TABLE ({MINUTES}) PARTITION BY city, DESCRIPTOR(window_end), INTERVAL '1 hour')");
    assert_eq!(stages(&once).await, [window, "city+zone: final", "city: deduplicate"]);
    // Results that depend on the order of rows.
    let first = format!("SELECT window_end, first_value(zone) AS zone FROM ({MINUTES}) GROUP BY window_start, window_end");
    assert_eq!(stages(&first).await, [window, "city+zone: final, place, order, partial", "all: final"]);
}

#[tokio::test]
async fn tasks_of_stages_by_key_are_as_many_as_asked_for() {
    let blueprint = plan(&format!("SELECT id, count(*) OVER (ORDER BY at {BACK}) AS n FROM {ONCE}")).await;
    assert_eq!((1..blueprint.stages()).map(|stage| blueprint.tasks(stage, 5)).collect::<Vec<_>>(), [5, 1]);
    assert!(blueprint.shares_by_key());
    assert!(!plan(&format!("SELECT count(*) OVER (ORDER BY at {BACK}) AS n FROM pay")).await.shares_by_key());
}

#[tokio::test]
async fn what_a_column_of_a_window_is_called_does_not_matter() {
    // The second copy of a bound is as good a time as the first.
    let copies = format!("SELECT window_end AS e, window_start AS a, window_start AS b, city, n FROM ({MINUTES})");
    let over = format!("SELECT a, city, sum(n) OVER (PARTITION BY city ORDER BY b {BACK}) AS s FROM ({copies})");
    assert_eq!(stages(&over).await, ["partition: window, late, partial", "city+zone: final, rebase", "city: place, order, over"]);
}

#[tokio::test]
async fn parts_of_a_union_take_the_same_steps_and_meet_where_rows_are_shared_out() {
    let both = "SELECT id, at, amount, city FROM pay WHERE amount > 1 UNION ALL SELECT no, back, -sum, upper(city) FROM refund";
    assert_eq!(stages(both).await, ["partition: ", "partition: "]);
    let minutes = |rows: &str| {
        format!(
            "SELECT window_end, city, count(*) AS n FROM TUMBLE(TABLE ({rows}), DESCRIPTOR(at), INTERVAL '1 minute')
             GROUP BY window_start, window_end, city"
        )
    };
    let beside = "partition: window, late, partial";
    assert_eq!(stages(&minutes(both)).await, [beside, beside, "city of 1+2: final"]);
    let once = format!("SELECT id FROM DEDUPLICATE(TABLE ({both}) PARTITION BY id, DESCRIPTOR(at), INTERVAL '1 minute')");
    assert_eq!(stages(&once).await, ["partition: late", "partition: late", "id of 1+2: deduplicate"]);
    // One source is read once.
    let twice = "SELECT id, at, city FROM pay WHERE amount > 1 UNION ALL SELECT amount, at, zone FROM pay";
    assert_eq!(stages(&minutes(twice)).await, ["partition: fork, window, late, partial", "city: final"]);
    let thrice = format!("{twice} UNION ALL SELECT no, back, city FROM refund UNION ALL SELECT id, at, 'x' FROM pay");
    assert_eq!(stages(&minutes(&thrice)).await, ["partition: fork, window, late, partial", beside, "city of 1+2: final"]);
    // What ends in the table need not agree in anything but its columns.
    let counted =
        "SELECT window_end, count(*) AS n FROM TUMBLE(TABLE refund, DESCRIPTOR(back), INTERVAL '1 hour') GROUP BY window_start, window_end";
    let mixed = format!("SELECT at, amount FROM pay UNION ALL {counted}");
    assert_eq!(stages(&mixed).await, ["partition: ", beside, "all: final"]);
    let blueprint = plan(&mixed).await;
    assert_eq!((blueprint.inputs(2), blueprint.next(0), blueprint.next(1), blueprint.next(2)), (&[1][..], None, Some(2), None));
    let names: Vec<_> = (0..3).map(|stage| blueprint.stage_name(stage).name().into_owned()).collect();
    assert_eq!(names, ["local", "local_2", "keyed"]);
}

#[tokio::test]
async fn late_rows_of_several_sources_are_in_one_table_with_the_columns_of_all() {
    let of = |names: [&str; 3]| {
        let [source, time, column] = names;
        format!(
            "SELECT window_end, count({column}) AS n FROM TUMBLE(TABLE {source}, DESCRIPTOR({time}), INTERVAL '1 hour')
             GROUP BY window_start, window_end"
        )
    };
    let union = |column: &str| format!("{} UNION ALL {}", of(["pay", "at", column]), of(["refund", "back", "rate"]));
    let blueprint = plan(&union("amount")).await;
    let schema = blueprint.late_schema.as_ref().unwrap();
    let columns: Vec<_> =
        schema.fields().iter().map(|field| format!("{}{}", field.name(), if field.is_nullable() { "?" } else { "" })).collect();
    let expected = "amount? window_start window_end window_time rate? source source_partition source_offset watermark";
    assert_eq!(columns.join(" "), expected);
    // `rate` is a number of another kind there.
    let table = |options: &str| format!("CREATE STREAMING TABLE gold.x {options} AS {}", union("rate"));
    let planned = async |options: &str| Project::parse([SOURCE, &table(options)]).unwrap().plan_all().await.map(|_| ());
    let error = planned("").await.unwrap_err().to_string();
    assert!(error.contains("a column 'rate' of several types") && error.contains("late_rows = 'drop'"), "{error}");
    planned("WITH (late_rows = 'drop')").await.unwrap();
}
