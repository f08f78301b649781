//! The world: time, and what happens next in it.
//!
//! Three things compete for being next: an event held back that now leaves, an action of the agenda, and the next driver in
//! the round of locations. Time is that of the earliest; nothing else moves it.

use crate::agenda::{Action, Agenda, Arrival, Slots};
use crate::calendar::{DAY_US, LocalTime, SECOND_US};
use crate::city::{CITIES, City};
use crate::emitter::Emitter;
use crate::fleet::Fleet;
use crate::fraud::{Kind, RecentPayers, Script};
use crate::geometry::Ground;
use crate::payment::Payment;
use crate::random::{Random, mix};
use crate::repeat::Repeat;
use crate::rider::{Busy, Rider, next_away};
use crate::session::Session;
use crate::surge::Surge;
use crate::tally::WindowTruth;
use crate::trip::Trip;
use crate::truth::Truth;
use crate::{EventBuffer, Settings, SimulatorError};

/// The rates of arrivals change over the day: none is planned further ahead than this.
const REDRAW_US: f64 = 600e6;
/// Share of rides that are by travellers from another city.
const TRAVELLER_RIDES: f64 = 0.025;

/// A ride-hailing world that never ends.
#[derive(Debug)]
pub struct World {
    pub(crate) settings: Settings,
    pub(crate) now_us: i64,
    pub(crate) grounds: Vec<Ground>,
    pub(crate) random: Random,
    pub(crate) agenda: Agenda,
    pub(crate) fleet: Fleet,
    pub(crate) surge: Surge,
    pub(crate) busy: Busy,
    pub(crate) trips: Slots<Trip>,
    pub(crate) payments: Slots<Payment>,
    pub(crate) sessions: Slots<Session>,
    pub(crate) scripts: Slots<Script>,
    pub(crate) repeats: Slots<Repeat>,
    pub(crate) recent_payers: RecentPayers,
    /// Accounts that fraudsters have opened, beyond the riders of the settings.
    pub(crate) accounts: u32,
    pub(crate) emitter: Emitter,
    /// First rider of each city, and the number of riders at the end.
    riders_from: Vec<u32>,
    /// Requests per second and city, averaged over a week.
    requests_per_s: Vec<f64>,
    run: u64,
    ids: u64,
}

impl World {
    /// A world at `start_time_us`, after its warm-up.
    pub fn new(settings: Settings) -> Result<Self, SimulatorError> {
        settings.check()?;
        let cities: Vec<&'static City> = CITIES.iter().filter(|city| settings.cities.iter().any(|name| name == city.name)).collect();
        let mut first_zone = 0;
        let grounds: Vec<Ground> = cities
            .iter()
            .map(|city| {
                let ground = Ground::new(city, first_zone);
                first_zone += city.zones.len() as u16;
                ground
            })
            .collect();
        let drivers = shares(settings.drivers, &cities);
        let mut riders_from = vec![0];
        for count in shares(settings.riders, &cities) {
            riders_from.push(riders_from[riders_from.len() - 1] + count);
        }
        let mut random = Random::new(settings.seed);
        let mut agenda = Agenda::default();
        let now_us = settings.start_time_us - i64::from(settings.warm_up_s) * SECOND_US;
        let fleet = Fleet::new(&drivers, &grounds, &settings, &mut agenda, &mut random);
        let truth = Truth::new(&settings, WindowTruth::all(&grounds));
        let mut world = Self {
            now_us,
            random,
            agenda,
            fleet,
            surge: Surge::new(&cities.iter().map(|city| city.zones.len()).collect::<Vec<_>>()),
            busy: Busy::new(settings.riders),
            trips: Slots::new(),
            payments: Slots::new(),
            sessions: Slots::new(),
            scripts: Slots::new(),
            repeats: Slots::new(),
            recent_payers: RecentPayers::default(),
            accounts: 0,
            emitter: Emitter::new(&settings, truth),
            riders_from,
            requests_per_s: drivers.iter().map(|count| f64::from(*count) * settings.trips_per_driver_hour / 3_600.0).collect(),
            run: mix(settings.seed ^ mix(settings.start_time_us as u64)),
            ids: 0,
            grounds,
            settings,
        };
        for city in 0..cities.len() as u8 {
            for arrival in [Arrival::WantRide, Arrival::Browse, Arrival::SeeAd] {
                world.plan_arrival(arrival, city);
            }
        }
        for kind in Kind::ALL {
            world.plan_episode(kind);
        }
        let mut unseen = EventBuffer::new();
        while world.agenda.next_us() < world.settings.start_time_us {
            world.act(&mut unseen);
        }
        world.now_us = world.settings.start_time_us;
        Ok(world)
    }

    /// Goes on until at least one more event is in `out`.
    pub fn next(&mut self, out: &mut EventBuffer) {
        let before = out.len();
        while out.len() == before {
            self.step(out);
        }
    }

    /// Goes on until simulated time reaches `until_us` or `out` holds `max_events`; true if time was reached. In real time,
    /// call it with the clock's time again and again.
    pub fn fill(&mut self, until_us: i64, max_events: usize, out: &mut EventBuffer) -> bool {
        while out.len() < max_events {
            if self.next_us() >= until_us {
                return true;
            }
            self.step(out);
        }
        false
    }

    /// Ends the world: lets the events leave that are still held back (late ones and second copies), so that the truth is
    /// that of a finished run. Up to some minutes of simulated time pass, in which nothing new happens.
    pub fn finish(&mut self, out: &mut EventBuffer) {
        while self.emitter.next_held_us() < i64::MAX {
            self.now_us = self.emitter.next_held_us();
            self.emitter.release(out);
        }
    }

    /// Simulated time, in microseconds since 1970.
    pub fn now_us(&self) -> i64 {
        self.now_us
    }

    /// When the next thing happens, in microseconds since 1970: what a caller who keeps pace has to wait for.
    pub fn next_us(&self) -> i64 {
        self.emitter.next_held_us().min(self.agenda.next_us()).min(self.fleet.next_ping_us())
    }

    /// Counts and sums of the events that have been written to a buffer so far.
    pub fn truth(&self) -> &Truth {
        &self.emitter.truth
    }

    /// What the world was made of.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn step(&mut self, out: &mut EventBuffer) {
        let (held_us, ping_us) = (self.emitter.next_held_us(), self.fleet.next_ping_us());
        let next_us = held_us.min(self.agenda.next_us()).min(ping_us);
        if next_us == held_us {
            self.now_us = next_us;
            self.emitter.release(out);
        } else if next_us == ping_us {
            self.now_us = next_us;
            self.ping(out);
        } else {
            self.act(out);
        }
    }

    fn act(&mut self, out: &mut EventBuffer) {
        let Some((time_us, action)) = self.agenda.pop() else { return };
        self.now_us = time_us;
        match action {
            Action::Arrival(arrival, city) => {
                self.plan_arrival(arrival, city);
                match arrival {
                    Arrival::WantRide => self.want_ride(city, out),
                    Arrival::Browse => self.browse(city, out),
                    Arrival::SeeAd => self.see_ad(city, out),
                }
            }
            Action::Redraw(arrival, city) => self.plan_arrival(arrival, city),
            Action::Click(slot) => self.click(slot, out),
            Action::Request(slot) => self.request(slot, out),
            Action::Match(slot) => self.match_driver(slot, out),
            Action::Arrive(slot) => self.arrive(slot, out),
            Action::PickUp(slot) => self.pick_up(slot, out),
            Action::Complete(slot) => self.complete(slot, out),
            Action::CancelByRider(slot) => self.cancel_by_rider(slot, out),
            Action::CancelByDriver(slot) => self.cancel_by_driver(slot, out),
            Action::NoShow(slot) => self.no_show(slot, out),
            Action::Authorise(slot) => self.authorise(slot, out),
            Action::Refund(slot) => self.refund(slot, out),
            Action::ChargeBack(slot) => self.charge_back(slot, out),
            Action::Episode(kind) => self.begin_episode(kind),
            Action::Attempt(slot) => self.attempt(slot, out),
            Action::RideAgain(slot) => self.ride_again(slot, out),
            Action::SignOn(driver) => self.sign_on(driver),
            Action::SignOff(driver) => self.sign_off(driver),
        }
    }

    pub(crate) fn plan_in(&mut self, seconds: f64, action: Action) {
        self.agenda.plan(self.now_us + (seconds * 1e6) as i64, action);
    }

    /// Plans the next of a stream of arrivals whose rate follows the day of the city.
    fn plan_arrival(&mut self, arrival: Arrival, city: u8) {
        let per_request = match arrival {
            Arrival::WantRide => 1.0,
            Arrival::Browse => self.settings.browse_sessions_per_trip,
            Arrival::SeeAd => self.settings.impressions_per_trip,
        };
        let ground = &self.grounds[usize::from(city)];
        let demand = LocalTime::at(self.now_us, ground.city.utc_offset_h).demand();
        let rate_per_s = self.requests_per_s[usize::from(city)] * demand * per_request;
        let in_us = self.random.exponential(1e6 / rate_per_s.max(1e-9));
        if in_us < REDRAW_US {
            self.agenda.plan(self.now_us + in_us as i64, Action::Arrival(arrival, city));
        } else {
            self.agenda.plan(self.now_us + REDRAW_US as i64, Action::Redraw(arrival, city));
        }
    }

    /// An id that no other thing of this or another world has.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.ids += 1;
        mix(self.run.wrapping_add(self.ids))
    }

    pub(crate) fn any_rider(&mut self, city: u8) -> Rider {
        let (from, to) = (self.riders_from[usize::from(city)], self.riders_from[usize::from(city) + 1]);
        // Some ride far more often than others.
        let share = self.random.unit().powf(1.7);
        Rider::new(from + (share * f64::from(to - from)) as u32, city, self.settings.seed)
    }

    /// Days since 1970.
    fn today(&self) -> i64 {
        self.now_us.div_euclid(DAY_US)
    }

    /// A rider of another city who is in this one today.
    fn traveller(&mut self, city: u8) -> Option<Rider> {
        let cities = self.grounds.len() as u8;
        for _ in 0..32 {
            let home = (city + 1 + self.random.below(u64::from(cities) - 1) as u8) % cities;
            let number = next_away(self.any_rider(home).number, home, self.today());
            let rider = Rider::new(number, home, self.settings.seed);
            if number < self.riders_from[usize::from(home) + 1] && rider.city_on(self.today(), cities) == city {
                return Some(rider);
            }
        }
        None
    }

    /// A city, by how much is asked for there.
    pub(crate) fn any_city(&mut self) -> u8 {
        self.random.weighted(self.requests_per_s.iter().copied()) as u8
    }

    /// A rider without a ride, who then has one; `None` if some tries found nobody.
    pub(crate) fn free_rider(&mut self, city: u8) -> Option<Rider> {
        let cities = self.grounds.len() as u8;
        if cities > 1 && self.random.chance(TRAVELLER_RIDES) {
            return self.traveller(city).filter(|rider| self.busy.take(rider.number));
        }
        for _ in 0..8 {
            let rider = self.any_rider(city);
            if rider.city_on(self.today(), cities) == city && self.busy.take(rider.number) {
                return Some(rider);
            }
        }
        None
    }
}

/// Splits a number by the weights of cities, at least one for each.
fn shares(count: u32, cities: &[&City]) -> Vec<u32> {
    let sum: f64 = cities.iter().map(|city| city.weight).sum();
    let spare = f64::from(count - cities.len() as u32);
    let mut shares: Vec<u32> = cities.iter().map(|city| 1 + (spare * city.weight / sum) as u32).collect();
    let rest = count - shares.iter().sum::<u32>();
    shares[0] += rest;
    shares
}
