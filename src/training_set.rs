//! `watershed training-set`: facts with the features as they were at their time, as a Parquet file.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use watershed_batch::{TrainingSet, versions};
use watershed_lake::TableName;
use watershed_query::shell::grouped;

use crate::{Context, warehouse};

/// Join facts with the features that were known at their time, to train a model on
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each row of the facts gets the newest row of the features with the same key that is not later than it: nothing in the file \
knows the future. Of features over windows, the time at which they are known is the window's end. Both tables are held in \
memory, at one version each.

Examples:
  watershed training-set --facts bronze.payments --features gold.payments_by_minute --key city,currency \\
      --time event_time --feature-time window_end --out payments.parquet")]
pub struct Args {
    /// The rows to learn from
    #[arg(long, value_name = "TABLE", alias = "labels")]
    facts: TableName,
    /// Features by key and time
    #[arg(long, value_name = "TABLE")]
    features: TableName,
    /// The columns, of both tables, that say whose features they are
    #[arg(long, value_name = "COLUMN", value_delimiter = ',', required = true)]
    key: Vec<String>,
    /// When a fact happened
    #[arg(long, value_name = "COLUMN")]
    time: String,
    /// When a row of the features became known [default: as --time]
    #[arg(long, value_name = "COLUMN")]
    feature_time: Option<String>,
    /// Take no features of the very moment of the fact
    #[arg(long)]
    strict: bool,
    /// The Parquet file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Writes the file.
pub async fn run(args: Args, context: &Context) -> Result<u8> {
    let warehouse = warehouse::open(&context.config).await?;
    let runner = warehouse::job_runner(&context.config, warehouse)?;
    let feature_time = args.feature_time.unwrap_or_else(|| args.time.clone());
    let set =
        TrainingSet { facts: args.facts, features: args.features, keys: args.key, time: args.time, feature_time, strict: args.strict };
    let made = set.write(&runner, &args.out).await.context("cannot make the training set")?;
    say!(
        "{}: {} rows, {} of them with features, {} columns, {} bytes, from {}",
        args.out.display(),
        grouped(made.rows as usize),
        grouped(made.matched as usize),
        made.columns,
        grouped(made.bytes as usize),
        versions(&made.read),
    );
    if made.without_time > 0 {
        say!("{} facts without a time are left out", grouped(made.without_time as usize));
    }
    Ok(0)
}
