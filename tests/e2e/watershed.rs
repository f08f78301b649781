//! Runs of the binary: each in a process group of its own, with a time limit, its output kept.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a run may take unless a test says otherwise: long, as more tests run at once than there are cores.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A command line of `watershed` in the making.
pub struct Watershed {
    command: Command,
}

/// What a finished run left.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// A run in the background; killed with all its children when dropped.
pub struct Running {
    child: Child,
    stdout: Captured,
    stderr: Captured,
    line: String,
}

/// A pipe that a thread empties, so that the process never waits for us.
struct Captured {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Watershed {
    /// `watershed <arguments>`, with none of the caller's settings.
    pub fn new<S: AsRef<str>>(arguments: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_watershed"));
        for argument in arguments {
            command.arg(argument.as_ref());
        }
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            if ["WATERSHED_", "AWS_", "FAILPOINTS", "RUST_LOG"].iter().any(|p| name.starts_with(p)) {
                command.env_remove(&key);
            }
        }
        // Tests run side by side: their servers take free ports unless a flag says otherwise.
        command.env("WATERSHED_SERVE_FLIGHT_ADDRESS", "127.0.0.1:0").env("WATERSHED_SERVE_HTTP_ADDRESS", "127.0.0.1:0");
        command.env("RUST_BACKTRACE", "1").current_dir(env!("CARGO_TARGET_TMPDIR"));
        Self { command }
    }

    /// Sets an environment variable.
    pub fn env(mut self, key: &str, value: impl AsRef<str>) -> Self {
        self.command.env(key, value.as_ref());
        self
    }

    /// Sets several.
    pub fn envs<'a>(mut self, pairs: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        self.command.envs(pairs);
        self
    }

    /// Dies by kill -9 when it reaches the step `name` for the `times + 1`st time.
    pub fn killed_at(self, name: &str, times: usize) -> Self {
        let action = if times == 0 { "return".to_string() } else { format!("{times}*off->return") };
        self.env("FAILPOINTS", format!("{name}={action}"))
    }

    /// It may have so many files open, connections among them.
    pub fn with_open_files(mut self, most: u64) -> Self {
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: between fork and exec only `setrlimit` is called, which is async-signal-safe.
        unsafe {
            self.command.pre_exec(move || {
                libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
                Ok(())
            });
        }
        self
    }

    /// Root, too, then heeds the permissions of files.
    #[cfg(target_os = "linux")]
    pub fn heeding_permissions(mut self) -> Self {
        const CAP_DAC_OVERRIDE: libc::c_ulong = 1;
        const CAP_DAC_READ_SEARCH: libc::c_ulong = 2;
        // SAFETY: between fork and exec only `prctl` is called, which is async-signal-safe. Other users have no such rights to give up.
        unsafe {
            self.command.pre_exec(|| {
                libc::prctl(libc::PR_CAPBSET_DROP, CAP_DAC_OVERRIDE);
                libc::prctl(libc::PR_CAPBSET_DROP, CAP_DAC_READ_SEARCH);
                Ok(())
            });
        }
        self
    }

    /// Runs it to its end with standard output, and perhaps standard error, going to no reader. Gives what it said on standard error.
    pub fn run_unread(mut self, errors_too: bool) -> (ExitStatus, String) {
        self.command.stdin(Stdio::null()).stdout(unread()).process_group(0);
        self.command.stderr(if errors_too { unread() } else { Stdio::piped() });
        let mut child = self.command.spawn().expect("the binary starts");
        let mut said = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut said).expect("text");
        }
        (child.wait().expect("a child"), said)
    }

    /// The command, for tests that start it in a terminal.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Starts it in the background.
    pub fn start(mut self) -> Running {
        let line = format!("{:?}", self.command);
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        #[cfg(target_os = "linux")]
        // SAFETY: between fork and exec only `prctl` is called, which is async-signal-safe.
        unsafe {
            // Ends with the thread of its test, even if the whole test binary is killed.
            self.command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = self.command.spawn().expect("the binary starts");
        let stdout = Captured::new(child.stdout.take().expect("a pipe"));
        let stderr = Captured::new(child.stderr.take().expect("a pipe"));
        Running { child, stdout, stderr, line }
    }

    /// Runs it to its end, which must come within [`LIMIT`].
    pub fn run(self) -> Finished {
        self.start().wait(LIMIT)
    }

    /// Runs it to its end, which must be a success; gives its standard output.
    pub fn succeeds(self) -> String {
        let running = self.start();
        let line = running.line.clone();
        let finished = running.wait(LIMIT);
        assert!(finished.status.success(), "{line}: {}\n{}", finished.status, finished.output());
        finished.stdout
    }
}

/// Lets this process, with all its tests, have so many files open, if it may.
pub fn may_open(least: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the first call fills the structure in, the second reads it.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_cur.max(least).min(limit.rlim_max);
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

/// A pipe whose reader has gone.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

impl Captured {
    fn new(mut pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(read) = pipe.read(&mut buffer) {
                if read == 0 {
                    break;
                }
                sink.lock().expect("not poisoned").push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        self.text.lock().expect("not poisoned").clone()
    }

    fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        self.so_far()
    }
}

impl Running {
    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Standard output and error up to now.
    pub fn output(&self) -> String {
        format!("--- stdout\n{}\n--- stderr\n{}", self.stdout.so_far(), self.stderr.so_far())
    }

    /// Waits until `found` gives a value.
    pub fn until<T>(&mut self, what: &str, mut found: impl FnMut(&Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(value) = found(self) {
                return value;
            }
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "{what}: it ended before ({ended:?})\n{}", self.output());
            assert!(start.elapsed() < LIMIT, "{what}: not within {LIMIT:?}\n{}", self.output());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: i32) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        // SAFETY: `kill` touches no memory; the child was not reaped, so the id is its own.
        unsafe { libc::kill(id, signal) };
    }

    /// kill -9, and waits for the end.
    pub fn kill(self) -> Finished {
        self.signal(libc::SIGKILL);
        self.wait(LIMIT)
    }

    /// Waits for its end; panics, having killed it, when `limit` has passed.
    pub fn wait(mut self, limit: Duration) -> Finished {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(start.elapsed() < limit, "{} did not end within {limit:?}\n{}", self.line, self.output());
            std::thread::sleep(Duration::from_millis(5));
        };
        Finished { status, stdout: self.stdout.whole(), stderr: self.stderr.whole() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let group = i32::try_from(self.child.id()).expect("a process id");
            // SAFETY: `kill` touches no memory; the child leads its group and was not reaped.
            unsafe { libc::kill(-group, libc::SIGKILL) };
            let _ = self.child.wait();
        }
    }
}

impl Finished {
    /// Both streams, for messages.
    pub fn output(&self) -> String {
        format!("--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr)
    }

    /// The fault must have fired: ended by SIGKILL, having said at which step.
    pub fn died_at(&self, step: &str) {
        assert_eq!(self.status.signal(), Some(libc::SIGKILL), "{step} did not kill it: {}\n{}", self.status, self.output());
        let said = format!("failpoint: {step}");
        assert!(self.stderr.lines().any(|l| l.trim() == said), "it does not say '{said}'\n{}", self.output());
    }
}
