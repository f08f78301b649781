//! The binary: what was typed, turned into calls of the crates below. Only this crate reads the environment.
//!
//! | question | file |
//! |---|---|
//! | what a subcommand does | the file of its name |
//! | which settings there are, and which value is in force | `config.rs`; which environment variables are meant: `environment.rs` |
//! | what `apply` takes for a change | `project.rs`, `changes.rs` |
//! | which servers there are, and where they listen | `serve.rs` |
//! | how pipelines and jobs are shown while they run here | `live.rs`, `board.rs` |
//! | which tables `system` has, what `SHOW` lists | `system/` |
//! | what several commands share | `flags.rs`, `terminal.rs`, `signals.rs` |
//! | what is done to tables in the background | `upkeep.rs`; by hand: `compact.rs`, `vacuum.rs` |
//! | what a monitoring system learns of pipelines | `telemetry.rs` |
//! | where the demo's events come from, and whether they all arrived | `feed.rs`, `reconcile.rs` |
//! | how an error is said | `report.rs`; all other words: `say.rs` |

// `println!` panics when its reader has gone.
#![deny(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod say;

mod apply;
mod batch;
mod board;
mod broker;
mod changes;
mod compact;
mod completions;
mod config;
mod demo;
mod drop;
mod environment;
mod fate;
mod feed;
mod flags;
mod foreign;
mod left;
mod live;
mod log;
mod loops;
mod man;
mod panels;
mod project;
mod rebuild;
mod reconcile;
mod report;
mod run;
mod serve;
mod shell;
mod signals;
mod simulate;
mod status;
mod stored;
mod stream;
mod system;
mod telemetry;
mod terminal;
mod training_set;
#[cfg(test)]
mod trial;
mod upkeep;
mod vacuum;
mod warehouse;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use watershed_dialect::DEEP_STACK_BYTES;

use crate::config::Config;
use crate::terminal::{ColorChoice, Terminal};

/// Gives memory back that many threads took in turns: docs/decisions/0015-jemalloc.md.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Kafka event streams through SQL into Delta tables, exactly once, in one binary.
#[derive(Debug, Parser)]
#[command(name = "watershed", version, max_term_width = 110, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every subcommand, below its own.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
struct Global {
    /// Read settings from this file instead of ./watershed.toml
    #[arg(long, global = true, value_name = "FILE", env = "WATERSHED_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Where tables live: a folder, or s3://bucket/prefix
    #[arg(long, global = true, value_name = "URL")]
    warehouse: Option<String>,
    /// What is logged, for example debug or info,watershed_stream=trace
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// Append the log to this file instead of standard error
    #[arg(long, global = true, value_name = "FILE")]
    log_file: Option<String>,
    /// text, or json: one object a line
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Colours: always, never, or auto: on a terminal unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_possible_values = true)]
    color: ColorChoice,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Apply(apply::Args),
    Stream(stream::Args),
    Run(run::Args),
    Batch(batch::Args),
    TrainingSet(training_set::Args),
    Serve(serve::Args),
    Shell(shell::Args),
    Status(status::Args),
    Simulate(Box<simulate::Args>),
    Broker(broker::Args),
    Compact(compact::Args),
    Vacuum(vacuum::Args),
    Drop(drop::Args),
    Rebuild(rebuild::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// What every subcommand gets.
struct Context {
    config: Config,
    terminal: Terminal,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    it failed; standard error says what, why and what to do
  2    the command line or the configuration is wrong
  3    the demo's rows do not add up
  130  cut short by Ctrl-C (a pipeline that could commit and stop ends with 0)";

fn main() -> ExitCode {
    let typed = whole_command().get_matches();
    let cli = Cli::from_arg_matches(&typed).unwrap_or_else(|wrong| wrong.exit());
    let terminal = Terminal::look(cli.global.color);
    let code = match load(&cli) {
        Err(error) => {
            report::error(&error, &terminal);
            2
        }
        Ok(config) => {
            for remark in &config.remarks {
                tell!("{} {remark}", terminal::paint("warning:", "1;33", terminal.color_error()));
            }
            run(cli.command, Context { config, terminal })
        }
    };
    ExitCode::from(code)
}

/// The command line with all that its help says.
fn whole_command() -> clap::Command {
    Cli::command().after_long_help(format!("{}\n{EXIT_CODES}", config::help()))
}

fn load(cli: &Cli) -> anyhow::Result<Config> {
    let mut flags = vec![
        ("warehouse", "--warehouse", cli.global.warehouse.clone()),
        ("log.filter", "--log", cli.global.log.clone()),
        ("log.file", "--log-file", cli.global.log_file.clone()),
        ("log.format", "--log-format", cli.global.log_format.clone()),
    ];
    match &cli.command {
        Command::Demo(args) => flags.extend(args.settings()),
        Command::Stream(args) => flags.extend(args.settings()),
        Command::Batch(args) => flags.extend(args.settings()),
        Command::Serve(args) => flags.extend(args.settings()),
        Command::Simulate(args) => flags.extend(args.settings()),
        _ => {}
    }
    Config::load(cli.global.config.as_deref(), environment()?, &flags)
}

/// All variables that are text. Others are no concern of ours, unless they are settings.
fn environment() -> anyhow::Result<Vec<(String, String)>> {
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => variables.push((name, value)),
            (Ok(name), Err(_)) if matches!(environment::read(&name, ""), environment::Variable::Setting(_)) => {
                anyhow::bail!("the value of the environment variable {name} is not text in UTF-8")
            }
            _ => {}
        }
    }
    Ok(variables)
}

fn run(command: Command, context: Context) -> u8 {
    // Failpoints are set by the tests, through the environment; the guard keeps them in force.
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    let terminal = context.terminal;
    let runtime = match tokio::runtime::Builder::new_multi_thread().thread_stack_size(DEEP_STACK_BYTES).enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => {
            report::error(&anyhow::Error::new(why).context("cannot start the runtime"), &terminal);
            return 1;
        }
    };
    let result = runtime.block_on(async {
        match command {
            Command::Completions(args) => completions::run(&args, &mut Cli::command()),
            Command::Man(args) => man::run(&args, whole_command()),
            // The demo keeps its log in its own folder, which it must make first.
            Command::Demo(args) => demo::run(args, context).await,
            Command::Apply(args) => log::started(&context, apply::run(args, &context)).await,
            Command::Run(args) => log::started(&context, run::run(args, &context)).await,
            Command::Batch(args) => log::started(&context, batch::run(args, &context)).await,
            Command::TrainingSet(args) => log::started(&context, training_set::run(args, &context)).await,
            Command::Stream(args) => log::started(&context, stream::run(args, &context)).await,
            Command::Serve(args) => log::started(&context, serve::run(args, &context)).await,
            Command::Shell(args) => log::started(&context, shell::run(args, &context)).await,
            Command::Status(args) => log::started(&context, status::run(args, &context)).await,
            Command::Simulate(args) => log::started(&context, simulate::run(*args, &context)).await,
            Command::Broker(args) => log::started(&context, broker::run(args, &context)).await,
            Command::Compact(args) => log::started(&context, compact::run(args, &context)).await,
            Command::Vacuum(args) => log::started(&context, vacuum::run(args, &context)).await,
            Command::Drop(args) => log::started(&context, drop::run(args, &context)).await,
            Command::Rebuild(args) => log::started(&context, rebuild::run(args, &context)).await,
        }
    });
    // Tasks that hang in a blocking call must not keep a finished program alive.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => {
            report::error(&error, &terminal);
            1
        }
    }
}
