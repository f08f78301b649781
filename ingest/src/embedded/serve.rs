//! Connections of the embedded broker: frames in, answers out, one request of a connection after the other.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::answers;
use super::catalog::Catalog;
use super::guests::{Guest, Guests, Limits};
use super::messages::{ApiVersionsRequest, MetadataRequest, ProduceRequest};
use super::protocol::{ErrorCode, Header, Kind, VERSIONS};
use super::records;

/// Larger frames are not read: the connection is closed.
const FRAME_BYTES_MAX: usize = 128 * 1024 * 1024;

/// When no connection can be accepted (no file handles left, say), this long passes before the next attempt.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// How often old records are deleted and offsets saved.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_millis(500);

/// Serves until `stop` turns true.
pub(super) async fn serve(catalog: Arc<Catalog>, listener: TcpListener, limits: Limits, mut stop: watch::Receiver<bool>) {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let guests = Arc::new(Guests::new(limits));
    let mut connections = JoinSet::new();
    let mut housekeeping = tokio::time::interval(HOUSEKEEPING_INTERVAL);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => if let Some(guest) = guests.enter(peer) {
                    connections.spawn(connection(catalog.clone(), stream, guest, port));
                },
                Err(error) => {
                    warn!("the embedded broker cannot accept a connection: {error}");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            _ = housekeeping.tick() => {
                #[expect(clippy::disallowed_methods, reason = "compared with times of the file system")]
                let now = SystemTime::now();
                if let Err(error) = catalog.delete_old(now).and_then(|()| catalog.save()) {
                    warn!("embedded broker cannot tidy its folder: {error}");
                }
            }
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    // Whoever is in the middle of a request sees the connection end and asks the next broker.
    connections.shutdown().await;
    if let Err(error) = catalog.save() {
        warn!("embedded broker cannot save its topics: {error}");
    }
}

async fn connection(catalog: Arc<Catalog>, stream: TcpStream, guest: Guest, port: u16) {
    let ended = tokio::select! {
        ended = converse(&catalog, stream, &guest, port) => ended,
        () = guest.must_leave() => {
            guest.turned_away("another needed its place, and it has asked nothing for longest");
            return;
        }
    };
    match ended {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => guest.turned_away(&error.to_string()),
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => debug!("connection closed: {error}"),
        Ok(()) | Err(_) => {}
    }
}

/// Answers until the client leaves, or is silent for too long.
async fn converse(catalog: &Catalog, stream: TcpStream, guest: &Guest, port: u16) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let Limits { idle_max, transfer_max, .. } = guest.limits();
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::with_capacity(64 * 1024, reader);
    loop {
        guest.is_at_work(false);
        let Ok(there) = timeout(idle_max, reader.fill_buf()).await else {
            debug!(peer = %guest.peer, "connection closed: it has asked nothing for {} s", idle_max.as_secs());
            return Ok(());
        };
        if there?.is_empty() {
            return Ok(());
        }
        guest.is_at_work(true);
        let frame = in_time(transfer_max, "its request did not come", read_frame(&mut reader)).await?;
        if let Some(answer) = answer(catalog, frame, port).await? {
            in_time(transfer_max, "it did not take its answer", writer.write_all(&answer)).await?;
        }
    }
}

async fn read_frame(reader: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Bytes> {
    let size = reader.read_u32().await? as usize;
    if size > FRAME_BYTES_MAX {
        return Err(io::Error::other(format!("a frame of {size} bytes is too large")));
    }
    // Memory is taken as bytes come, not as many as somebody says will come.
    let mut frame = Vec::new();
    reader.take(size as u64).read_to_end(&mut frame).await?;
    if frame.len() < size { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(Bytes::from(frame)) }
}

async fn in_time<T>(limit: Duration, what: &str, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {} s", limit.as_secs_f64()));
    timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}

/// The answer to one request, with its length in front; `None` if the client wants none. An error ends the connection.
pub(super) async fn answer(catalog: &Catalog, request: Bytes, port: u16) -> io::Result<Option<Bytes>> {
    let (header, rest) = Header::read(request).map_err(io::Error::other)?;
    let Some(served) = header.served() else {
        let Some(oldest) = VERSIONS.into_iter().find(|served| served.kind == Kind::ApiVersions && header.key == served.kind as i16) else {
            return Err(io::Error::other(format!("request {} in version {} is not supported", header.key, header.version)));
        };
        // So a client that is newer than we are learns which versions it may use; by convention in the oldest one.
        let header = Header { version: 0, ..header };
        return Ok(Some(header.answer(oldest, &answers::api_versions(ErrorCode::UnsupportedVersion))));
    };
    /// Reads what is wanted, has it done, and writes what came of it.
    macro_rules! done {
        ($request:ident => $answer:expr) => {{
            let $request = header.request(served, rest).map_err(io::Error::other)?;
            Ok(Some(header.answer(served, &$answer)))
        }};
    }
    match served.kind {
        Kind::Produce => {
            let request: ProduceRequest = header.request(served, rest).map_err(io::Error::other)?;
            let wants_answer = request.acks != 0;
            let response = records::produce(catalog, request);
            Ok(wants_answer.then(|| header.answer(served, &response)))
        }
        Kind::Fetch => done!(request => records::fetch(catalog, request).await),
        Kind::ListOffsets => done!(request => records::list_offsets(catalog, request)),
        Kind::Metadata => {
            let mut request: MetadataRequest = header.request(served, rest).map_err(io::Error::other)?;
            // In the oldest version nothing means all.
            if header.version == 0 && request.topics.as_ref().is_some_and(Vec::is_empty) {
                request.topics = None;
            }
            Ok(Some(header.answer(served, &answers::metadata(catalog, port, request))))
        }
        Kind::OffsetCommit => done!(request => answers::offset_commit(catalog, request)),
        Kind::OffsetFetch => done!(request => answers::offset_fetch(catalog, request)),
        Kind::FindCoordinator => done!(request => answers::find_coordinator(port, request)),
        Kind::ApiVersions => {
            let _: ApiVersionsRequest = header.request(served, rest).map_err(io::Error::other)?;
            Ok(Some(header.answer(served, &answers::api_versions(ErrorCode::None))))
        }
        Kind::CreateTopics => done!(request => answers::create_topics(catalog, request)),
        Kind::DeleteTopics => done!(request => answers::delete_topics(catalog, request)),
        Kind::DescribeConfigs => done!(request => answers::describe_configs(catalog, request)),
        Kind::InitProducerId => done!(request => answers::init_producer_id(&request)),
    }
}
