//! Prints how many events one core writes a second, of wall time and of processor time (Linux; elsewhere 0), so that a busy machine
//! does not hide the answer: `cargo run -p watershed-simulator --example rate [-- <millions>]`.

use std::error::Error;
use std::time::Instant;

use watershed_simulator::{EventBuffer, Settings, Topic, World};

fn main() -> Result<(), Box<dyn Error>> {
    let millions: f64 = std::env::args().nth(1).map_or(Ok(5.0), |text| text.parse())?;
    let wanted = (millions * 1e6) as u64;
    let start_time_us = Settings::default().start_time_us;
    let worlds = [
        ("default", Settings::default()),
        ("demo", Settings { start_time_us, ..Settings::for_demo() }),
        ("demo with a location a minute", Settings { start_time_us, location_every_s: 60, ..Settings::for_demo() }),
    ];
    for (name, settings) in worlds {
        let began = Instant::now();
        let mut world = World::new(settings)?;
        let made_ms = began.elapsed().as_millis();
        let (mut events, mut bytes) = (EventBuffer::new(), 0);
        let (began, cpu_began_s, start_us) = (Instant::now(), cpu_s(), world.now_us());
        while world.truth().rows() < wanted {
            events.clear();
            world.fill(i64::MAX, 10_000, &mut events);
            bytes += events.size_bytes();
        }
        let seconds = began.elapsed().as_secs_f64();
        let cpu_seconds = cpu_s() - cpu_began_s;
        let simulated_s = (world.now_us() - start_us) as f64 / 1e6;
        let rows = world.truth().rows() as f64;
        println!(
            "{name}: {:.0} K events/s, {:.0} K per CPU-second, {:.0} MB/s; {:.0} B an event; world made in {made_ms} ms; {simulated_s:.0} s simulated, {:.0} events/s in life",
            rows / seconds / 1e3,
            if cpu_seconds > 0.0 { rows / cpu_seconds / 1e3 } else { 0.0 },
            bytes as f64 / seconds / 1e6,
            bytes as f64 / rows,
            rows / simulated_s,
        );
        for topic in Topic::ALL {
            println!("  {:>16}: {:5.1} %", topic.name(), 100.0 * world.truth().topic(topic).rows as f64 / rows);
        }
    }
    Ok(())
}

/// Processor time of this thread in seconds; 0 where the system does not say.
fn cpu_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}
