//! The dashboard: every panel of `sql/` answered over HTTP and drawn by a real browser, in both colour schemes, on a desk and on a phone.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{get, sql, try_get};
use crate::simulated::over_the_embedded_broker;
use crate::tools::{folder, free_port, tool, wait_for};
use crate::watershed::{Running, Watershed};

/// Panels whose tables this test does not fill: they must say so, not fail.
const WITHOUT_ROWS: [&str; 3] = ["fraud_scores", "suspicions", "jobs"];

/// The address in the line of standard output that names it.
pub fn address_said(running: &mut Running) -> SocketAddr {
    running.until("it says where it listens", |running| {
        let output = running.output();
        let after = output.split("http://").nth(1)?;
        after.split_once('/')?.0.parse().ok()
    })
}

/// What the browser saw, by view.
fn looked_at(address: SocketAddr, folder: &Path, to_end: Option<u32>) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/browser.py");
    let python = tool("python").join("bin/python");
    let mut command = Command::new(python);
    command.arg(script).arg(tool("chromium")).arg(format!("http://{address}/")).arg(folder);
    let output = command.args(to_end.map(|process| process.to_string())).output();
    let output = output.expect("Python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn check_views(views: &Value) {
    for (name, view) in views.as_object().expect("views") {
        assert_eq!(view["console"], Value::from(Vec::<Value>::new()), "{name}: the console says something");
        assert!(view["overflow"].as_i64().is_some_and(|px| px <= 0), "{name}: the page is wider than the screen by {}", view["overflow"]);
        assert!(view["fresh"].as_str().is_some_and(|class| class.contains("good")), "{name}: {}", view["fresh"]);
        let panels = view["panels"].as_object().expect("panels");
        assert!(panels.len() >= 8, "{name}: {panels:?}");
        for (panel, seen) in panels {
            let state = seen["state"].as_str().unwrap_or_default();
            if WITHOUT_ROWS.contains(&panel.as_str()) {
                assert!(["missing", "empty", "ready"].contains(&state), "{name}: {panel} {seen}");
            } else {
                assert_eq!(state, "ready", "{name}: {panel} {seen}");
                assert!(seen["drawn"].as_u64() > Some(0), "{name}: nothing is drawn in {panel}: {seen}");
            }
            assert!(seen["cut"].as_i64().is_some_and(|px| px <= 0), "{name}: {panel} is cut off: {seen}");
            assert_eq!(view["first_heights"][panel], seen["height"], "{name}: {panel} changed its height when it was drawn");
        }
    }
    let background = |view: &str| views[view]["background"].as_str().expect("a colour").to_owned();
    assert_ne!(background("desktop-light"), background("desktop-dark"), "both colour schemes look the same");
    assert_eq!(background("desktop-dark"), background("phone-dark"));
}

#[test]
fn every_panel_is_drawn_on_a_desk_and_on_a_phone() {
    let folder = folder("dashboard-");
    let warehouse = over_the_embedded_broker().0.display().to_string();
    let mut server = Watershed::new(["serve", "--warehouse", &warehouse, "--http-address", "127.0.0.1:0"]).start();
    let address = address_said(&mut server);

    // The page says over HTTP what the shell says.
    let query = "SELECT city, count(*) AS n FROM bronze.ride_events GROUP BY city ORDER BY city";
    let shell = Watershed::new(["shell", "--warehouse", &warehouse, "--output", "json", "-c", query]).succeeds();
    let rows: Vec<Value> = shell.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(sql(address, query).json(), Value::from(rows));
    let panels = get(address, "/panels").json();
    for panel in panels["panels"].as_array().expect("panels") {
        let name = panel["name"].as_str().expect("a name");
        let answer = get(address, &format!("/panels/{name}"));
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
    }
    // What the shell shows of the pipelines and the page's header are the same table.
    let shown = sql(address, "SHOW PIPELINES").json();
    assert!(shown.as_array().expect("rows").iter().all(|row| row["state"] == "stopped"), "{shown}");
    let epochs = sql(address, "SELECT pipeline, sum(rows_in) AS n FROM system.epochs GROUP BY 1 ORDER BY 1").json();
    let totals = sql(address, "SELECT pipeline, rows_in AS n FROM system.pipelines ORDER BY 1").json();
    assert_eq!(epochs, totals, "epochs do not add up to their pipelines");

    let views = looked_at(address, folder.path(), None);
    keep_screenshots(folder.path(), "");
    check_views(&views);
}

/// For a person to look at: kept when asked for.
fn keep_screenshots(folder: &Path, prefix: &str) {
    let Some(keep) = std::env::var_os("KEEP_SCREENSHOTS") else { return };
    std::fs::create_dir_all(&keep).expect("a folder");
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "png") {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            std::fs::copy(entry.path(), Path::new(&keep).join(name)).expect("a copy");
        }
    }
}

/// A server over a project of panels alone.
fn panels(folder: &Path, definitions: &str) -> Running {
    let (sql, warehouse) = (folder.join("sql"), folder.join("warehouse").display().to_string());
    std::fs::create_dir_all(&sql).expect("a folder");
    std::fs::write(sql.join("panels.sql"), definitions).expect("definitions");
    Watershed::new(["apply", &sql.display().to_string(), "--yes", "--warehouse", &warehouse]).succeeds();
    Watershed::new(["serve", "--warehouse", &warehouse]).start()
}

/// Names that would be links, bold, references or nothing if they were read as markup; two that look alike; one that comes twice.
const HOSTILE: &str = "(VALUES ('<a href=\"//evil.eu\">hi</a>', 9, 1.0, 1.0), ('<b>bold</b>', 8, 2.0, 2.0), ('A<B & C>D', 7, 3.0, 1.0),
    ('&lt;i&gt;', 6, 1.0, 3.0), ('%{x} 5 %', 5, 2.0, 1.0), ('a_b', 4, 3.0, 3.0), ('a b', 3, 1.5, 1.5), ('twice', 2, 2.5, 2.5), ('twice', 1, 2.5, 1.5))
    AS t(name, n, lon, lat)";

#[test]
fn data_is_shown_as_it_is_whatever_it_says() {
    let folder = folder("hostile-");
    let mut definitions = String::new();
    for (chart, columns) in [
        ("bar", "x = 'name', y = 'n', series = 'name'"),
        ("funnel", "x = 'name', y = 'n'"),
        ("map", "x = 'lon', y = 'lat', size = 'n', label = 'name', series = 'name'"),
    ] {
        let unit = "unit = '<b>units</b> %{x}'";
        definitions.push_str(&format!(
            "CREATE PANEL {chart}_panel WITH (title = '{chart}', chart = '{chart}', {columns}, {unit}) AS SELECT * FROM {HOSTILE} ORDER BY n DESC;\n"
        ));
    }
    for chart in ["line", "area"] {
        definitions.push_str(&format!(
            "CREATE PANEL {chart}_panel WITH (title = '{chart}', chart = '{chart}', x = 'at', y = 'n', series = 'name') AS
             SELECT name, n + value AS n, to_timestamp_seconds(value * 60) AS at FROM {HOSTILE} CROSS JOIN generate_series(1, 3);\n"
        ));
    }
    definitions.push_str(
        "CREATE PANEL numbers WITH (title = 'Numbers', chart = 'table') AS
         SELECT 9007199254740993 AS big, CAST('12345678901234567.89' AS DECIMAL(30, 2)) AS exact, CAST('NaN' AS DOUBLE) AS nan, CAST(NULL AS DOUBLE) AS none,
         0.1 + 0.2 AS sum, repeat('long ', 600) AS remark, 'seen' AS after;
         CREATE PANEL newest WITH (title = 'Newest', chart = 'line', x = 'at', y = 'value', wide = true) AS
         SELECT value, to_timestamp_seconds(value) AS at FROM generate_series(1, 12000) ORDER BY at;",
    );
    // Marks that turn what follows round, in a name, a title and a cell; more bars than a picture has room for.
    definitions.push_str(
        "CREATE PANEL turned WITH (title = 'Title \u{202e}eltiT', chart = 'table') AS SELECT 'gpj\u{202e}exe.pic' AS name, 1 AS n;
         CREATE PANEL turned_bar WITH (title = 'Turned', chart = 'bar', x = 'name', y = 'n') AS SELECT 'gpj\u{202e}exe' AS name, 1 AS n;
         CREATE PANEL forty WITH (title = 'Forty', chart = 'bar', x = 'name', y = 'n') AS
         SELECT concat('bar ', value) AS name, value AS n FROM generate_series(1, 40) ORDER BY value;",
    );
    let mut server = panels(folder.path(), &definitions);
    let address = address_said(&mut server);

    let answer = get(address, "/panels/newest").json();
    let values: Vec<i64> = answer["rows"].as_array().expect("rows").iter().map(|row| row["value"].as_i64().expect("a number")).collect();
    assert_eq!((values.len(), values.first(), values.last()), (5_000, Some(&7_001), Some(&12_000)));
    assert_eq!(answer["truncated"], true);

    let views = looked_at(address, folder.path(), Some(server.id()));
    keep_screenshots(folder.path(), "hostile-");
    for (name, view) in views.as_object().expect("views").iter().filter(|(name, _)| *name != "outage") {
        assert_eq!(view["console"], Value::from(Vec::<Value>::new()), "{name}: the console says something");
        assert_eq!(view["marked_up"], 0, "{name}: data was read as markup");
        let text = |panel: &str| view["panels"][panel]["text"].as_str().expect("text").replace('\u{a0}', " ");
        for panel in ["bar_panel", "funnel_panel", "map_panel", "line_panel", "area_panel"] {
            let text = text(panel);
            for shown in ["<a href=\"//evil.eu\">hi</a>", "<b>bold</b>", "A<B & C>D", "&lt;i&gt;", "\"a_b\"", "\"a b\""] {
                assert!(text.contains(shown), "{name}, {panel}: no {shown} in {text}");
            }
        }
        assert_eq!(view["panels"]["bar_panel"]["bars"].as_array().map(Vec::len), Some(9), "{name}: bars were merged");
        let numbers = text("numbers");
        for shown in ["9,007,199,254,740,993", "12,345,678,901,234,567.89", "NaN", "–", "0.3", "seen"] {
            assert!(numbers.contains(shown), "{name}: no {shown} in {numbers}");
        }
        // The 3,000 characters beside it push nothing far away, and are seen to go on.
        let shortened = view["panels"]["numbers"]["shortened"].as_array().expect("cells");
        let [cell] = shortened.as_slice() else { panic!("{name}: cells that are cut: {shortened:?}") };
        assert!(cell[0].as_u64().is_some_and(|px| (100..450).contains(&px)) && cell[1] == "ellipsis", "{name}: {cell}");
        assert!(view["overflow"].as_i64().is_some_and(|px| px <= 0), "{name}: wider than the screen");
        assert_eq!(view["panels"]["bar_panel"]["button"], "Table: bar");
        let panel = |panel: &str, what: &str| &view["panels"][panel][what];
        assert_eq!(panel("numbers", "caption"), "Numbers", "{name}: a table says what it is");
        assert_eq!(
            (panel("turned", "title"), panel("turned", "caption")),
            (&json!("Title \\u{202e}eltiT"), &json!("Title \\u{202e}eltiT")),
            "{name}"
        );
        assert_eq!(panel("turned", "button"), "Table: Title \\u{202e}eltiT", "{name}");
        for (turned, shown) in [("turned", "gpj\\u{202e}exe.pic"), ("turned_bar", "gpj\\u{202e}exe")] {
            let text = text(turned);
            assert!(text.contains(shown) && !text.contains('\u{202e}'), "{name}: {turned} is {text:?}");
        }
        // A bar chart that is too high for its card scrolls, and leaves no label out.
        let labels = panel("forty", "labels").as_array().expect("labels").iter();
        let labels: Vec<String> = labels.map(|label| label.as_str().expect("text").replace('\u{a0}', " ")).collect();
        assert_eq!(labels, (1..=40).map(|n| format!("bar {n}")).collect::<Vec<_>>(), "{name}");
        assert_eq!((panel("forty", "scrolls"), panel("turned_bar", "scrolls")), (&json!(true), &json!(false)), "{name}");
        // The word of `watershed status` and SHOW PIPELINES.
        assert_eq!(view["health_words"], json!(["Pipelines", "Behind", "Lag", "Set aside"]), "{name}");
    }
    // The server has gone: nothing may look as if it were there.
    let outage = &views["outage"];
    assert!(outage["down"].as_str().is_some_and(|said| said.starts_with("No answer from the server since ")), "{outage}");
    assert!(outage["health_class"].as_str().is_some_and(|class| class.contains("old")), "{outage}");
    assert!(outage["fresh"].as_str().is_some_and(|class| class.contains("bad")), "{outage}");
    let aged = outage["panels"]
        .as_object()
        .expect("panels")
        .values()
        .filter(|panel| panel["age"].as_str().is_some_and(|age| age.starts_with("as of ")));
    assert!(aged.count() > 0, "{outage}");
}

#[test]
fn colours_belong_to_names_and_a_slow_panel_holds_up_no_other() {
    let names = "(VALUES ('amsterdam', 1), ('berlin', 2), ('london', 3), ('paris', 4)) AS t(city, n)";
    let line = |position: u8| {
        format!(
            "CREATE PANEL line_panel WITH (title = 'Line', chart = 'line', x = 'at', y = 'n', series = 'city', position = {position}) AS
         SELECT city, n, to_timestamp_seconds(value * 60) AS at FROM {names} CROSS JOIN generate_series(1, 3);"
        )
    };
    let bar = |position: u8| {
        format!(
            "CREATE PANEL bar_panel WITH (title = 'Bar', chart = 'bar', x = 'city', y = 'n', series = 'city', position = {position}) AS
         SELECT city, n FROM {names} WHERE city > 'b' ORDER BY city;"
        )
    };
    let slow = "CREATE PANEL slow WITH (title = 'Slow', chart = 'table', position = 1) AS
         SELECT max(a.value * b.value % 1003) AS n FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 100000000) b;";
    let seen = |definitions: String| {
        let folder = folder("colours-");
        let mut server = panels(folder.path(), &definitions);
        looked_at(address_said(&mut server), folder.path(), None)
    };
    let (one, other) = (seen(line(1) + &bar(2)), seen(bar(1) + &line(2) + slow));
    for name in ["desktop-light", "desktop-dark"] {
        let panel = |views: &Value, panel: &str, what: &str| views[name]["panels"][panel][what].clone();
        let lines = panel(&one, "line_panel", "lines");
        assert_eq!(lines.as_object().map(serde_json::Map::len), Some(4), "{lines}");
        assert_eq!(lines, panel(&other, "line_panel", "lines"), "{name}: colours depend on what answers first");
        let bars = serde_json::json!([lines["berlin"], lines["london"], lines["paris"]]);
        assert_eq!((&panel(&one, "bar_panel", "bars"), &panel(&other, "bar_panel", "bars")), (&bars, &bars), "{name}");
    }
    // The first to look: those after it get at once what became of the slow one.
    let answers = |panel: &str| other["desktop-light"]["panels"][panel]["answers"].as_u64().expect("a number");
    assert!(answers("slow") == 1 && answers("line_panel") >= 3, "{}, {}", answers("slow"), answers("line_panel"));
}

/// A number of `/metrics`, summed over its labels.
fn metric(address: SocketAddr, name: &str) -> Option<f64> {
    let text = try_get(address, "/metrics").filter(|answer| answer.status == 200)?.body;
    let values = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name)).filter_map(|line| line.rsplit(' ').next());
    let numbers: Vec<f64> = values.map(|value| value.parse().expect("a number")).collect();
    (!numbers.is_empty()).then(|| numbers.iter().sum())
}

#[test]
fn the_demo_has_servers_which_take_nothing_from_its_pipelines() {
    let folder = folder("demo-http-");
    let warehouse = folder.path().join("warehouse").display().to_string();
    let flight = format!("127.0.0.1:{}", free_port());
    let demo = ["demo", "--no-prompt", "--warehouse", &warehouse, "--http-address", "127.0.0.1:0", "--flight", &flight];
    // What `ulimit -n` is on most machines.
    let mut demo = Watershed::new(demo).env("HOME", folder.path().display().to_string()).with_open_files(1024).start();
    let address = address_said(&mut demo);
    assert!(demo.output().contains(&format!("Flight SQL grpc://{flight}\n")), "{}", demo.output());
    assert_eq!(get(address, "/healthz").status, 200);
    let details = || String::new();
    let limit = Duration::from_secs(60);
    wait_for("all pipelines run", limit, details, || try_get(address, "/readyz").filter(|answer| answer.status == 200));
    let rows = wait_for("rows are committed", limit, details, || {
        metric(address, "watershed_pipeline_commits_total").filter(|&commits| commits >= 10.0)?;
        metric(address, "watershed_pipeline_rows_out_total").filter(|&rows| rows > 0.0)
    });
    wait_for("more rows", limit, details, || metric(address, "watershed_pipeline_rows_out_total").filter(|&more| more > rows));
    assert!(metric(address, "watershed_pipeline_commit_seconds_count") >= Some(10.0));
    assert!(metric(address, "watershed_stage_rows_in_total") > Some(0.0));
    wait_for("jobs run", limit, details, || metric(address, "watershed_job_runs_total").filter(|&runs| runs >= 1.0));
    let states = sql(address, "SELECT DISTINCT state FROM system.pipelines").json();
    assert_eq!(states, json!([{"state": "running"}]));
    let asked = ["shell", "--url", &format!("grpc://{flight}"), "--output", "csv", "-c", "SELECT count(*) > 0 FROM bronze.ride_events"];
    assert_eq!(Watershed::new(asked).succeeds().lines().last(), Some("true"));

    // More connections that say nothing, or half of a request, than the process may have files.
    let restarts = || metric(address, "watershed_pipeline_restarts_total");
    let before = restarts();
    crate::watershed::may_open(4096);
    let doors = [address, address, flight.parse().expect("an address")];
    let (mut silent, mut refused) = (Vec::new(), 0);
    for (n, door) in doors.into_iter().cycle().enumerate().take(1400) {
        match TcpStream::connect_timeout(&door, Duration::from_secs(1)) {
            Ok(mut connection) => {
                if n % 2 == 0 {
                    let _ = connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: ");
                }
                silent.push(connection);
            }
            Err(_) => refused += 1,
        }
        assert!(refused < 20, "doors that nobody opens: {} connections were made", silent.len());
    }
    assert!(silent.len() >= 1100, "only {} connections were made", silent.len());
    let rows = wait_for("metrics beside them", limit, details, || metric(address, "watershed_pipeline_rows_out_total"));
    wait_for("more rows beside them", limit, details, || metric(address, "watershed_pipeline_rows_out_total").filter(|&more| more > rows));
    wait_for("all pipelines run", limit, details, || try_get(address, "/readyz").filter(|answer| answer.status == 200));
    assert_eq!(Some(wait_for("metrics beside them", limit, details, restarts)), before, "a pipeline failed and began again");
    drop(silent);
    demo.signal(libc::SIGINT);
    let finished = demo.wait(Duration::from_secs(90));
    assert!(finished.status.success(), "{}", finished.output());
}

#[test]
fn serving_beyond_this_machine_is_refused_with_the_reason() {
    let folder = folder("serve-");
    let warehouse = folder.path().join("warehouse").display().to_string();
    let refused = Watershed::new(["serve", "--warehouse", &warehouse, "--http-address", "0.0.0.0:0"]).run();
    assert!(!refused.status.success() && refused.stderr.contains("no access control yet"), "{}", refused.output());
    let wrong = Watershed::new(["serve", "--warehouse", &warehouse, "--http-address", "somewhere"]).run();
    assert!(!wrong.status.success() && wrong.stderr.contains("is not an address"), "{}", wrong.output());
}
