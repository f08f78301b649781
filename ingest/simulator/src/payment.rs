//! Payments of trips that are not paid in cash: authorised or declined and tried again, and some of them refunded or charged back.
//!
//! State: one record a payment that may still change; it is dropped with its last event. Chargebacks come within hours, not
//! weeks as in life, so that a short run sees some.

use crate::agenda::Action;
use crate::rider::{PaymentType, Rider};
use crate::trip::Trip;
use crate::truth::{Facts, type_names};
use crate::world::World;
use crate::{EventBuffer, Topic};

/// Outcomes by their number in `truth::type_names`.
const AUTHORISED: u8 = 0;
const DECLINED: u8 = 1;
const REFUNDED: u8 = 2;
const CHARGED_BACK: u8 = 3;

const ATTEMPTS_MAX: u8 = 3;
const DECLINES: f64 = 0.035;
const REFUNDS: f64 = 0.012;
const CHARGEBACKS: f64 = 0.003;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Payment {
    id: u64,
    trip_id: u64,
    rider: Rider,
    driver: Option<u32>,
    city: u8,
    zone: usize,
    amount_cents: i64,
    attempt: u8,
}

impl Payment {
    pub(crate) fn of(trip: &Trip, driver: Option<u32>, zone: usize, amount_cents: i64) -> Self {
        Self { id: 0, trip_id: trip.id, rider: trip.rider, driver, city: trip.city, zone, amount_cents, attempt: 1 }
    }
}

impl World {
    pub(crate) fn bill(&mut self, mut payment: Payment) {
        if payment.rider.payment_type() == PaymentType::Cash {
            return;
        }
        payment.id = self.next_id();
        let slot = self.payments.insert(payment);
        let seconds = self.random.uniform(1.0, 6.0);
        self.plan_in(seconds, Action::Authorise(slot));
    }

    pub(crate) fn authorise(&mut self, slot: u32, out: &mut EventBuffer) {
        let Some(payment) = self.payments.get(slot).copied() else { return };
        // Who was declined once is likely to be declined again.
        if self.random.chance(if payment.attempt > 1 { 0.4 } else { DECLINES }) {
            let reason =
                *self.random.pick(&["insufficient_funds", "insufficient_funds", "do_not_honour", "expired_card", "suspected_fraud"]);
            self.payment_event(&payment, DECLINED, payment.amount_cents, Some(reason), out);
            match self.payments.get_mut(slot) {
                Some(payment) if payment.attempt < ATTEMPTS_MAX => payment.attempt += 1,
                _ => {
                    self.payments.remove(slot);
                    return;
                }
            }
            let seconds = self.random.uniform(15.0, 90.0);
            return self.plan_in(seconds, Action::Authorise(slot));
        }
        self.payment_event(&payment, AUTHORISED, payment.amount_cents, None, out);
        match self.random.unit() {
            u if u < REFUNDS => {
                let seconds = 300.0 + self.random.exponential(2_400.0);
                self.plan_in(seconds.min(14_400.0), Action::Refund(slot));
            }
            u if u < REFUNDS + CHARGEBACKS => {
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
        self.emitter.emit(
            out,
            facts,
            |key| key.bare_hashed("card_", rider.card(payment.attempt)),
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
                json.hashed("card_id", "card_", rider.card(payment.attempt));
                json.text("card_brand", rider.card_brand(payment.attempt));
                json.text("card_country", ground.city.country);
                json.hashed("device_id", "dev_", rider.device());
                json.address("user_ipaddress", rider.ip(payment.city));
                if let Some(reason) = reason {
                    json.text("reason", reason);
                }
            },
        );
    }
}
