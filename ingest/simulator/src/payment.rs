//! Payments: of trips that are not paid in cash, and those that fraudsters make without one (`fraud.rs`). Authorised or declined and
//! tried again, and some of them refunded or charged back.
//!
//! Honest payments that look like others' fraud: a hotel desk pays for its guests from one device, promotions are for everybody,
//! some pay from a second device.
//!
//! State: one record a payment that may still change; it is dropped with its last event. Chargebacks come within hours, not
//! weeks as in life, so that a short run sees some.

use crate::agenda::Action;
use crate::fraud::{Episode, Label, label};
use crate::geometry::Point;
use crate::random::mix;
use crate::rider::{PaymentType, Rider, card_brand};
use crate::trip::Trip;
use crate::truth::{Facts, type_names};
use crate::world::World;
use crate::{EventBuffer, Topic};

/// Outcomes by their number in `truth::type_names`.
const AUTHORISED: u8 = 0;
const DECLINED: u8 = 1;
const REFUNDED: u8 = 2;
const CHARGED_BACK: u8 = 3;

const REFUNDS: f64 = 0.012;
/// Of honest payments: those from a hotel's desk, from a second device, with a promotion.
const AT_A_DESK: f64 = 0.006;
const SECOND_DEVICE: f64 = 0.015;
const WITH_PROMOTION: f64 = 0.05;
/// Promotions take a fifth off.
pub(crate) const PROMO_CODES: [&str; 4] = ["WELCOME20", "RAIN20", "NIGHT20", "MUSEUM20"];
const PROMO_PERCENT: i64 = 80;

/// How a payment is likely to go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Odds {
    pub(crate) declined: f64,
    pub(crate) attempts_max: u8,
    pub(crate) charged_back: f64,
}

pub(crate) const HONEST: Odds = Odds { declined: 0.035, attempts_max: 3, charged_back: 0.003 };

#[derive(Debug, Clone, Copy)]
pub(crate) struct Payment {
    pub(crate) id: u64,
    pub(crate) trip_id: u64,
    pub(crate) rider: Rider,
    pub(crate) driver: Option<u32>,
    pub(crate) city: u8,
    pub(crate) zone: usize,
    pub(crate) amount_cents: i64,
    pub(crate) attempt: u8,
    /// From where, as far as the device tells.
    pub(crate) place: Option<Point>,
    pub(crate) device: u64,
    pub(crate) ip: [u8; 4],
    /// A card that is not the rider's, and its country.
    pub(crate) strange_card: Option<(u64, &'static str)>,
    pub(crate) promo_code: Option<&'static str>,
    pub(crate) odds: Odds,
    /// The fraud episode it belongs to.
    pub(crate) episode: Option<Episode>,
}

impl Payment {
    fn card(&self) -> u64 {
        self.strange_card.map_or_else(|| self.rider.card(self.attempt), |(card, _)| card)
    }
}

impl World {
    /// Sends the bill for a trip whose rider is at `place`.
    pub(crate) fn bill(&mut self, trip: &Trip, amount_cents: i64, place: Point) {
        let rider = trip.rider;
        if rider.payment_type() == PaymentType::Cash {
            return;
        }
        let ground = &self.grounds[usize::from(trip.city)];
        let mut shake = || self.random.uniform(-30.0, 30.0) as f32;
        let place = Point { x: place.x + shake(), y: place.y + shake() };
        let mut payment = Payment {
            id: 0,
            trip_id: trip.id,
            rider,
            driver: trip.driver,
            city: trip.city,
            zone: trip.from_zone,
            amount_cents,
            attempt: 1,
            place: rider.tells_place().then_some(place),
            device: rider.device(),
            ip: rider.ip(trip.city),
            strange_card: None,
            promo_code: None,
            odds: HONEST,
            episode: self.collusion_of(trip),
        };
        match self.random.unit() {
            u if u < AT_A_DESK => {
                let desk = mix(mix(self.settings.seed ^ 0x6465_736b) ^ u64::from(ground.first_zone) ^ ((trip.from_zone as u64) << 32));
                payment.device = desk;
                payment.ip = [20 + (desk % 180) as u8, (desk >> 8) as u8, (desk >> 16) as u8, 1 + (desk % 254) as u8];
                payment.place = Some(ground.centre(trip.from_zone));
            }
            u if u < AT_A_DESK + SECOND_DEVICE => payment.device = rider.second_device(),
            _ => (),
        }
        if self.random.chance(WITH_PROMOTION) {
            payment.promo_code = Some(*self.random.pick(&PROMO_CODES));
            payment.amount_cents = (amount_cents * PROMO_PERCENT / 100).max(1);
        }
        payment.id = self.next_id();
        let slot = self.payments.insert(payment);
        let seconds = self.random.uniform(1.0, 6.0);
        self.plan_in(seconds, Action::Authorise(slot));
    }

    pub(crate) fn authorise(&mut self, slot: u32, out: &mut EventBuffer) {
        let Some(payment) = self.payments.get(slot).copied() else { return };
        // Who was declined once is likely to be declined again.
        if self.random.chance(if payment.attempt > 1 { 0.4 } else { payment.odds.declined }) {
            let reason =
                *self.random.pick(&["insufficient_funds", "insufficient_funds", "do_not_honour", "expired_card", "suspected_fraud"]);
            self.payment_event(&payment, DECLINED, payment.amount_cents, Some(reason), out);
            match self.payments.get_mut(slot) {
                Some(payment) if payment.attempt < payment.odds.attempts_max => payment.attempt += 1,
                _ => {
                    self.payments.remove(slot);
                    return;
                }
            }
            let seconds = self.random.uniform(15.0, 90.0);
            return self.plan_in(seconds, Action::Authorise(slot));
        }
        self.payment_event(&payment, AUTHORISED, payment.amount_cents, None, out);
        if payment.episode.is_none() {
            self.recent_payers.note(payment.rider, payment.city);
        }
        match self.random.unit() {
            u if u < REFUNDS => {
                let seconds = 300.0 + self.random.exponential(2_400.0);
                self.plan_in(seconds.min(14_400.0), Action::Refund(slot));
            }
            u if u < REFUNDS + payment.odds.charged_back => {
                let seconds = 1_200.0 + self.random.exponential(7_200.0);
                self.plan_in(seconds.min(43_200.0), Action::ChargeBack(slot));
            }
            _ => {
                self.payments.remove(slot);
            }
        }
    }

    pub(crate) fn refund(&mut self, slot: u32, out: &mut EventBuffer) {
        let Some(payment) = self.payments.remove(slot) else { return };
        let reason = *self.random.pick(&["overcharged", "wrong_route", "item_lost", "goodwill"]);
        let whole = self.random.chance(0.5);
        let share = if whole { 100 } else { self.random.between(10, 60) };
        self.payment_event(&payment, REFUNDED, (payment.amount_cents * share / 100).max(1), Some(reason), out);
    }

    pub(crate) fn charge_back(&mut self, slot: u32, out: &mut EventBuffer) {
        let Some(payment) = self.payments.remove(slot) else { return };
        let reason = *self.random.pick(&["fraudulent", "not_recognised", "service_not_provided"]);
        self.payment_event(&payment, CHARGED_BACK, payment.amount_cents, Some(reason), out);
    }

    fn payment_event(&mut self, payment: &Payment, outcome: u8, amount_cents: i64, reason: Option<&str>, out: &mut EventBuffer) {
        let ground = &self.grounds[usize::from(payment.city)];
        let facts = Facts {
            topic: Topic::Payments,
            event_time_us: self.now_us,
            sequence: 0,
            kind: outcome,
            city: payment.city,
            zone: ground.first_zone + payment.zone as u16,
            campaign: 0,
            cents: amount_cents,
        };
        let rider = payment.rider;
        let card = payment.card();
        let event = self.emitter.emit(
            out,
            facts,
            |key| key.bare_hashed("card_", card),
            |json| {
                json.text("event_type", type_names(Topic::Payments)[usize::from(outcome)]);
                json.hashed("payment_id", "pay_", payment.id);
                json.integer("attempt", i64::from(payment.attempt));
                json.hashed("trip_id", "trip_", payment.trip_id);
                json.numbered("rider_id", "rdr_", rider.number);
                if let Some(driver) = payment.driver {
                    json.numbered("driver_id", "drv_", driver);
                }
                json.text("city", ground.city.name);
                json.text("zone", ground.city.zones[payment.zone].name);
                json.hundredths("amount", amount_cents);
                json.text("currency", ground.city.currency);
                json.text("payment_type", rider.payment_type().name());
                json.hashed("card_id", "card_", card);
                json.text("card_brand", card_brand(card));
                let home = self.grounds[usize::from(rider.home)].city.country;
                json.text("card_country", payment.strange_card.map_or(home, |(_, country)| country));
                json.hashed("device_id", "dev_", payment.device);
                json.address("user_ipaddress", payment.ip);
                if let Some(place) = payment.place {
                    let (lat, lon) = ground.degrees(place);
                    json.degrees("lat", lat);
                    json.degrees("lon", lon);
                }
                if let Some(code) = payment.promo_code {
                    json.text("promo_code", code);
                }
                if let Some(reason) = reason {
                    json.text("reason", reason);
                }
            },
        );
        // What came of the payment later is no fraud of its own.
        if let (Some(episode), Some(event), AUTHORISED | DECLINED) = (payment.episode, event, outcome) {
            let label_of = Label {
                episode,
                event,
                payment: Some(payment.id),
                driver: payment.driver,
                rider: Some(rider.number),
                card: Some(card),
                device: Some(payment.device),
            };
            label(&mut self.emitter, out, &facts, label_of);
        }
    }
}
