//! A terminal that a test sits at: a pseudo-terminal of some size, keys in, everything that is shown out.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::watershed::{LIMIT, Watershed};

/// A program at a terminal; killed when dropped.
pub struct Terminal {
    child: Child,
    keys: File,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Reads what is shown, until the program has left the terminal.
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Starts `program` at a terminal of `columns` by `lines`.
    pub fn start(program: Watershed, columns: u16, lines: u16) -> Self {
        let (mut master, mut slave) = (-1, -1);
        let mut size = libc::winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the call sets both descriptors and reads the size; no name and no settings are asked for.
        let opened =
            unsafe { libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::from_mut(&mut size)) };
        assert_eq!(opened, 0, "no terminal: {}", std::io::Error::last_os_error());
        // SAFETY: both were opened just now and belong to nobody else.
        let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        let mut command = program.env("TERM", "xterm-256color").into_command();
        let end = || Stdio::from(slave.try_clone().expect("a second handle"));
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: between fork and exec only system calls are made: a session of its own, whose terminal is standard input.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0);
                #[cfg(target_os = "linux")]
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn().expect("the binary starts");
        drop(command);
        drop(slave);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (sink, mut screen) = (Arc::clone(&shown), master.try_clone().expect("a second handle"));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            // An error says that the program has left the terminal.
            while let Ok(read) = screen.read(&mut buffer) {
                sink.lock().expect("not poisoned").extend_from_slice(&buffer[..read]);
            }
        });
        Self { child, keys: master, shown, reader }
    }

    /// Types.
    pub fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("keys");
    }

    /// Everything shown so far, escape sequences included.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("not poisoned")).into_owned()
    }

    /// Waits until `text` is shown after the first `from` bytes; gives where it ends.
    pub fn until(&mut self, text: &str, from: usize) -> usize {
        let start = Instant::now();
        loop {
            let shown = self.shown();
            if let Some(found) = shown.get(from..).and_then(|shown| shown.find(text)) {
                return from + found + text.len();
            }
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "it ended ({ended:?}) before it showed '{text}'\n{shown}");
            assert!(start.elapsed() < LIMIT, "'{text}' is not shown within {LIMIT:?}\n{shown}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Makes the window `columns` by `lines`; the system tells the program.
    pub fn resize(&self, columns: u16, lines: u16) {
        let size = libc::winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the call reads the size; the descriptor is open.
        assert_eq!(unsafe { libc::ioctl(self.keys.as_raw_fd(), libc::TIOCSWINSZ, &size) }, 0);
    }

    /// Whether the terminal echoes what is typed, line by line: what a shell expects after a program has ended.
    pub fn is_as_it_was(&self) -> bool {
        let mut now = std::mem::MaybeUninit::uninit();
        // SAFETY: on success the call has filled in the whole structure; the descriptor is open.
        let now = unsafe { (libc::tcgetattr(self.keys.as_raw_fd(), now.as_mut_ptr()) == 0).then(|| now.assume_init()) };
        now.expect("a terminal").c_lflag & (libc::ICANON | libc::ECHO) == libc::ICANON | libc::ECHO
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: i32) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        // SAFETY: `kill` touches no memory; the child was not reaped, so the id is its own.
        unsafe { libc::kill(id, signal) };
    }

    /// Waits for its end, and until all is read that it has shown.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child")
                && self.reader.is_finished()
            {
                return status;
            }
            assert!(start.elapsed() < LIMIT, "it did not end within {LIMIT:?}\n{}", self.shown());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
