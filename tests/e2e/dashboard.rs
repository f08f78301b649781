//! The dashboard: every panel of `sql/` answered over HTTP and drawn by a real browser, in both colour schemes, on a desk and on a phone.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::http::{get, sql, try_get};
use crate::simulated::over_the_embedded_broker;
use crate::tools::{folder, tool, wait_for};
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
fn looked_at(address: SocketAddr, folder: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/browser.py");
    let python = tool("python").join("bin/python");
    let output = Command::new(python).arg(script).arg(tool("chromium")).arg(format!("http://{address}/")).arg(folder).output();
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

    let views = looked_at(address, folder.path());
    // For a person to look at: kept when asked for.
    if let Some(keep) = std::env::var_os("KEEP_SCREENSHOTS") {
        std::fs::create_dir_all(&keep).expect("a folder");
        for entry in std::fs::read_dir(folder.path()).expect("a folder").flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "png") {
                std::fs::copy(entry.path(), Path::new(&keep).join(entry.file_name())).expect("a copy");
            }
        }
    }
    check_views(&views);
}

/// A number of `/metrics`, summed over its labels.
fn metric(address: SocketAddr, name: &str) -> Option<f64> {
    let text = try_get(address, "/metrics").filter(|answer| answer.status == 200)?.body;
    let values = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name)).filter_map(|line| line.rsplit(' ').next());
    let numbers: Vec<f64> = values.map(|value| value.parse().expect("a number")).collect();
    (!numbers.is_empty()).then(|| numbers.iter().sum())
}

#[test]
fn the_demo_has_a_dashboard_and_its_pipelines_can_be_scraped() {
    let folder = folder("demo-http-");
    let warehouse = folder.path().join("warehouse").display().to_string();
    let demo = ["demo", "--no-prompt", "--warehouse", &warehouse, "--http-address", "127.0.0.1:0"];
    let mut demo = Watershed::new(demo).env("HOME", folder.path().display().to_string()).start();
    let address = address_said(&mut demo);
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
    assert_eq!(states, serde_json::json!([{"state": "running"}]));
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
