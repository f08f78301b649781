//! How much memory the machine has left, asked before a value of many bytes is made: no pool counts what functions make, and a statement may call
//! them as often as its text has room for.

use datafusion::common::DataFusionError;
use datafusion::common::Result;
use watershed_message::Message;

/// Values below this are made unasked.
const ASK_FROM_BYTES: u64 = 8 << 20;
/// What others are left with.
const LEFT_BYTES: u64 = 512 << 20;

/// An error if there is no room for `bytes` that the function `name` would make.
pub(super) fn check(name: &str, bytes: u64) -> Result<()> {
    if bytes < ASK_FROM_BYTES {
        return Ok(());
    }
    match left_bytes() {
        Some(left) if left < LEFT_BYTES + bytes => {
            let message = Message::new(format!("{name} would make {bytes} bytes, and the machine has {left} bytes of memory left"));
            Err(DataFusionError::External(Box::new(message.next("ask for less of it at once"))))
        }
        _ => Ok(()),
    }
}

/// What the system and the container have left; `None` if they do not say.
fn left_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let system = read("/proc/meminfo").and_then(|text| available_bytes(&text));
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let container =
        number("/sys/fs/cgroup/memory.max").zip(number("/sys/fs/cgroup/memory.current")).map(|(max, now)| max.saturating_sub(now));
    system.into_iter().chain(container).min()
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_made_than_there_is_room_for() {
        assert_eq!(available_bytes("MemTotal:  9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(available_bytes("MemTotal:  9 kB\n"), None);
        check("repeat()", 1 << 20).unwrap();
        let refused = check("repeat()", 1 << 60);
        assert!(!cfg!(target_os = "linux") || refused.unwrap_err().to_string().contains("bytes of memory left"));
    }
}
