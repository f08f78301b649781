//! Fraud episodes: when they begin, the payments that fraudsters script, and the labels that say which events are fraud.
//!
//! *Card testing* tries stolen cards with small amounts from one device until one is authorised; *account takeover* uses a rider's
//! own card from a new device in another city; *promo abuse* opens one account after another on a device for the sake of its
//! promotion. None of these has a ride: the trip of such a payment was bought ahead or made up. *Collusion* rides (`repeat.rs`), and
//! *GPS spoofing* lies about places (`fleet.rs`).
//!
//! State: one record an episode under way, dropped with its last payment; the last few hundred honest payers.

use crate::agenda::Action;
use crate::city::CITIES;
use crate::emitter::Emitter;
use crate::geometry::Point;
use crate::payment::{Odds, PROMO_CODES, Payment};
use crate::random::Random;
use crate::rider::{PaymentType, Rider};
use crate::truth::Facts;
use crate::world::World;
use crate::{EventBuffer, Topic};

/// Kinds of fraud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    CardTesting,
    AccountTakeover,
    PromoAbuse,
    Collusion,
    GpsSpoofing,
}

/// Names of the kinds, in the order of their numbers.
pub(crate) const KIND_NAMES: &[&str] = &["card_testing", "account_takeover", "promo_abuse", "collusion", "gps_spoofing"];

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::CardTesting, Self::AccountTakeover, Self::PromoAbuse, Self::Collusion, Self::GpsSpoofing];
}

const TESTING: Odds = Odds { declined: 0.72, attempts_max: 1, charged_back: 0.25 };
const TAKEOVER: Odds = Odds { declined: 0.15, attempts_max: 1, charged_back: 0.5 };
const ABUSE: Odds = Odds { declined: 0.06, attempts_max: 1, charged_back: 0.01 };

/// One fraud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Episode {
    pub(crate) kind: Kind,
    pub(crate) id: u64,
}

/// The payments of an episode without rides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script {
    episode: Episode,
    city: u8,
    at: Point,
    /// Whether the device tells where it is.
    tells_place: bool,
    device: u64,
    ip: [u8; 4],
    /// Who pays: the victim, or the first of the fraudster's accounts.
    rider: Rider,
    left: u8,
    /// Mean time between two payments.
    every_s: f64,
}

/// Riders who paid of late, and where: whose account is taken over was seen elsewhere before.
#[derive(Debug, Default)]
pub(crate) struct RecentPayers {
    ring: Vec<(Rider, u8)>,
    next: usize,
}

impl RecentPayers {
    const MOST: usize = 512;

    pub(crate) fn note(&mut self, rider: Rider, city: u8) {
        if self.ring.len() < Self::MOST {
            self.ring.push((rider, city));
        } else {
            self.ring[self.next] = (rider, city);
            self.next = (self.next + 1) % Self::MOST;
        }
    }

    fn any(&self, random: &mut Random) -> Option<(Rider, u8)> {
        self.ring.get(random.below(self.ring.len() as u64) as usize).copied()
    }
}

impl World {
    /// Plans the next episode of a kind.
    pub(crate) fn plan_episode(&mut self, kind: Kind) {
        let per_h = self.settings.fraud.rates_per_h()[kind as usize];
        if per_h > 0.0 {
            let seconds = self.random.exponential(3_600.0 / per_h);
            self.plan_in(seconds.min(1e9), Action::Episode(kind));
        }
    }

    pub(crate) fn begin_episode(&mut self, kind: Kind) {
        self.plan_episode(kind);
        let episode = Episode { kind, id: self.next_id() };
        let city = self.any_city();
        match kind {
            Kind::CardTesting => self.begin_script(episode, city, None, (20, 60), 5.0),
            Kind::AccountTakeover => {
                let Some((victim, seen_in)) = self.recent_payers.any(&mut self.random) else { return };
                let cities = self.grounds.len() as u64;
                let elsewhere = if cities > 1 { (u64::from(seen_in) + 1 + self.random.below(cities - 1)) % cities } else { 0 };
                self.begin_script(episode, elsewhere as u8, Some(victim), (3, 7), 120.0);
            }
            Kind::PromoAbuse => self.begin_script(episode, city, None, (8, 20), 40.0),
            Kind::Collusion => self.begin_collusion(episode, city),
            Kind::GpsSpoofing => {
                let locations = self.random.between(8, 25) as u8;
                if let Some(driver) = self.fleet.any_on_shift(city, &mut self.random) {
                    self.fleet.spoof(driver, episode, locations);
                }
            }
        }
    }

    fn begin_script(&mut self, episode: Episode, city: u8, victim: Option<Rider>, (least, most): (i64, i64), every_s: f64) {
        let device = self.next_id();
        let at = self.grounds[usize::from(city)].anywhere(&mut self.random);
        let script = Script {
            episode,
            city,
            at,
            // Most who test cards do so from a program, which is nowhere.
            tells_place: self.random.chance(if episode.kind == Kind::CardTesting { 0.3 } else { 0.9 }),
            device,
            ip: [20 + (device % 180) as u8, (device >> 8) as u8, (device >> 16) as u8, 1 + (device >> 24) as u8 % 254],
            rider: victim.unwrap_or_else(|| self.new_account(city)),
            left: self.random.between(least, most + 1) as u8,
            every_s,
        };
        let slot = self.scripts.insert(script);
        let seconds = self.random.uniform(5.0, 60.0);
        self.plan_in(seconds, Action::Attempt(slot));
    }

    /// An account that somebody has just opened.
    fn new_account(&mut self, city: u8) -> Rider {
        self.accounts += 1;
        Rider::new(self.settings.riders.saturating_add(self.accounts), city, self.settings.seed)
    }

    /// The next payment of a script.
    pub(crate) fn attempt(&mut self, slot: u32, out: &mut EventBuffer) {
        let Some(script) = self.scripts.get(slot).copied() else { return };
        let city = self.grounds[usize::from(script.city)].city;
        let mut payment = Payment {
            id: self.next_id(),
            trip_id: self.next_id(),
            rider: script.rider,
            driver: None,
            city: script.city,
            zone: self.grounds[usize::from(script.city)].zone_at(script.at),
            amount_cents: 0,
            attempt: 1,
            place: script.tells_place.then_some(script.at),
            device: script.device,
            ip: script.ip,
            strange_card: None,
            promo_code: None,
            odds: TESTING,
            episode: Some(script.episode),
        };
        let times_base = match script.episode.kind {
            Kind::CardTesting => {
                payment.strange_card = Some((self.next_id(), self.random.pick(&CITIES).country));
                if self.random.chance(0.15) {
                    // The account was closed; the next is open already.
                    payment.rider = self.new_account(script.city);
                }
                (0.15, 1.3)
            }
            Kind::AccountTakeover => {
                payment.odds = TAKEOVER;
                (12.0, 45.0)
            }
            Kind::PromoAbuse | Kind::Collusion | Kind::GpsSpoofing => {
                payment.odds = ABUSE;
                payment.rider = self.new_account(script.city);
                payment.promo_code = Some(PROMO_CODES[0]);
                if self.random.chance(0.5) {
                    // Half of the accounts share one card.
                    payment.strange_card = Some((script.device.rotate_left(17), city.country));
                }
                (1.2, 5.0)
            }
        };
        payment.amount_cents = (city.base_cents * self.random.uniform(times_base.0, times_base.1)) as i64;
        let payment_slot = self.payments.insert(payment);
        self.authorise(payment_slot, out);
        match self.scripts.get_mut(slot) {
            Some(script) if script.left > 1 => {
                script.left -= 1;
                script.rider = if script.episode.kind == Kind::CardTesting { payment.rider } else { script.rider };
            }
            _ => {
                self.scripts.remove(slot);
                return;
            }
        }
        let seconds = self.random.exponential(script.every_s).clamp(0.4, 6.0 * script.every_s);
        self.plan_in(seconds, Action::Attempt(slot));
    }

    /// A rider of a city who does not pay in cash.
    pub(crate) fn any_card_holder(&mut self, city: u8) -> Option<Rider> {
        (0..32).map(|_| self.any_rider(city)).find(|rider| rider.payment_type() != PaymentType::Cash)
    }
}

/// What a label says of an event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label {
    pub(crate) episode: Episode,
    /// Sequence number of the event.
    pub(crate) event: u64,
    pub(crate) payment: Option<u64>,
    pub(crate) driver: Option<u32>,
    pub(crate) rider: Option<u32>,
    pub(crate) card: Option<u64>,
    pub(crate) device: Option<u64>,
}

/// Labels the event that `facts` are about.
pub(crate) fn label(emitter: &mut Emitter, out: &mut EventBuffer, facts: &Facts, label: Label) {
    let event_id = emitter.id(label.event);
    let facts = Facts { topic: Topic::FraudLabels, kind: label.episode.kind as u8, cents: 0, ..*facts };
    emitter.emit(
        out,
        facts,
        |key| key.bare_hashed("epi_", label.episode.id),
        |json| {
            json.text("kind", KIND_NAMES[label.episode.kind as usize]);
            json.hashed("episode_id", "epi_", label.episode.id);
            json.uuid_field("event_id", event_id);
            if let Some(payment) = label.payment {
                json.hashed("payment_id", "pay_", payment);
            }
            if let Some(driver) = label.driver {
                json.numbered("driver_id", "drv_", driver);
            }
            if let Some(rider) = label.rider {
                json.numbered("rider_id", "rdr_", rider);
            }
            if let Some(card) = label.card {
                json.hashed("card_id", "card_", card);
            }
            if let Some(device) = label.device {
                json.hashed("device_id", "dev_", device);
            }
        },
    );
}
