//! Connections of the embedded broker: frames in, answers out, one request of a connection after the other.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tansu_sans_io::{Body, ErrorCode, Frame, Header};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::answers::{self, VERSIONS};
use super::catalog::Catalog;
use super::guests::{Guest, Guests, Limits};
use super::records;

/// Larger frames are not read: the connection is closed.
const FRAME_BYTES_MAX: usize = 128 * 1024 * 1024;

/// When no connection can be accepted (no file handles left, say), this long passes before the next attempt.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// How often old records are deleted and offsets saved.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_millis(500);

const API_VERSIONS_KEY: i16 = 18;

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
    let mut frame = vec![0; size + 4];
    frame[..4].copy_from_slice(&(size as u32).to_be_bytes());
    reader.read_exact(&mut frame[4..]).await?;
    Ok(Bytes::from(frame))
}

async fn in_time<T>(limit: Duration, what: &str, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {} s", limit.as_secs_f64()));
    timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}

/// The answer to one frame; `None` if the client wants none.
pub(super) async fn answer(catalog: &Catalog, frame: Bytes, port: u16) -> io::Result<Option<Bytes>> {
    if frame.len() < 12 {
        return Err(io::Error::other("a frame without a header"));
    }
    let key = i16::from_be_bytes([frame[4], frame[5]]);
    let version = i16::from_be_bytes([frame[6], frame[7]]);
    let correlation_id = i32::from_be_bytes([frame[8], frame[9], frame[10], frame[11]]);
    let header = Header::Response { correlation_id };
    let known = VERSIONS.iter().any(|&(known, min, max)| known == key && (min..=max).contains(&version));
    if !known && key == API_VERSIONS_KEY {
        // So a client that is newer than we are learns which versions it may use; by convention in the oldest one.
        let body = answers::api_versions(ErrorCode::UnsupportedVersion).into();
        return Frame::response(header, body, key, 0).map(Some).map_err(io::Error::other);
    }
    if !known {
        return Err(io::Error::other(format!("request {key} in version {version} is not supported")));
    }
    // Bytes of strangers: what the codec has not thought of must cost no more than this connection.
    let decoded = catch_unwind(AssertUnwindSafe(|| Frame::request_from_bytes(frame)));
    let request = decoded.map_err(|_| io::Error::other("a frame that cannot be read"))?.map_err(io::Error::other)?;
    let body: Body = match request.body {
        Body::ProduceRequest(request) => {
            let wants_answer = request.acks != 0;
            let response = records::produce(catalog, request);
            if !wants_answer {
                return Ok(None);
            }
            response.into()
        }
        Body::FetchRequest(request) => records::fetch(catalog, request).await.into(),
        Body::ListOffsetsRequest(request) => records::list_offsets(catalog, request).into(),
        Body::MetadataRequest(request) => answers::metadata(catalog, port, request).into(),
        Body::OffsetCommitRequest(request) => answers::offset_commit(catalog, request).into(),
        Body::OffsetFetchRequest(request) => answers::offset_fetch(catalog, request).into(),
        Body::FindCoordinatorRequest(request) => answers::find_coordinator(port, request).into(),
        Body::ApiVersionsRequest(_) => answers::api_versions(ErrorCode::None).into(),
        Body::CreateTopicsRequest(request) => answers::create_topics(catalog, request).into(),
        Body::DeleteTopicsRequest(request) => answers::delete_topics(catalog, request).into(),
        Body::DescribeConfigsRequest(request) => answers::describe_configs(catalog, request).into(),
        Body::InitProducerIdRequest(request) => answers::init_producer_id(&request).into(),
        _ => return Err(io::Error::other(format!("request {key} is not supported"))),
    };
    Frame::response(header, body, key, version).map(Some).map_err(io::Error::other)
}
