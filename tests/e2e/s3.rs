//! An S3-protocol server (Versity Gateway) over a folder: objects are plain files below it.

use std::collections::HashMap;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::tools::{Server, delete_at_exit, folder, free_port, tail, tool, wait_for};

/// A running server.
pub struct S3 {
    _server: Server,
    folder: tempfile::TempDir,
    port: u16,
}

const ACCESS_KEY: &str = "watershed";
const SECRET_KEY: &str = "watershed-secret";

impl S3 {
    /// The server that tests share; each takes a bucket of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<S3> = OnceLock::new();
        SHARED.get_or_init(|| {
            let shared = Self::start();
            delete_at_exit(shared.folder.path());
            shared
        })
    }

    fn start() -> Self {
        let folder = folder("s3-");
        let port = free_port();
        for name in ["buckets", "metadata"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let mut command = Command::new(tool("versitygw"));
        command.args(["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--port", &format!("127.0.0.1:{port}"), "--keep-alive", "--quiet"]);
        // Metadata beside the objects, not in extended attributes: those do not exist on every file system.
        command.args(["posix", "--sidecar"]).arg(folder.path().join("metadata")).arg(folder.path().join("buckets"));
        let log = folder.path().join("s3.log");
        let server = Server::start(&command, &log);
        wait_for("the S3 server answers", Duration::from_secs(20), || tail(&log, 20), || TcpStream::connect(("127.0.0.1", port)).ok());
        Self { _server: server, folder, port }
    }

    /// A new bucket: its name and the folder its objects lie in.
    pub fn bucket(&self) -> (String, PathBuf) {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let name = format!("bucket-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let path = self.folder.path().join("buckets").join(&name);
        std::fs::create_dir(&path).expect("a bucket");
        (name, path)
    }

    /// What an S3 client needs to reach it, under the names that AWS gives them.
    pub fn environment(&self) -> HashMap<&'static str, String> {
        HashMap::from([
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_string()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_string()),
            ("AWS_REGION", "us-east-1".to_string()),
        ])
    }
}
