//! A trip from request to completion or cancellation: requested, matched, arrived, picked up, completed, cancelled.
//!
//! State: one record a trip under way; it is dropped with its last event.

use crate::agenda::Action;
use crate::calendar::{LocalTime, SECOND_US};
use crate::fleet::DriverState;
use crate::geometry::{Path, Point};
use crate::rider::Rider;
use crate::truth::{Facts, type_names};
use crate::world::World;
use crate::{EventBuffer, Topic};

/// Stages by their number in `truth::type_names`.
const REQUESTED: u8 = 0;
const MATCHED: u8 = 1;
const ARRIVED: u8 = 2;
const PICKED_UP: u8 = 3;
const COMPLETED: u8 = 4;
const CANCELLED: u8 = 5;

/// How often a driver is looked for before the request is given up.
const MATCH_TRIES: u8 = 5;
/// Drivers further away are not asked.
const MATCH_DISTANCE_MAX_M: f32 = 9_000.0;

/// A trip under way.
#[derive(Debug)]
pub(crate) struct Trip {
    pub(crate) id: u64,
    pub(crate) rider: Rider,
    pub(crate) city: u8,
    pub(crate) from: Point,
    pub(crate) to: Point,
    /// Within the city.
    pub(crate) from_zone: usize,
    to_zone: usize,
    pub(crate) driver: Option<u32>,
    /// The pair that rides again and again, if this is one of its rides.
    pub(crate) repeat: Option<u32>,
    /// Hundredths: 150 is one and a half times the fare.
    surge: i64,
    requested_us: i64,
    arrived_us: i64,
    picked_up_us: i64,
    tries: u8,
}

/// What a completed trip cost, in hundredths.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Bill {
    fare: i64,
    tolls: i64,
    tip: i64,
    driver_trip_pay: i64,
}

/// Why a trip was cancelled, and by whom.
#[derive(Debug, Clone, Copy)]
struct Cancellation {
    by: &'static str,
    reason: &'static str,
}

impl World {
    /// A rider presses the button; `repeat` if it is for one more ride with the same driver.
    pub(crate) fn request_ride(&mut self, rider: Rider, city: u8, (from, to): (Point, Point), repeat: Option<u32>, out: &mut EventBuffer) {
        let ground = &self.grounds[usize::from(city)];
        let (from_zone, to_zone) = (ground.zone_at(from), ground.zone_at(to));
        let surge = self.surge.ask(city, ground.first_zone + from_zone as u16, self.fleet.free_share(city), self.now_us);
        let id = self.next_id();
        let trip = Trip {
            id,
            rider,
            city,
            from,
            to,
            from_zone,
            to_zone,
            driver: None,
            repeat,
            surge,
            requested_us: self.now_us,
            arrived_us: 0,
            picked_up_us: 0,
            tries: 0,
        };
        let slot = self.trips.insert(trip);
        self.ride_event(slot, REQUESTED, None, out);
        let seconds = self.random.uniform(2.0, 15.0);
        self.plan_in(seconds, Action::Match(slot));
    }

    pub(crate) fn match_driver(&mut self, slot: u32, out: &mut EventBuffer) {
        let now_us = self.now_us;
        let Some(trip) = self.trips.get_mut(slot) else { return };
        trip.tries += 1;
        let asked_for = trip.repeat.and_then(|slot| self.repeats.get(slot)).map(|repeat| repeat.driver);
        let nearest = match asked_for.filter(|index| self.fleet.drivers[*index as usize].state == DriverState::Available) {
            Some(index) => Some(index),
            None => self.fleet.nearest(trip.city, trip.from, now_us, &mut self.random),
        };
        let near =
            nearest.filter(|index| self.fleet.drivers[*index as usize].path.at(now_us).point.distance_m(trip.from) < MATCH_DISTANCE_MAX_M);
        let Some(index) = near else {
            if trip.tries < MATCH_TRIES {
                return self.plan_in(30.0, Action::Match(slot));
            }
            return self.cancel(slot, Cancellation { by: "provider", reason: "no_driver_available" }, out);
        };
        trip.driver = Some(index);
        let ground = &self.grounds[usize::from(trip.city)];
        let pace = LocalTime::at(now_us, ground.city.utc_offset_h).road_speed() as f32;
        self.fleet.withdraw(index);
        let driver = &mut self.fleet.drivers[index as usize];
        driver.state = DriverState::Reserved;
        driver.trip_id = Some(trip.id);
        let at = driver.path.at(now_us).point;
        driver.path = Path::between(at, trip.from, ground.city.grid_deg, pace * driver.style, now_us);
        let arrives_us = driver.path.end_us().max(now_us + SECOND_US);
        self.ride_event(slot, MATCHED, None, out);
        // The longer the way, the more change their mind.
        let minutes = (arrives_us - now_us) as f64 / 60e6;
        let sometime = |share: f64| now_us + ((arrives_us - now_us) as f64 * share) as i64;
        let (by_rider, by_driver) = (0.012 * minutes, 0.02);
        match self.random.unit() {
            u if u < by_rider => self.agenda.plan(sometime(self.random.unit()), Action::CancelByRider(slot)),
            u if u < by_rider + by_driver => self.agenda.plan(sometime(self.random.unit()), Action::CancelByDriver(slot)),
            _ => self.agenda.plan(arrives_us, Action::Arrive(slot)),
        }
    }

    pub(crate) fn arrive(&mut self, slot: u32, out: &mut EventBuffer) {
        let Some(trip) = self.trips.get_mut(slot) else { return };
        trip.arrived_us = self.now_us;
        if let Some(index) = trip.driver {
            self.fleet.drivers[index as usize].state = DriverState::Stopped;
        }
        self.ride_event(slot, ARRIVED, None, out);
        if self.random.chance(0.015) {
            self.plan_in(300.0, Action::NoShow(slot));
        } else {
            let seconds = (20.0 + self.random.exponential(50.0)).min(280.0);
            self.plan_in(seconds, Action::PickUp(slot));
        }
    }

    pub(crate) fn pick_up(&mut self, slot: u32, out: &mut EventBuffer) {
        let Some(trip) = self.trips.get_mut(slot) else { return };
        trip.picked_up_us = self.now_us;
        let Some(index) = trip.driver else { return };
        let ground = &self.grounds[usize::from(trip.city)];
        let pace = LocalTime::at(self.now_us, ground.city.utc_offset_h).road_speed() as f32;
        let driver = &mut self.fleet.drivers[index as usize];
        driver.state = DriverState::OnTrip;
        let at = driver.path.at(self.now_us).point;
        driver.path = Path::between(at, trip.to, ground.city.grid_deg, pace * driver.style, self.now_us);
        self.agenda.plan(driver.path.end_us().max(self.now_us + SECOND_US), Action::Complete(slot));
        self.ride_event(slot, PICKED_UP, None, out);
    }

    pub(crate) fn complete(&mut self, slot: u32, out: &mut EventBuffer) {
        let Some(trip) = self.trips.get(slot) else { return };
        let Some(index) = trip.driver else { return };
        let length_m = f64::from(self.fleet.drivers[index as usize].path.length_m());
        let city = self.grounds[usize::from(trip.city)].city;
        let minutes = (self.now_us - trip.picked_up_us) as f64 / 60e6;
        let mut base = city.base_cents + city.per_km_cents * length_m / 1_000.0 + city.per_minute_cents * minutes;
        if self.collusion_of(trip).is_some() && self.random.chance(0.6) {
            // Waiting, cleaning, a detour that nobody drove: whatever the driver can add by hand.
            base *= self.random.uniform(2.0, 4.5);
        }
        let fare = (base * trip.surge as f64 / 100.0).round().max(1.0) as i64;
        let tolls = if length_m > 15_000.0 && self.random.chance(0.3) { 650 } else { 0 };
        let tip = if self.random.chance(0.28) { fare * self.random.between(5, 21) / 100 } else { 0 };
        let bill = Bill { fare, tolls, tip, driver_trip_pay: fare * 74 / 100 + tip + tolls };
        self.ride_event(slot, COMPLETED, Some((bill, length_m as i64)), out);
        self.close(slot, fare + tolls + tip, true);
    }

    pub(crate) fn cancel_by_rider(&mut self, slot: u32, out: &mut EventBuffer) {
        let reason = *self.random.pick(&["changed_mind", "waited_too_long", "driver_too_far", "wrong_pickup"]);
        self.cancel(slot, Cancellation { by: "rider", reason }, out);
    }

    pub(crate) fn cancel_by_driver(&mut self, slot: u32, out: &mut EventBuffer) {
        let reason = *self.random.pick(&["vehicle_problem", "traffic", "too_far", "destination"]);
        self.cancel(slot, Cancellation { by: "driver", reason }, out);
    }

    pub(crate) fn no_show(&mut self, slot: u32, out: &mut EventBuffer) {
        self.cancel(slot, Cancellation { by: "driver", reason: "no_show" }, out);
    }

    fn cancel(&mut self, slot: u32, cancellation: Cancellation, out: &mut EventBuffer) {
        self.cancellation_event(slot, cancellation, out);
        // Who lets a driver wait in vain pays for it.
        let fee_cents = if cancellation.reason == "no_show" { 500 } else { 0 };
        self.close(slot, fee_cents, false);
    }

    /// Frees rider and driver and sends the bill.
    fn close(&mut self, slot: u32, amount_cents: i64, completed: bool) {
        let Some(trip) = self.trips.remove(slot) else { return };
        self.busy.free(trip.rider.number);
        if let Some(index) = trip.driver {
            let driver = &mut self.fleet.drivers[index as usize];
            let at = driver.path.at(self.now_us);
            driver.path = Path::parked(at.point, at.heading_deg, self.now_us);
            self.fleet.release(index);
        }
        if amount_cents > 0 {
            self.bill(&trip, amount_cents, if completed { trip.to } else { trip.from });
        }
        self.after_ride(&trip, completed);
    }

    /// All stages but a cancellation; `completed` comes with its bill and length in metres.
    fn ride_event(&mut self, slot: u32, stage: u8, completed: Option<(Bill, i64)>, out: &mut EventBuffer) {
        self.write_ride(slot, stage, completed, None, out);
    }

    fn cancellation_event(&mut self, slot: u32, cancellation: Cancellation, out: &mut EventBuffer) {
        self.write_ride(slot, CANCELLED, None, Some(cancellation), out);
    }

    fn write_ride(
        &mut self,
        slot: u32,
        stage: u8,
        completed: Option<(Bill, i64)>,
        cancellation: Option<Cancellation>,
        out: &mut EventBuffer,
    ) {
        let Some(trip) = self.trips.get(slot) else { return };
        let ground = &self.grounds[usize::from(trip.city)];
        let facts = Facts {
            topic: Topic::RideEvents,
            event_time_us: self.now_us,
            sequence: 0,
            kind: stage,
            city: trip.city,
            zone: ground.first_zone + trip.from_zone as u16,
            campaign: 0,
            cents: completed.map_or(0, |(bill, _)| bill.fare),
        };
        let now_us = self.now_us;
        let driver_at = trip.driver.map(|index| ground.degrees(self.fleet.drivers[index as usize].path.at(now_us).point));
        self.emitter.emit(
            out,
            facts,
            |key| key.bare_hashed("trip_", trip.id),
            |json| {
                json.text("event_type", type_names(Topic::RideEvents)[usize::from(stage)]);
                json.hashed("trip_id", "trip_", trip.id);
                json.numbered("rider_id", "rdr_", trip.rider.number);
                if let Some(driver) = trip.driver {
                    json.numbered("driver_id", "drv_", driver);
                    json.numbered("vehicle_id", "veh_", driver);
                }
                json.text("city", ground.city.name);
                json.text("zone", ground.city.zones[trip.from_zone].name);
                json.text("dropoff_zone", ground.city.zones[trip.to_zone].name);
                json.point("start_location", ground.degrees(trip.from));
                json.point("end_location", ground.degrees(trip.to));
                if let Some(at) = driver_at {
                    json.point("location", at);
                }
                json.text("payment_type", trip.rider.payment_type().name());
                json.hundredths("surge_multiplier", trip.surge);
                if stage >= PICKED_UP && trip.picked_up_us > 0 {
                    json.integer("trip_wait_time", (trip.picked_up_us - trip.requested_us) / SECOND_US);
                }
                if let Some((bill, length_m)) = completed {
                    json.integer("distance", length_m);
                    json.integer("duration", (now_us - trip.picked_up_us) / SECOND_US);
                    json.text("currency", ground.city.currency);
                    json.hundredths("fare", bill.fare);
                    json.hundredths("tolls", bill.tolls);
                    json.hundredths("tip", bill.tip);
                    json.hundredths("driver_trip_pay", bill.driver_trip_pay);
                }
                if let Some(cancellation) = cancellation {
                    json.text("cancelled_by", cancellation.by);
                    json.text("cancellation_reason", cancellation.reason);
                }
            },
        );
    }
}
