//! `watershed serve`: the servers that others query through, and nothing else. The demo starts the same ones beside its pipelines.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Result, bail};
use watershed_lake::Warehouse;
use watershed_message::Message;
use watershed_query::flight::FlightServer;
use watershed_query::http::{HttpLimits, HttpParts, HttpServer, Lake};
use watershed_query::listen::listen;
use watershed_query::{QueryError, ServerCounters, Session};

use crate::config::{Config, SettingFlag};
use crate::signals::{second_ends_at_once, stop_asked};
use crate::telemetry::{Observed, Telemetry, not_ready};
use crate::terminal::paint;
use crate::{Context, warehouse};

/// The setting that says where Flight SQL is served.
pub const FLIGHT_ADDRESS: &str = "serve.flight_address";
/// The setting that says where HTTP is served.
pub const HTTP_ADDRESS: &str = "serve.http_address";

/// Serve the tables: a dashboard and SQL over HTTP; SQL clients: ADBC, JDBC, `watershed shell --url`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Serves whatever the warehouse holds, whoever writes it; runs no pipelines. Ctrl-C stops. Only this machine can connect:
there is no access control yet.

Examples:
  watershed serve --warehouse s3://lake/prod
  watershed serve --flight 127.0.0.1:0        on a free port, which it prints
  watershed shell --url grpc://127.0.0.1:8815
  python3 -c 'import adbc_driver_flightsql.dbapi as f; print(f.connect(\"grpc://127.0.0.1:8815\").adbc_get_objects().read_all())'")]
pub struct Args {
    /// Where Flight SQL listens; port 0 takes a free one [default: the setting serve.flight_address]
    #[arg(long, value_name = "HOST:PORT")]
    flight: Option<String>,
    /// Where HTTP listens; port 0 takes a free one [default: the setting serve.http_address]
    #[arg(long, value_name = "HOST:PORT")]
    http_address: Option<String>,
}

impl Args {
    /// The flags that override settings.
    pub fn settings(&self) -> [SettingFlag; 2] {
        [(FLIGHT_ADDRESS, "--flight", self.flight.clone()), (HTTP_ADDRESS, "--http-address", self.http_address.clone())]
    }
}

/// Serves until stopped.
pub async fn run(_: Args, context: &Context) -> Result<u8> {
    let warehouse = warehouse::open_to_read(&context.config)?;
    let place = warehouse.url().clone();
    let servers = Servers::start(context, warehouse.clone(), Observed::default(), Taken::Fails).await?;
    if servers.is_empty() {
        let why = format!("{FLIGHT_ADDRESS} and {HTTP_ADDRESS} are empty");
        bail!(Message::new("there is nothing to serve").why(why).next("give one an address, or leave it out"));
    }
    warehouse::check_there(&warehouse).await?;
    say!("{} serves {place}\n{}\nCtrl-C stops", paint("Watershed", "1", context.terminal.color_output()), servers.describe().trim_end());
    stop_asked().await;
    second_ends_at_once();
    servers.stop().await;
    Ok(0)
}

/// What to do when an address is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Fail.
    Fails,
    /// Take a free port instead, unless someone chose the address.
    Moves,
}

/// The servers of this process.
pub struct Servers {
    flight: Option<FlightServer>,
    http: Option<HttpServer>,
    /// What did not go as usual.
    remarks: Vec<String>,
}

impl Servers {
    /// Starts those that have an address. `observed` is what else this process does, for its metrics.
    pub async fn start(context: &Context, warehouse: Warehouse, mut observed: Observed, taken: Taken) -> Result<Self> {
        let config = &context.config;
        let session = warehouse::session(config, warehouse.clone())?;
        let mut servers = Self { flight: None, http: None, remarks: Vec::new() };
        if let Some(address) = config.address(FLIGHT_ADDRESS)? {
            let flight = servers.start_flight(config, &session, address, taken).await?;
            observed.flight = Some(Arc::clone(flight.counters()));
            servers.flight = Some(flight);
        }
        if let Some(address) = config.address(HTTP_ADDRESS)? {
            let lake = Lake { warehouse, session };
            servers.http = Some(servers.start_http(config, lake, observed, address, taken).await?);
        }
        Ok(servers)
    }

    async fn start_flight(&mut self, config: &Config, session: &Session, address: SocketAddr, taken: Taken) -> Result<FlightServer> {
        match FlightServer::start(session.clone(), address).await {
            Err(QueryError::Refused { what, .. }) if taken == Taken::Moves && config.chosen(FLIGHT_ADDRESS).is_none() => {
                let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let server = FlightServer::start(session.clone(), anywhere).await?;
                self.remarks.push(format!("{what}, so Flight SQL took a free port"));
                Ok(server)
            }
            started => Ok(started?),
        }
    }

    async fn start_http(
        &mut self,
        config: &Config,
        lake: Lake,
        observed: Observed,
        address: SocketAddr,
        taken: Taken,
    ) -> Result<HttpServer> {
        let limits = http_limits(config)?;
        match http(Some(lake.clone()), observed.clone(), address, limits).await {
            Err(QueryError::Refused { what, .. }) if taken == Taken::Moves && config.chosen(HTTP_ADDRESS).is_none() => {
                self.remarks.push(format!("{what}, so HTTP took a free port"));
                Ok(http(Some(lake), observed, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), limits).await?)
            }
            started => Ok(started?),
        }
    }

    /// True if none was started.
    pub fn is_empty(&self) -> bool {
        self.flight.is_none() && self.http.is_none()
    }

    /// One line for each, and how to use it.
    pub fn describe(&self) -> String {
        let mut out = String::new();
        if let Some(flight) = &self.flight {
            let address = flight.address();
            out.push_str(&format!(
                "  Flight SQL grpc://{address}\n  shell      watershed shell --url grpc://{address}\n  \
                 JDBC       jdbc:arrow-flight-sql://{address}/?useEncryption=false\n"
            ));
        }
        if let Some(http) = &self.http {
            out.push_str(&format!("  dashboard  {}\n", http.url()));
        }
        for remark in &self.remarks {
            out.push_str(&format!("  note       {remark}\n"));
        }
        out
    }

    /// Ends all of them.
    pub async fn stop(self) {
        if let Some(flight) = self.flight {
            flight.stop().await;
        }
    }
}

/// What HTTP may spend, by the settings.
fn http_limits(config: &Config) -> Result<HttpLimits> {
    Ok(HttpLimits {
        queries_max: config.places("serve.http_queries")?,
        query_wait_max: config.limit("serve.http_query_wait")?,
        query_time_max: config.limit("serve.http_query_time")?,
        ..HttpLimits::default()
    })
}

/// Starts HTTP on `address`, to tell the state of this process only.
pub async fn http_without_lake(observed: Observed, address: SocketAddr) -> Result<HttpServer, QueryError> {
    http(None, observed, address, HttpLimits::default()).await
}

async fn http(lake: Option<Lake>, observed: Observed, address: SocketAddr, limits: HttpLimits) -> Result<HttpServer, QueryError> {
    let counters = Arc::new(ServerCounters::default());
    let telemetry = Telemetry::new(observed.clone(), counters.clone());
    let parts = HttpParts {
        lake,
        metrics: Arc::new(move || telemetry.text()),
        not_ready: Arc::new(move || not_ready(&observed)),
        counters,
        limits,
    };
    HttpServer::start(listen(address).await?, parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_http_are_settings_and_by_default_those_of_the_server() {
        let load = |environment: &[(&str, &str)]| {
            let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            http_limits(&Config::load(None, environment, &[]).unwrap()).unwrap()
        };
        assert_eq!(load(&[]), HttpLimits::default());
        let set = load(&[
            ("WATERSHED_SERVE_HTTP_QUERIES", "3"),
            ("WATERSHED_SERVE_HTTP_QUERY_WAIT", "500ms"),
            ("WATERSHED_SERVE_HTTP_QUERY_TIME", "1h"),
        ]);
        let (wait, time) = (std::time::Duration::from_millis(500), std::time::Duration::from_secs(3600));
        assert_eq!(set, HttpLimits { queries_max: 3, query_wait_max: wait, query_time_max: time, ..HttpLimits::default() });
    }

    #[test]
    fn limits_of_http_have_bounds() {
        for (variable, value, said) in [
            ("WATERSHED_SERVE_HTTP_QUERIES", "0", "0 is not between 1 and 10000"),
            ("WATERSHED_SERVE_HTTP_QUERY_WAIT", "", "'' is not a time span"),
            ("WATERSHED_SERVE_HTTP_QUERY_TIME", "25h", "'25h' is longer than a day; give it 24h or less"),
        ] {
            let error = Config::load(None, [(variable.to_owned(), value.to_owned())], &[]).unwrap_err().to_string();
            assert!(error.contains(variable) && error.contains(said), "{error}");
        }
    }
}
