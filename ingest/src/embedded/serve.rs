//! Connections of the embedded broker: frames in, answers out, one request of a connection after the other.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tansu_sans_io::{Body, ErrorCode, Frame, Header};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::answers::{self, VERSIONS};
use super::catalog::Catalog;
use super::records;

/// Larger frames are not read: the connection is closed.
const FRAME_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Connections served at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1000;

/// How often old records are deleted and offsets saved.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_millis(500);

const API_VERSIONS_KEY: i16 = 18;

/// Serves until `stop` turns true.
pub(super) async fn serve(catalog: Arc<Catalog>, listener: TcpListener, address: SocketAddr, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut housekeeping = tokio::time::interval(HOUSEKEEPING_INTERVAL);
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(catalog.clone(), stream, address.port()));
                }
                Err(error) => debug!("connection not accepted: {error}"),
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

async fn connection(catalog: Arc<Catalog>, stream: TcpStream, port: u16) {
    if let Err(error) = converse(&catalog, stream, port).await
        && error.kind() != io::ErrorKind::UnexpectedEof
    {
        debug!("connection closed: {error}");
    }
}

async fn converse(catalog: &Catalog, stream: TcpStream, port: u16) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::with_capacity(64 * 1024, reader);
    loop {
        let size = reader.read_u32().await? as usize;
        if size > FRAME_BYTES_MAX {
            return Err(io::Error::other(format!("a frame of {size} bytes is too large")));
        }
        let mut frame = vec![0; size + 4];
        frame[..4].copy_from_slice(&(size as u32).to_be_bytes());
        reader.read_exact(&mut frame[4..]).await?;
        if let Some(answer) = answer(catalog, Bytes::from(frame), port).await? {
            writer.write_all(&answer).await?;
        }
    }
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
