//! Connections that say nothing, too much or in another way, and too many of them.

use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

fn limits(connections: ConnectionLimits) -> HttpLimits {
    HttpLimits { connections, ..HttpLimits::default() }
}

impl Site {
    /// Sends `bytes` and reads all that comes back.
    async fn said(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.server.address()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        answer(stream).await
    }

    async fn silent(&self) -> TcpStream {
        TcpStream::connect(self.server.address()).await.unwrap()
    }
}

/// True if the other end has closed it.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut byte)).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn silent_connections_lock_nobody_out() {
    let site = site(limits(ConnectionLimits { waiting_max: 8, ..ConnectionLimits::default() })).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        let mut stream = site.silent().await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHo").await.unwrap();
        silent.push(stream);
    }
    let health = tokio::time::timeout(Duration::from_secs(2), site.get("/healthz")).await.expect("an answer at once");
    assert_eq!(health.status, 200);
    assert!(is_closed(&mut silent[0]).await, "the oldest made room");
    assert!(site.counters.turned_away() >= 32, "{:?}", site.counters);
    site.until("the others are there", |counters| counters.connections() <= 8).await;
}

#[tokio::test]
async fn a_request_that_does_not_come_is_not_waited_for() {
    let site = site(limits(ConnectionLimits { head_time_max: Duration::from_millis(300), ..ConnectionLimits::default() })).await;
    for bytes in [&b""[..], b"GET /sql?q=SELECT+1 HTTP/1.1\r\nHost: localhost\r\n"] {
        let late = site.said(bytes).await;
        assert!(
            late.status == 408 && late.error().contains("did not come within") && late.head.contains("connection: close"),
            "{}",
            late.body
        );
    }
    site.until("they are gone", |counters| counters.connections() == 0).await;
}

#[tokio::test]
async fn what_is_too_long_is_named() {
    let site = site(HttpLimits::default()).await;
    let query = site.said(format!("GET /sql?q={} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(100_000)).as_bytes()).await;
    assert!(query.status == 414 && query.error().contains("POST /sql") && query.head.contains("nosniff"), "{} {}", query.head, query.body);
    let header = format!("X-Padding: {}\r\n", "x".repeat(1_000));
    for headers in [header.repeat(500), "A: b\r\n".repeat(200)] {
        let long = site.said(format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").as_bytes()).await;
        assert!(long.status == 431 && long.error().contains("headers were not read"), "{} {}", long.head, long.body);
    }
    assert_eq!(site.get("/healthz").await.status, 200);
}

/// Over a connection that would stay open, and without a client that says that it has ended.
#[tokio::test]
async fn a_body_is_refused_for_what_is_wrong_with_it() {
    let site = site(HttpLimits::default()).await;
    let post = |headers: &str, body: &str| {
        format!("POST /sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sql\r\n{headers}\r\n{body}").into_bytes()
    };
    let started = std::time::Instant::now();
    for headers in ["Content-Length: 1099511627776\r\n", "Content-Length: 1048577\r\nExpect: 100-continue\r\n"] {
        let long = site.said(&post(headers, "SELECT 1")).await;
        assert!(long.status == 413 && long.error().contains("longer than 1048576 bytes"), "{headers} {} {}", long.head, long.body);
        assert!(long.head.contains("connection: close"), "{}", long.head);
    }
    let in_chunks = "Transfer-Encoding: chunked\r\n";
    for body in ["what\r\nSELECT 1\r\n0\r\n\r\n", "8\r\nSELECT 1 and more\r\n0\r\n\r\n", "fffffffffffffffff\r\nSELECT 1\r\n"] {
        let broken = site.said(&post(in_chunks, body)).await;
        assert!(broken.status == 400 && broken.error().contains("the body cannot be read"), "{body:?}: {} {}", broken.head, broken.body);
    }
    assert!(started.elapsed() < Duration::from_secs(5), "nothing was waited for: {:?}", started.elapsed());
    // Only what has come tells that chunks are too many; the client reads its answer though it has more to say.
    let much = format!("100000\r\n{}\r\n", "x".repeat(1 << 20)).repeat(3);
    let long = site.said(&post(in_chunks, &much)).await;
    assert!(long.status == 413 && long.head.contains("connection: close"), "{} {}", long.head, long.body);
    let right = site.said(&post("Connection: close\r\nTransfer-Encoding: chunked\r\n", "8\r\nSELECT 1\r\n5\r\n AS n\r\n0\r\n\r\n")).await;
    assert_eq!((right.status, right.body.as_str()), (200, "[{\"n\":1}]\n"));
}

#[tokio::test]
async fn who_looks_after_the_process_need_not_name_a_host() {
    let site = site(HttpLimits::default()).await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        for version in ["1.0", "1.1"] {
            let answer = site.said(format!("GET {path} HTTP/{version}\r\nConnection: close\r\n\r\n").as_bytes()).await;
            assert_eq!(answer.status, 200, "{path} {version} {}", answer.body);
        }
    }
    let sql = site.said(b"GET /sql?q=SELECT+1 HTTP/1.0\r\n\r\n").await;
    assert!(sql.status == 403 && sql.error().contains("name no host"), "{}", sql.body);
}

#[tokio::test]
async fn who_is_one_too_many_is_told_and_supervisors_are_answered() {
    let site = site(limits(ConnectionLimits { served_max: 2, ..ConnectionLimits::default() })).await;
    let _endless =
        [site.send(&format!("/sql?q={}", encoded(ENDLESS)), "").await, site.send(&format!("/sql?q={}", encoded(ENDLESS)), "").await];
    site.until("they run", |counters| counters.running() == 2).await;
    let crowded = site.sql("SELECT 1", "").await;
    assert!(
        crowded.status == 503 && crowded.error().contains("2 connections are at work") && crowded.head.contains("retry-after"),
        "{}",
        crowded.body
    );
    for target in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(site.get(target).await.status, 200, "{target}");
    }
}

#[tokio::test]
async fn a_connection_that_is_idle_makes_room_and_ends() {
    let site = site(limits(ConnectionLimits { served_max: 1, idle_time_max: Duration::from_secs(1), ..ConnectionLimits::default() })).await;
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut kept = site.silent().await;
    kept.write_all(request).await.unwrap();
    let mut some = [0; 12];
    kept.read_exact(&mut some).await.unwrap();
    assert_eq!(&some, b"HTTP/1.1 200");
    assert_eq!(site.sql("SELECT 1 AS one", "").await.body, "[{\"one\":1}]\n");
    let mut rest = Vec::new();
    kept.read_to_end(&mut rest).await.unwrap();
    // With room enough it stays for a while, and goes by itself.
    let mut idle = site.silent().await;
    idle.write_all(request).await.unwrap();
    idle.read_exact(&mut some).await.unwrap();
    let started = std::time::Instant::now();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    site.until("all are gone", |counters| counters.connections() == 0).await;
}

#[tokio::test]
async fn http_2_names_its_host_in_the_address() {
    let site = site(HttpLimits::default()).await;
    let stream = TokioIo::new(site.silent().await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let running = tokio::spawn(connection);
    for (host, status) in [(site.server.address().to_string(), 200), ("evil.example".to_owned(), 403)] {
        let request = axum::http::Request::get(format!("http://{host}/healthz")).body(axum::body::Body::empty()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), status, "{host}");
    }
    drop(sender);
    running.await.unwrap().unwrap();
}
