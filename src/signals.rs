//! Ctrl-C, SIGTERM and a closed terminal: the first asks to stop, the second ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code after Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// Signals that are caught from the moment this is made.
struct Caught(Vec<Signal>);

impl Caught {
    /// Those that cannot be caught keep their effect, which is to end the process.
    fn these(kinds: &[SignalKind]) -> Self {
        Self(kinds.iter().filter_map(|kind| signal(*kind).ok()).collect())
    }

    /// Waits for one of them.
    async fn next(&mut self) {
        let any = self.0.iter_mut().map(|caught| Box::pin(caught.recv()));
        if any.len() == 0 {
            return std::future::pending().await;
        }
        futures::future::select_all(any).await;
    }
}

/// Waits for Ctrl-C, SIGTERM, or the terminal to be closed.
pub async fn stop_asked() {
    Caught::these(&[SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]).next().await;
}

/// Waits for SIGTERM, or the terminal to be closed: at a prompt, Ctrl-C has a meaning of its own.
pub async fn ended_from_outside() {
    Caught::these(&[SignalKind::terminate(), SignalKind::hangup()]).next().await;
}

/// From now on, one more Ctrl-C or SIGTERM ends the process at once. What was not committed is read again at the next start.
pub fn second_ends_at_once() {
    let mut second = Caught::these(&[SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]);
    tokio::spawn(async move {
        second.next().await;
        tell!("ended at once; the next start goes on from the last commit");
        std::process::exit(i32::from(INTERRUPTED));
    });
}
