//! The drivers: shifts, where each one is and what it is doing, and the location it sends every few seconds.
//!
//! A driver who spoofs its location (a fraud episode) shows a place kilometres away, mostly another one each time. A receiver
//! among high houses, which is nobody's fault, now and then is a few hundred metres off and says so in `accuracy`.
//!
//! Where a driver is follows from its path and the time, so nothing moves between two pings. State: one record a driver, and
//! by city the list of those who can be matched.

use crate::agenda::{Action, Agenda};
use crate::calendar::{DAY_US, LocalTime, SECOND_US};
use crate::fraud::{Episode, Label, label};
use crate::geometry::{Ground, Path, Point};
use crate::random::Random;
use crate::truth::Facts;
use crate::world::World;
use crate::{EventBuffer, Settings, Topic};

/// How many of the free drivers of a city are looked at for the nearest one.
const MATCH_SAMPLE: u64 = 24;

/// What a driver is doing, in MDS's words; the numbers are those of `truth::type_names`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DriverState {
    Available = 0,
    Reserved = 1,
    OnTrip = 2,
    Stopped = 3,
    NonOperational = 4,
}

#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) city: u8,
    pub(crate) state: DriverState,
    pub(crate) path: Path,
    /// The trip it is reserved for or on, by its id.
    pub(crate) trip_id: Option<u64>,
    /// How fast it drives compared with others.
    pub(crate) style: f32,
    /// Where it is in the list of available drivers.
    listed_at: u32,
    /// The shift is over once the trip is.
    leaving: bool,
    /// The location that says it has gone off shift is still to be sent.
    farewell: bool,
    /// False locations still to be sent, where the last one was, and the episode they belong to.
    spoofs_left: u8,
    spoofed_at: Option<Point>,
    spoofing: Option<Episode>,
}

#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) drivers: Vec<Driver>,
    /// By city.
    available: Vec<Vec<u32>>,
    on_shift: Vec<u32>,
    /// The driver whose turn it is to send its location, and when.
    turn: usize,
    round_us: i64,
    /// How long a round takes.
    every_us: i64,
}

impl Fleet {
    /// Drivers by city, with those on shift when the warm-up begins signed on and everyone's next change of shift planned.
    pub(crate) fn new(counts: &[u32], grounds: &[Ground], settings: &Settings, agenda: &mut Agenda, random: &mut Random) -> Self {
        let cities = counts.len();
        let now_us = settings.start_time_us - i64::from(settings.warm_up_s) * SECOND_US;
        let mut fleet = Self {
            drivers: Vec::new(),
            available: vec![Vec::new(); cities],
            on_shift: vec![0; cities],
            turn: 0,
            round_us: settings.start_time_us,
            every_us: i64::from(settings.location_every_s) * SECOND_US,
        };
        // Shuffled, so that the round of pings does not go through one city after another.
        let mut homes: Vec<u8> = (0u8..).zip(counts).flat_map(|(city, count)| (0..*count).map(move |_| city)).collect();
        for index in (1..homes.len()).rev() {
            homes.swap(index, random.below(index as u64 + 1) as usize);
        }
        for (index, city) in (0u32..).zip(homes) {
            let ground = &grounds[usize::from(city)];
            let local = LocalTime::at(now_us, ground.city.utc_offset_h);
            fleet.drivers.push(Driver {
                city,
                state: DriverState::NonOperational,
                path: Path::parked(ground.place(local, true, random), 0.0, now_us),
                trip_id: None,
                style: random.uniform(0.9, 1.1) as f32,
                listed_at: 0,
                leaving: false,
                farewell: false,
                spoofs_left: 0,
                spoofed_at: None,
                spoofing: None,
            });
            let (starts_in_us, length_us) = shift(local, random);
            if starts_in_us + length_us > DAY_US {
                // The shift that began yesterday at this hour is still on.
                agenda.plan(now_us + starts_in_us + length_us - DAY_US, Action::SignOff(index));
                fleet.enter(index);
            } else {
                agenda.plan(now_us + starts_in_us, Action::SignOn(index));
            }
        }
        fleet
    }

    fn enter(&mut self, index: u32) {
        let driver = &mut self.drivers[index as usize];
        driver.leaving = false;
        driver.farewell = false;
        self.on_shift[usize::from(driver.city)] += 1;
        self.release(index);
    }

    /// Puts a driver without a trip back to work, or off shift if it is over.
    pub(crate) fn release(&mut self, index: u32) {
        let driver = &mut self.drivers[index as usize];
        let city = usize::from(driver.city);
        driver.trip_id = None;
        if driver.leaving {
            driver.state = DriverState::NonOperational;
            driver.farewell = true;
            self.on_shift[city] -= 1;
            return;
        }
        driver.state = DriverState::Available;
        driver.listed_at = self.available[city].len() as u32;
        self.available[city].push(index);
    }

    /// Takes a driver out of those who can be matched.
    pub(crate) fn withdraw(&mut self, index: u32) {
        let driver = &self.drivers[index as usize];
        let (list, at) = (&mut self.available[usize::from(driver.city)], driver.listed_at as usize);
        list.swap_remove(at);
        if let Some(moved) = list.get(at) {
            self.drivers[*moved as usize].listed_at = at as u32;
        }
    }

    /// The nearest of some available drivers of a city.
    pub(crate) fn nearest(&self, city: u8, to: Point, now_us: i64, random: &mut Random) -> Option<u32> {
        let list = &self.available[usize::from(city)];
        let all = list.len() as u64 <= MATCH_SAMPLE;
        let tries = (list.len() as u64).min(MATCH_SAMPLE);
        let candidate = |k: u64, random: &mut Random| list[if all { k } else { random.below(list.len() as u64) } as usize];
        let mut best: Option<(f32, u32)> = None;
        for k in 0..tries {
            let index = candidate(k, random);
            let distance_m = self.drivers[index as usize].path.at(now_us).point.distance_m(to);
            if best.is_none_or(|(least_m, _)| distance_m < least_m) {
                best = Some((distance_m, index));
            }
        }
        best.map(|(_, index)| index)
    }

    /// Some driver of a city who is on shift.
    pub(crate) fn any_on_shift(&self, city: u8, random: &mut Random) -> Option<u32> {
        (0..256).map(|_| random.below(self.drivers.len() as u64) as u32).find(|index| {
            let driver = &self.drivers[*index as usize];
            driver.city == city && driver.state != DriverState::NonOperational
        })
    }

    /// Some driver of a city who is free.
    pub(crate) fn any_available(&self, city: u8, random: &mut Random) -> Option<u32> {
        let list = &self.available[usize::from(city)];
        list.get(random.below(list.len() as u64) as usize).copied()
    }

    /// Lets a driver show false places.
    pub(crate) fn spoof(&mut self, index: u32, episode: Episode, locations: u8) {
        let driver = &mut self.drivers[index as usize];
        driver.spoofs_left = locations;
        driver.spoofed_at = None;
        driver.spoofing = Some(episode);
    }

    /// Share of the drivers on shift in a city who are free.
    pub(crate) fn free_share(&self, city: u8) -> f64 {
        let city = usize::from(city);
        self.available[city].len() as f64 / f64::from(self.on_shift[city].max(1))
    }

    /// When the next location is due.
    pub(crate) fn next_ping_us(&self) -> i64 {
        self.round_us + self.every_us * self.turn as i64 / self.drivers.len() as i64
    }
}

/// In how long a driver's next shift starts, and how long it is. Most start for one of the two rush hours.
fn shift(local: LocalTime, random: &mut Random) -> (i64, i64) {
    let start_hour = match random.unit() {
        u if u < 0.4 => 6.0 + 2.0 * random.normal(),
        u if u < 0.8 => 14.0 + 2.0 * random.normal(),
        _ => random.uniform(0.0, 24.0),
    };
    let in_hours = (start_hour - local.hour).rem_euclid(24.0);
    let length_hours = random.uniform(6.0, 11.0);
    ((in_hours * 3_600e6) as i64, (length_hours * 3_600e6) as i64)
}

impl World {
    pub(crate) fn sign_on(&mut self, index: u32) {
        self.fleet.enter(index);
        let length_us = (self.random.uniform(6.0, 11.0) * 3_600e6) as i64;
        self.agenda.plan(self.now_us + length_us, Action::SignOff(index));
    }

    pub(crate) fn sign_off(&mut self, index: u32) {
        let driver = &mut self.fleet.drivers[index as usize];
        driver.leaving = true;
        if driver.state == DriverState::Available {
            let at = driver.path.at(self.now_us);
            driver.path = Path::parked(at.point, at.heading_deg, self.now_us);
            self.fleet.withdraw(index);
            self.fleet.release(index);
        }
        let rest_us = (self.random.uniform(12.5, 16.5) * 3_600e6) as i64;
        self.agenda.plan(self.now_us + rest_us, Action::SignOn(index));
    }

    /// The driver whose turn it is sends its location, if it is on shift.
    pub(crate) fn ping(&mut self, out: &mut EventBuffer) {
        let Self { fleet, emitter, random, grounds, now_us, .. } = self;
        let index = fleet.turn;
        fleet.turn += 1;
        if fleet.turn == fleet.drivers.len() {
            fleet.turn = 0;
            fleet.round_us += fleet.every_us;
        }
        let driver = &mut fleet.drivers[index];
        if driver.state == DriverState::NonOperational && !std::mem::take(&mut driver.farewell) {
            return;
        }
        let ground = &grounds[usize::from(driver.city)];
        let at = driver.path.at(*now_us);
        if driver.state == DriverState::Available && at.speed_m_s == 0.0 && random.chance(0.04) {
            // Waited long enough: off to where trips start.
            let local = LocalTime::at(*now_us, ground.city.utc_offset_h);
            let to = ground.place(local, true, random);
            let pace = local.road_speed() as f32 * driver.style * 0.8;
            driver.path = Path::between(at.point, to, ground.city.grid_deg, pace, *now_us);
        }
        // A receiver is off by a few metres; a phone on the dashboard says how much.
        let noise = random.next_u64();
        let glitch = (noise >> 50) & 0x1fff == 0;
        let accuracy_m = if glitch { 80 + (noise & 0x7f) as i64 } else { 3 + (noise & 7) as i64 };
        let shake = |bits: u64| (bits & 0xff) as f32 * (4.0 / 255.0) - 2.0;
        let mut shown = at.point;
        let spoofing = driver.spoofing.filter(|_| driver.spoofs_left > 0);
        if spoofing.is_some() {
            driver.spoofs_left -= 1;
            shown = match driver.spoofed_at {
                Some(before) if random.chance(0.3) => before,
                before => far_from(at.point, before.unwrap_or(at.point), ground, random),
            };
            driver.spoofed_at = Some(shown);
        } else if glitch {
            shown.x += ((noise >> 24) & 0x3ff) as f32 - 512.0;
            shown.y += ((noise >> 34) & 0x3ff) as f32 - 512.0;
        }
        let seen = Point { x: shown.x + shake(noise >> 8), y: shown.y + shake(noise >> 16) };
        let zone = ground.zone_at(shown);
        let number = index as u32;
        let facts = Facts {
            topic: Topic::DriverLocations,
            event_time_us: *now_us,
            sequence: 0,
            kind: driver.state as u8,
            city: driver.city,
            zone: ground.first_zone + zone as u16,
            campaign: 0,
            cents: 0,
        };
        let state = crate::truth::type_names(Topic::DriverLocations)[driver.state as usize];
        let event = emitter.emit(
            out,
            facts,
            |key| key.bare_numbered("drv_", number),
            |json| {
                json.numbered("driver_id", "drv_", number);
                json.numbered("vehicle_id", "veh_", number);
                json.text("city", ground.city.name);
                json.text("zone", ground.city.zones[zone].name);
                json.text("state", state);
                if let Some(trip_id) = driver.trip_id {
                    json.hashed("trip_id", "trip_", trip_id);
                }
                json.point("location", ground.degrees(seen));
                json.tenths("speed", (at.speed_m_s * 10.0).round() as i64);
                json.integer("heading", at.heading_deg as i64 % 360);
                json.integer("accuracy", accuracy_m);
            },
        );
        if let (Some(episode), Some(event)) = (spoofing, event) {
            label(
                emitter,
                out,
                &facts,
                Label { episode, event, payment: None, driver: Some(number), rider: None, card: None, device: None },
            );
        }
    }
}

/// A place at least three kilometres from two others, where the city is large enough.
fn far_from(here: Point, before: Point, ground: &Ground, random: &mut Random) -> Point {
    const LEAST_M: f32 = 3_000.0;
    let mut place = ground.anywhere(random);
    for _ in 0..16 {
        if place.distance_m(here) > LEAST_M && place.distance_m(before) > LEAST_M {
            break;
        }
        place = ground.anywhere(random);
    }
    place
}
