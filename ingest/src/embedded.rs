//! A Kafka broker in this process, for the demo, for trying things out and for tests: no Java, no set-up, loopback only.
//!
//! It speaks enough of Kafka's protocol for producers, idempotent ones included, for consumers that
//! choose their partitions, and for making topics. It has one node, no replicas, no transactions, no consumer-group balancing (offsets of a
//! group can be committed and fetched), no TLS and no users.
//!
//! In a folder it keeps topics, records and offsets over restarts, also after being killed: what was acknowledged has been handed to the
//! operating system, though not synced to disk. Old records are deleted by whole files, oldest first over all partitions, when all together
//! pass a budget, and past an age if one is set. The low watermark rises with them, as on any Kafka, and a reader that lags more gets
//! "offset out of range", never a silent gap.
//!
//! ```text
//!  serve.rs    connections: frames in, answers out    guests.rs  how many, and for how long
//!  records.rs  Produce, Fetch, ListOffsets         answers.rs  everything else
//!  catalog.rs  topics, group offsets, retention    log.rs      a partition's files     producers.rs  sequence numbers
//!  protocol.rs which requests in which versions    messages.rs their fields            wire.rs       fields as bytes
//!  batch.rs    headers and checksums of batches
//! ```

mod answers;
mod batch;
mod catalog;
mod guests;
mod log;
mod messages;
mod producers;
mod protocol;
mod records;
mod serve;
#[cfg(test)]
mod tests;
mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use watershed_message::Message;

use self::catalog::Catalog;
use self::guests::Limits;
use crate::error::{IngestError, Result};

/// How an embedded broker is to run.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddedSettings {
    /// Where it keeps topics and records; a temporary folder, deleted when it stops, if none is given.
    pub folder: Option<PathBuf>,
    /// The port on 127.0.0.1; a free one if none is given.
    pub port: Option<u16>,
    /// Bytes of records, over all topics, past which the oldest are deleted.
    pub retention_bytes: u64,
    /// Age past which records are deleted; `None` keeps them for as long as there is room.
    pub retention: Option<Duration>,
}

impl Default for EmbeddedSettings {
    /// A temporary folder, a free port, 1 GiB, no age.
    fn default() -> Self {
        Self { folder: None, port: None, retention_bytes: 1024 * 1024 * 1024, retention: None }
    }
}

/// A running broker; stops when dropped.
pub struct EmbeddedBroker {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    _temporary: Option<TempDir>,
}

impl EmbeddedBroker {
    /// Starts a broker on threads of its own; it can be reached when this returns. Blocks while a folder's records are looked through.
    pub fn start(settings: &EmbeddedSettings) -> Result<Self> {
        Self::start_within(settings, Limits::default())
    }

    fn start_within(settings: &EmbeddedSettings, limits: Limits) -> Result<Self> {
        let failed = |doing: &str| {
            let doing = doing.to_string();
            move |error: std::io::Error| {
                let taken = error.kind() == std::io::ErrorKind::AddrInUse;
                let reason = if taken {
                    Message::new("another process has this port").next("stop it, or choose another one (0 takes a free one)")
                } else {
                    error.downcast::<Message>().unwrap_or_else(|error| error.to_string().into())
                };
                IngestError::Embedded { doing, reason }
            }
        };
        let (folder, temporary) = match &settings.folder {
            Some(folder) => (folder.clone(), None),
            None => {
                let temporary = TempDir::with_prefix("watershed-broker-").map_err(failed("making a temporary folder"))?;
                (temporary.path().to_path_buf(), Some(temporary))
            }
        };
        let opening = format!("opening folder '{}'", folder.display());
        let catalog = Catalog::open(folder, settings.retention_bytes, settings.retention).map_err(failed(&opening))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("broker")
            .enable_all()
            .build()
            .map_err(failed("starting threads"))?;
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, settings.port.unwrap_or(0)));
        let listening = format!("listening on {wanted}");
        let listener = runtime.block_on(TcpListener::bind(wanted)).map_err(failed(&listening))?;
        let address = listener.local_addr().map_err(failed(&listening))?;
        let (stop, stopped) = watch::channel(false);
        let run = move || {
            runtime.block_on(serve::serve(Arc::new(catalog), listener, limits, stopped));
            runtime.shutdown_timeout(Duration::from_secs(5));
        };
        let thread = std::thread::Builder::new().name("broker-main".into()).spawn(run).map_err(failed("starting threads"))?;
        Ok(Self { address, stop, thread: Some(thread), _temporary: temporary })
    }

    /// Its address as clients want it: `127.0.0.1:port`.
    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// Stops it and waits until its folder is closed.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been reported already, and there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.shut_down();
    }
}
