//! Where keys lie, by their hash: eight bytes a slot, so that many millions fit. Keys themselves are elsewhere; who asks compares them.

/// Where a key lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The run; fewer than 65,535 are in use at any time.
    pub(super) run: u32,
    /// The row in the run.
    pub(super) row: u32,
}

const EMPTY: u64 = 0;
/// Something was here: a search goes on.
const GONE: u64 = 1;
/// At least so many slots.
const SLOTS_MIN: usize = 1 << 10;

/// Open addressing. A slot is 16 bits of the hash, 16 of the run (from one), 32 of the row.
pub(super) struct Index {
    slots: Vec<u64>,
    /// Slots that are not empty.
    used: usize,
    len: usize,
}

impl Index {
    /// Without keys.
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), used: 0, len: 0 }
    }

    /// With room for so many keys and as many more that come and go.
    pub(super) fn with_room(keys: usize) -> Self {
        let slots = (keys.saturating_mul(2)).next_power_of_two().max(SLOTS_MIN);
        Self { slots: vec![EMPTY; slots], used: 0, len: 0 }
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u64>()
    }

    /// Whether another key has to wait for a larger index: three of four slots are used.
    pub(super) fn is_full(&self) -> bool {
        4 * (self.used + 1) > 3 * self.slots.len()
    }

    /// Whether it is much larger than it needs to be.
    pub(super) fn is_sparse(&self) -> bool {
        self.slots.len() > SLOTS_MIN && 16 * self.len < self.slots.len()
    }

    /// The place of a key with this hash for which `is_it` is true.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(Place) -> bool) -> Option<Place> {
        self.slot(hash, is_it).map(|slot| place(self.slots[slot]))
    }

    /// Adds a key that is not there; the index must not be full.
    pub(super) fn insert(&mut self, hash: u64, at: Place) {
        let mask = self.slots.len() - 1;
        let mut slot = home(hash, mask);
        while self.slots[slot] > GONE {
            slot = (slot + 1) & mask;
        }
        self.used += usize::from(self.slots[slot] == EMPTY);
        self.len += 1;
        self.slots[slot] = entry(hash, at);
    }

    /// Notes that a key lies elsewhere; false if it was not at `from`.
    pub(super) fn move_to(&mut self, hash: u64, from: Place, to: Place) -> bool {
        let slot = self.slot(hash, |place| place == from);
        if let Some(slot) = slot {
            self.slots[slot] = entry(hash, to);
        }
        slot.is_some()
    }

    /// Removes the key that lies at `from`, if one does.
    pub(super) fn remove(&mut self, hash: u64, from: Place) {
        if let Some(slot) = self.slot(hash, |place| place == from) {
            self.slots[slot] = GONE;
            self.len -= 1;
        }
    }

    fn slot(&self, hash: u64, is_it: impl Fn(Place) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut slot = home(hash, mask);
        while self.slots[slot] != EMPTY {
            let found = self.slots[slot];
            if found > GONE && tag(found) == hash >> 48 && is_it(place(found)) {
                return Some(slot);
            }
            slot = (slot + 1) & mask;
        }
        None
    }
}

/// Where the search for a hash begins: its low bits, since the highest are the tag.
fn home(hash: u64, mask: usize) -> usize {
    hash as usize & mask
}

fn tag(entry: u64) -> u64 {
    entry >> 48
}

fn place(entry: u64) -> Place {
    Place { run: ((entry >> 32) as u32 & 0xffff).wrapping_sub(1), row: entry as u32 }
}

fn entry(hash: u64, Place { run, row }: Place) -> u64 {
    debug_assert!(run < 0xffff, "run {run} has no room in a slot");
    (hash >> 48) << 48 | u64::from((run + 1) & 0xffff) << 32 | u64::from(row)
}
