//! What tests need of the machine: installed tools, free ports, folders, waiting with a limit, servers that never outlive the tests.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

/// Where `scripts/setup.sh test` put the tool `name`. Panics with what to do if it is not there.
pub fn tool(name: &str) -> PathBuf {
    let cache = std::env::var_os("WATERSHED_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache");
        std::env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()).map(PathBuf::from).unwrap_or_else(home).join("watershed")
    });
    let path = cache.join("tools").join(name);
    assert!(path.exists(), "{} is missing; run `make test` once, which installs what the end-to-end tests need", path.display());
    path
}

/// The modules that programs like Spark look into; Java 17 wants them named.
const OPENED: &str = "java.lang java.lang.invoke java.lang.reflect java.io java.net java.nio java.util java.util.concurrent \
                      java.util.concurrent.atomic sun.nio.ch sun.nio.cs sun.security.action sun.util.calendar";

/// Java running a source file of `tests/e2e`, with the jars of some folders.
pub fn java(jars: &[&Path], source: &str) -> Command {
    let class_path = jars.iter().map(|folder| format!("{}/*", folder.display())).collect::<Vec<_>>().join(":");
    let program = std::env::var_os("JAVA_HOME").map_or_else(|| PathBuf::from("java"), |home| PathBuf::from(home).join("bin/java"));
    let mut java = Command::new(program);
    java.args(OPENED.split_whitespace().map(|package| format!("--add-opens=java.base/{package}=ALL-UNNAMED")));
    // Short programs: a heap that leaves room for other tests, no second compiler.
    java.args(["-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &class_path]);
    java.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e").join(source));
    java
}

/// A TCP port that was free a moment ago, and that no other test was given.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        if GIVEN.lock().expect("not poisoned").insert(port) {
            return port;
        }
    }
}

/// A folder that is deleted with the value, under the build folder (where there is room for it).
pub fn folder(prefix: &str) -> tempfile::TempDir {
    tempfile::Builder::new().prefix(prefix).tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder")
}

/// Asks `ready` again and again until it gives a value; panics with `what` and `details` when `limit` has passed.
pub fn wait_for<T>(what: &str, limit: Duration, details: impl Fn() -> String, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}\n{}", details());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The last `lines` lines of a file, for messages; empty if it cannot be read.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A background process in a process group of its own. It ends when the value is dropped, when the test binary exits, and even
/// when that is killed: a shell beside it waits for the end of its standard input, which only this process holds open.
pub struct Server {
    leash: Child,
    group: i32,
}

static GROUPS: Mutex<Vec<i32>> = Mutex::new(Vec::new());
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
static AT_EXIT: Once = Once::new();

extern "C" fn clean_up() {
    for group in GROUPS.lock().map(|g| g.clone()).unwrap_or_default() {
        signal_group(group, libc::SIGKILL);
    }
    for folder in FOLDERS.lock().map(|f| f.clone()).unwrap_or_default() {
        let _ = std::fs::remove_dir_all(folder);
    }
}

fn clean_up_at_exit() {
    // SAFETY: the function takes no arguments and lives as long as the program; it runs once, when the test binary exits.
    AT_EXIT.call_once(|| assert_eq!(unsafe { libc::atexit(clean_up) }, 0));
}

/// Deletes a folder when the test binary exits: for servers that live that long.
pub fn delete_at_exit(folder: &Path) {
    clean_up_at_exit();
    FOLDERS.lock().expect("not poisoned").push(folder.to_path_buf());
}

fn signal_group(group: i32, signal: i32) {
    // SAFETY: `kill` touches no memory. The group is that of a child that was not yet reaped, or of its own children.
    unsafe { libc::kill(-group, signal) };
}

fn group_lives(group: i32) -> bool {
    // SAFETY: as above; signal 0 only asks.
    unsafe { libc::kill(-group, 0) == 0 }
}

impl Server {
    /// Starts `command` with its output going to `log`.
    pub fn start(command: &Command, log: &Path) -> Self {
        clean_up_at_exit();
        let out = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log file");
        let mut leashed = Command::new("sh");
        leashed.args(["-c", "\"$@\" </dev/null & child=$!; read -r _; kill -9 \"$child\"", "leash"]);
        leashed.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => leashed.env(key, value),
                None => leashed.env_remove(key),
            };
        }
        let leash = leashed
            .stdin(Stdio::piped())
            .stdout(out.try_clone().expect("a second handle"))
            .stderr(out)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("{:?} did not start: {e}", command.get_program()));
        let group = i32::try_from(leash.id()).expect("a process id");
        GROUPS.lock().expect("not poisoned").push(group);
        Self { leash, group }
    }

    /// kill -9, and waits until the process is gone.
    pub fn kill(&mut self) {
        self.end(libc::SIGKILL);
    }

    fn end(&mut self, signal: i32) {
        signal_group(self.group, signal);
        let _ = self.leash.wait();
        let start = Instant::now();
        while group_lives(self.group) && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        GROUPS.lock().expect("not poisoned").retain(|g| *g != self.group);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program that answers one test after another, a line to each line it is given: for programs that take seconds to start. It ends when
/// the value is dropped, when the test binary exits, and even when that is killed: only this process holds its standard input open.
pub struct Answerer {
    child: Child,
    asked: ChildStdin,
    answers: BufReader<ChildStdout>,
    folder: tempfile::TempDir,
}

impl Answerer {
    /// Starts `command` in a folder of its own.
    pub fn start(mut command: Command) -> Self {
        let folder = folder("answerer-");
        delete_at_exit(folder.path());
        let log = std::fs::File::create(folder.path().join("log")).expect("a log file");
        command.current_dir(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{:?} did not start: {e}", command.get_program()));
        GROUPS.lock().expect("not poisoned").push(i32::try_from(child.id()).expect("a process id"));
        let (asked, answers) = (child.stdin.take().expect("a pipe"), BufReader::new(child.stdout.take().expect("a pipe")));
        Self { child, asked, answers, folder }
    }

    /// What it answers to a line; panics with what it said on standard error if it ends instead.
    pub fn ask(&mut self, line: &str) -> String {
        let mut answer = String::new();
        let read = writeln!(self.asked, "{line}").and_then(|()| self.answers.read_line(&mut answer));
        let answered = read.is_ok() && answer.ends_with('\n');
        // Its last words may still be on their way.
        let start = Instant::now();
        while !answered && matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(answered, "no answer to '{line}': {read:?}\n{}", tail(&self.folder.path().join("log"), 60));
        answer
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).expect("a process id");
        if matches!(self.child.try_wait(), Ok(None)) {
            signal_group(group, libc::SIGKILL);
            let _ = self.child.wait();
        }
        GROUPS.lock().expect("not poisoned").retain(|g| *g != group);
    }
}

/// A file system of its own, so small that it can be filled. Gone with the value, even if the test binary is killed: a shell beside it
/// waits for the end of its standard input, which only this process holds open.
#[cfg(target_os = "linux")]
pub struct SmallDisk {
    leash: Child,
    /// Where it is mounted.
    pub folder: tempfile::TempDir,
}

#[cfg(target_os = "linux")]
impl SmallDisk {
    /// Mounts one of so many MiB. Needs root, or `sudo` without a password.
    pub fn new(mib: usize) -> Self {
        const MOUNT: &str = "if [ \"$(id -u)\" = 0 ]; then as=; else as='sudo -n'; fi
            $as mount -t tmpfs -o size=$2m,mode=777 tmpfs \"$1\" && echo mounted || echo failed; read -r _; $as umount -l \"$1\"";
        let folder = folder("disk-");
        let mut leashed = Command::new("sh");
        leashed.args(["-c", MOUNT, "leash"]).arg(folder.path()).arg(mib.to_string()).process_group(0);
        let mut leash = leashed.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut said = String::new();
        let stdout = leash.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut said).expect("text");
        assert_eq!(said.trim(), "mounted", "no small disk could be mounted: run the tests as root, or as a user with `sudo -n`");
        Self { leash, folder }
    }

    /// Writes until nothing more fits; the file must be removed to make room again.
    pub fn fill(&self) -> PathBuf {
        let path = self.folder.path().join("ballast");
        let mut ballast = std::fs::File::create(&path).expect("a file");
        while ballast.write_all(&[1; 4096]).is_ok() {}
        path
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.leash.stdin.take());
        let _ = self.leash.wait();
    }
}
