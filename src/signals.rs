//! Ctrl-C, SIGTERM and a closed terminal: the first asks to stop, the second ends the process at once.

use tokio::signal::unix::{SignalKind, signal};

/// Exit code after Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// Waits for Ctrl-C, SIGTERM, or the terminal to be closed.
pub async fn stop_asked() {
    let (Ok(mut terminate), Ok(mut hang_up)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup())) else {
        // Without the others there is still Ctrl-C.
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
}

/// From now on, one more Ctrl-C or SIGTERM ends the process at once. What was not committed is read again at the next start.
pub fn second_ends_at_once() {
    tokio::spawn(async {
        stop_asked().await;
        eprintln!("ended at once; the next start goes on from the last commit");
        std::process::exit(i32::from(INTERRUPTED));
    });
}
