//! `UNION ALL` in streams: which can run, and how its parts are read.
//!
//! Rows of all parts are one stream: what follows goes by the event time of each part's own source. Parts that compute row by row may read one source;
//! it is read once.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{LogicalPlan, Union};
use watershed_functions::deduplicate::Deduplicate;
use watershed_functions::window::WindowAssign;

use crate::SqlError;
use crate::streamable::{node_of, placed};

/// The parts of a union, those of unions in it among them, in the order of the text.
pub fn parts(union: &Union) -> Vec<&LogicalPlan> {
    let mut all = Vec::new();
    for input in &union.inputs {
        match input.as_ref() {
            LogicalPlan::Union(inner) => all.extend(parts(inner)),
            other => all.push(other),
        }
    }
    all
}

/// The source that a part computes row by row from; `None` if it does more.
pub fn only_source(part: &LogicalPlan) -> Option<String> {
    match part {
        LogicalPlan::TableScan(scan) => Some(scan.table_name.table().to_owned()),
        LogicalPlan::Projection(projection) => only_source(&projection.input),
        LogicalPlan::Filter(filter) => only_source(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => only_source(&alias.input),
        _ => None,
    }
}

/// The sources that a plan reads, each as often as it is named.
pub fn sources_of(plan: &LogicalPlan) -> Vec<String> {
    let mut names = Vec::new();
    let _ = plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            names.push(scan.table_name.table().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    names
}

/// Fails, with the reason, if a union cannot run as a stream. `above` is a step over it that goes by time.
pub(crate) fn check(union: &Union, above: Option<&str>) -> Result<(), SqlError> {
    let parts = parts(union);
    if let Some(above) = above {
        for part in &parts {
            let Some(within) = keeper(part) else { continue };
            let error = SqlError::new(format!("{above} over a UNION ALL with {within} in it cannot run as a stream yet"));
            let hint = match within.as_str() {
                "DEDUPLICATE" => {
                    "unite the rows first: DEDUPLICATE(TABLE (SELECT … UNION ALL SELECT …) PARTITION BY key, DESCRIPTOR(event_time), …)"
                }
                "OVER" => "unite the rows first, and put OVER into a query over the UNION ALL",
                "JOIN" => "unite the rows first, and join the UNION ALL",
                _ => {
                    "unite the rows first: FROM TUMBLE(TABLE (SELECT … UNION ALL SELECT …), DESCRIPTOR(event_time), …) GROUP BY window_start, …"
                }
            };
            return Err(placed(error.hint(hint), part));
        }
    }
    let mut readers: BTreeMap<String, Vec<&LogicalPlan>> = BTreeMap::new();
    for part in parts {
        // A part may read a source several times by itself.
        let names: BTreeSet<String> = sources_of(part).into_iter().collect();
        for name in names {
            readers.entry(name).or_default().push(part);
        }
    }
    for (name, parts) in readers {
        if parts.len() > 1
            && let Some(part) = parts.iter().find(|part| only_source(part).is_none())
        {
            let error = SqlError::new(format!(
                "source '{name}' is read by several parts of a UNION ALL, and not all of them compute row by row"
            ))
            .detail("it is read once for all of them, and steps that keep state need a stream of their own")
            .hint("put the UNION ALL of its parts below these steps, or make a streaming table of each part and unite them when you query");
            return Err(placed(error, part));
        }
    }
    Ok(())
}

/// The name of a step in a plan that keeps state, or hands rows on by time.
pub(crate) fn keeper(plan: &LogicalPlan) -> Option<String> {
    let mut found = None;
    let _ = plan.apply(|node| {
        found = match node {
            LogicalPlan::Aggregate(_) => Some("GROUP BY".to_owned()),
            LogicalPlan::Window(_) => Some("OVER".to_owned()),
            LogicalPlan::Join(_) => Some("JOIN".to_owned()),
            LogicalPlan::Extension(extension) => match (node_of::<WindowAssign>(extension), node_of::<Deduplicate>(extension)) {
                (Some(assign), _) => Some(assign.kind.name().to_owned()),
                (None, Some(_)) => Some("DEDUPLICATE".to_owned()),
                (None, None) => None,
            },
            _ => None,
        };
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}
