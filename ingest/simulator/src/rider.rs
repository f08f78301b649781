//! The riders: what is known of each one follows from its number, so none of it is kept.

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

/// A rider by number, in a world of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rider {
    pub(crate) number: u32,
    hash: u64,
}

impl Rider {
    pub(crate) fn new(number: u32, seed: u64) -> Self {
        Self { number, hash: mix(mix(seed) ^ (u64::from(number) << 20)) }
    }

    fn hash(self, what: u64) -> u64 {
        mix(self.hash ^ what)
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

    pub(crate) fn card_brand(self, attempt: u8) -> &'static str {
        ["visa", "visa", "mastercard", "amex"][(self.card(attempt) % 4) as usize]
    }

    pub(crate) fn device(self) -> u64 {
        self.hash(5)
    }

    /// The browser's or app's own id of the user.
    pub(crate) fn domain_user(self, platform: u8) -> u64 {
        self.hash(6 + u64::from(platform))
    }

    /// The address the rider's provider has given it; riders of one city share networks.
    pub(crate) fn ip(self, city: u8) -> [u8; 4] {
        let network = mix(u64::from(city) * 64 + self.hash(20) % 64);
        let host = self.hash(21);
        [20 + (network % 180) as u8, (network >> 8) as u8, (host >> 8) as u8, 1 + (host % 254) as u8]
    }
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
