//! The riders: what is known of each one follows from its number, so none of it is kept.
//!
//! Some only look like fraud: families share a device, travellers pay in a city that is not theirs, and people own a second device.

use crate::random::mix;

/// How a rider pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PaymentType {
    Card,
    Wallet,
    Cash,
}

impl PaymentType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            PaymentType::Card => "card",
            PaymentType::Wallet => "wallet",
            PaymentType::Cash => "cash",
        }
    }
}

/// Every so many families share one device.
const SHARING_FAMILIES: u64 = 12;
const FAMILY_SIZE: u32 = 4;
/// On any day one rider in so many is in another city.
const TRAVELLERS: u64 = 40;

/// A rider by number, in a world of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rider {
    pub(crate) number: u32,
    /// Index of the city where it lives.
    pub(crate) home: u8,
    hash: u64,
    family: u64,
}

impl Rider {
    pub(crate) fn new(number: u32, home: u8, seed: u64) -> Self {
        let family = mix(mix(seed ^ 0x6661_6d69) ^ (u64::from(number / FAMILY_SIZE) << 20) ^ u64::from(home));
        Self { number, home, hash: mix(mix(seed) ^ (u64::from(number) << 20)), family }
    }

    fn hash(self, what: u64) -> u64 {
        mix(self.hash ^ what)
    }

    /// As `hash`, but the same for all of a family that shares its things.
    fn family_hash(self, what: u64) -> u64 {
        mix((if self.family.is_multiple_of(SHARING_FAMILIES) { self.family } else { self.hash }) ^ what)
    }

    pub(crate) fn payment_type(self) -> PaymentType {
        match self.hash(1) % 100 {
            0..70 => PaymentType::Card,
            70..90 => PaymentType::Wallet,
            _ => PaymentType::Cash,
        }
    }

    /// Two in five riders have a second card to try when the first is declined.
    pub(crate) fn card(self, attempt: u8) -> u64 {
        let second = attempt > 1 && self.hash(2) % 5 < 2;
        self.hash(3 + u64::from(second))
    }

    pub(crate) fn device(self) -> u64 {
        self.family_hash(5)
    }

    /// A tablet, or the phone of work.
    pub(crate) fn second_device(self) -> u64 {
        self.hash(22)
    }

    /// Whether its device tells where it is.
    pub(crate) fn tells_place(self) -> bool {
        !self.hash(23).is_multiple_of(25)
    }

    /// The city where the rider is on this day since 1970, of `cities`: for most it is home.
    pub(crate) fn city_on(self, day: i64, cities: u8) -> u8 {
        if cities < 2 || next_away(self.number, self.home, day) != self.number {
            return self.home;
        }
        let ahead = 1 + (self.hash(24 ^ ((day as u64) << 8)) % u64::from(cities - 1)) as u8;
        (self.home + ahead) % cities
    }

    /// The browser's or app's own id of the user.
    pub(crate) fn domain_user(self, platform: u8) -> u64 {
        self.hash(6 + u64::from(platform))
    }

    /// The address the rider's provider has given it; riders of one city share networks.
    pub(crate) fn ip(self, city: u8) -> [u8; 4] {
        let network = mix(u64::from(city) * 64 + self.family_hash(20) % 64);
        let host = self.family_hash(21);
        [20 + (network % 180) as u8, (network >> 8) as u8, (host >> 8) as u8, 1 + (host % 254) as u8]
    }
}

/// The first rider from `number` on, of those who live in `home`, who is in another city on this day.
pub(crate) fn next_away(number: u32, home: u8, day: i64) -> u32 {
    let turn = mix(day as u64 ^ (u64::from(home) << 40)) % TRAVELLERS;
    let past = (u64::from(number) + turn) % TRAVELLERS;
    number.saturating_add(((TRAVELLERS - past) % TRAVELLERS) as u32)
}

/// The brand of a card.
pub(crate) fn card_brand(card: u64) -> &'static str {
    ["visa", "visa", "mastercard", "amex"][(card % 4) as usize]
}

/// Riders who have a ride or are about to: nobody takes two at a time.
#[derive(Debug)]
pub(crate) struct Busy {
    bits: Vec<u64>,
}

impl Busy {
    pub(crate) fn new(riders: u32) -> Self {
        Self { bits: vec![0; riders as usize / 64 + 1] }
    }

    /// True if the rider was free and now is not.
    pub(crate) fn take(&mut self, rider: u32) -> bool {
        let (word, bit) = (&mut self.bits[rider as usize / 64], 1 << (rider % 64));
        let free = *word & bit == 0;
        *word |= bit;
        free
    }

    pub(crate) fn free(&mut self, rider: u32) {
        self.bits[rider as usize / 64] &= !(1 << (rider % 64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_families_share_a_device_and_few_riders_are_away() {
        let riders: Vec<Rider> = (0..40_000).map(|number| Rider::new(number, 2, 1)).collect();
        let shared = riders.chunks(4).filter(|family| family.iter().all(|rider| rider.device() == family[0].device())).count();
        assert!((600..1_100).contains(&shared), "{shared} of 10,000 families");
        let away = riders.iter().filter(|rider| rider.city_on(20_000, 4) != 2).count();
        assert_eq!(away, 1_000);
        assert!(riders.iter().all(|rider| rider.city_on(20_000, 4) < 4 && rider.city_on(20_000, 1) == 2));
        assert!(riders.iter().any(|rider| rider.city_on(20_000, 4) != rider.city_on(20_001, 4)));
    }
}
