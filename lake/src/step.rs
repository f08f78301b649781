//! Named steps at which tests kill the process.

/// Marks a step of the epoch protocol, of a compaction, a vacuum or a job's run. Does nothing unless the crate is built with feature `failpoints` and the
/// failpoint `name` is configured to `return`; then it says so on stderr and kills this process with SIGKILL, as a
/// power cut would.
///
/// `FAILPOINTS="record_written=3*off->return"` kills at the fourth time the step is reached; with `panic(…)` in place of `return` the step panics.
pub fn step(name: &'static str) {
    #[cfg(feature = "failpoints")]
    if fail::eval(name, |_| ()).is_some() {
        die(name);
    }
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
}

#[cfg(feature = "failpoints")]
fn die(name: &str) -> ! {
    use std::io::Write;
    let mut stderr = std::io::stderr().lock();
    // A closed stderr must not stop the kill.
    let _ = writeln!(stderr, "failpoint: {name}");
    let _ = stderr.flush();
    loop {
        // SAFETY: plain system calls without pointers; the signal ends this process.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}
