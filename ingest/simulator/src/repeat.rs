//! The same driver and rider again and again: errands, which are honest, and collusion, which is not.
//!
//! On an errand somebody lets the driver come back for them, once to three times. Colluders ride a few hundred metres, over and over,
//! for what they can charge (`trip.rs` makes the odd fares). State: one record a pair; it is dropped with its last ride.

use crate::EventBuffer;
use crate::agenda::Action;
use crate::fleet::DriverState;
use crate::fraud::Episode;
use crate::geometry::Point;
use crate::rider::Rider;
use crate::trip::Trip;
use crate::world::World;

/// Share of completed rides after which the rider wants the same driver again.
const ERRANDS: f64 = 0.012;
/// How often colluders wait for each other before they give up.
const WAITS_MAX: u8 = 20;

/// A pair that rides again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Repeat {
    pub(crate) driver: u32,
    rider: Rider,
    city: u8,
    /// Where to next, on an errand.
    way: (Point, Point),
    left: u8,
    waits: u8,
    /// `None` for an errand.
    episode: Option<Episode>,
}

impl World {
    pub(crate) fn begin_collusion(&mut self, episode: Episode, city: u8) {
        let Some(driver) = self.fleet.any_available(city, &mut self.random) else { return };
        let Some(rider) = self.any_card_holder(city) else { return };
        let left = self.random.between(6, 13) as u8;
        let nowhere = (Point::default(), Point::default());
        let slot = self.repeats.insert(Repeat { driver, rider, city, way: nowhere, left, waits: 0, episode: Some(episode) });
        self.plan_in(1.0, Action::RideAgain(slot));
    }

    /// The episode of a trip, if its rider and driver collude.
    pub(crate) fn collusion_of(&self, trip: &Trip) -> Option<Episode> {
        let repeat = self.repeats.get(trip.repeat?)?;
        repeat.episode.filter(|_| trip.driver == Some(repeat.driver))
    }

    pub(crate) fn ride_again(&mut self, slot: u32, out: &mut EventBuffer) {
        let Some(repeat) = self.repeats.get(slot).copied() else { return };
        let driver = &self.fleet.drivers[repeat.driver as usize];
        if driver.state != DriverState::Available || !self.busy.take(repeat.rider.number) {
            return self.wait_for_each_other(slot);
        }
        let way = if repeat.episode.is_some() {
            let ground = &self.grounds[usize::from(repeat.city)];
            let here = driver.path.at(self.now_us).point;
            let (metres, angle) = (self.random.uniform(250.0, 900.0), self.random.uniform(0.0, std::f64::consts::TAU));
            let to = Point { x: here.x + (metres * angle.sin()) as f32, y: here.y + (metres * angle.cos()) as f32 };
            (here, ground.inside(to))
        } else {
            repeat.way
        };
        self.request_ride(repeat.rider, repeat.city, way, Some(slot), out);
    }

    fn wait_for_each_other(&mut self, slot: u32) {
        match self.repeats.get_mut(slot) {
            Some(repeat) if repeat.episode.is_some() && repeat.waits < WAITS_MAX => repeat.waits += 1,
            _ => {
                self.repeats.remove(slot);
                return;
            }
        }
        self.plan_in(30.0, Action::RideAgain(slot));
    }

    /// A ride is over: there may be another.
    pub(crate) fn after_ride(&mut self, trip: &Trip, completed: bool) {
        let Some(driver) = trip.driver else {
            if let Some(slot) = trip.repeat {
                self.repeats.remove(slot);
            }
            return;
        };
        let (slot, pause_s) = match trip.repeat {
            None if completed && self.random.chance(ERRANDS) => {
                let way = (trip.to, trip.from);
                let left = 1 + self.random.below(3) as u8;
                let errand = Repeat { driver, rider: trip.rider, city: trip.city, way, left, waits: 0, episode: None };
                (self.repeats.insert(errand), self.random.uniform(90.0, 600.0))
            }
            None => return,
            Some(slot) => {
                let Some(repeat) = self.repeats.get_mut(slot) else { return };
                repeat.left -= 1;
                repeat.way = (repeat.way.1, repeat.way.0);
                let collude = repeat.episode.is_some();
                if repeat.left == 0 || (!completed && !collude) {
                    self.repeats.remove(slot);
                    return;
                }
                (slot, if collude { self.random.uniform(3.0, 25.0) } else { self.random.uniform(90.0, 600.0) })
            }
        };
        self.plan_in(pause_s, Action::RideAgain(slot));
    }
}
