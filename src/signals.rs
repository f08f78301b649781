//! Ctrl-C and SIGTERM: the first asks to stop, the second ends the process at once.

use tokio::signal::unix::{SignalKind, signal};

/// Exit code after Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// Waits for Ctrl-C or SIGTERM.
pub async fn stop_asked() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        // Without SIGTERM there is still Ctrl-C.
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
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
