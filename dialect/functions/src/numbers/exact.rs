//! Sums of doubles without any error, from which values can be taken again.
//!
//! A sum that is kept in one double loses what is small beside a huge value, and keeps a NaN for ever. Here it is kept as several doubles
//! whose digits do not overlap (Shewchuk's expansions), so what was added is gone when it is taken away, and the order does not matter.
//! For values of like size there are two or three of them.

/// Values from here on are kept apart and smaller, so that no sum on the way overflows.
const HUGE: f64 = f64::from_bits((1023 + 900) << 52);
const SHRINK: f64 = f64::from_bits((1023 - 200) << 52);
const GROW: f64 = f64::from_bits((1023 + 200) << 52);

/// See the module documentation.
#[derive(Debug, Clone, Default)]
pub(super) struct ExactSum {
    /// Does not overlap, smallest first, no zeros.
    parts: Vec<f64>,
    /// The same of huge values, each made smaller by [`SHRINK`].
    huge: Vec<f64>,
    nans: i64,
    infinite: i64,
    infinite_below: i64,
}

impl ExactSum {
    pub(super) fn add(&mut self, value: f64) {
        self.put(value, 1);
    }

    pub(super) fn subtract(&mut self, value: f64) {
        self.put(value, -1);
    }

    #[inline]
    fn put(&mut self, value: f64, sign: i64) {
        if value.abs() < HUGE {
            grow(&mut self.parts, value * sign as f64);
        } else if value.is_nan() {
            self.nans += sign;
        } else if value == f64::INFINITY {
            self.infinite += sign;
        } else if value == f64::NEG_INFINITY {
            self.infinite_below += sign;
        } else {
            grow(&mut self.huge, value * sign as f64 * SHRINK);
        }
    }

    /// Adds `a * b` without error, as long as it neither overflows nor is next to nothing.
    pub(super) fn add_product(&mut self, a: f64, b: f64) {
        let (product, error) = product(a, b);
        self.add(product);
        self.add(error);
    }

    pub(super) fn subtract_product(&mut self, a: f64, b: f64) {
        let (product, error) = product(a, b);
        self.subtract(product);
        self.subtract(error);
    }

    /// Whether values are in it that make the sum no number.
    pub(super) fn is_finite(&self) -> bool {
        self.nans == 0 && self.infinite == 0 && self.infinite_below == 0
    }

    /// What makes up the sum, if it [`is_finite`](Self::is_finite) and no value was huge.
    pub(super) fn parts(&self) -> &[f64] {
        &self.parts
    }

    /// The double next to the sum.
    pub(super) fn value(&self) -> f64 {
        match (self.nans > 0, self.infinite > 0, self.infinite_below > 0) {
            (true, _, _) | (_, true, true) => f64::NAN,
            (_, true, _) => f64::INFINITY,
            (_, _, true) => f64::NEG_INFINITY,
            _ if self.huge.is_empty() => rounded(&self.parts),
            _ => {
                let mut all = self.huge.clone();
                self.parts.iter().for_each(|part| grow(&mut all, part * SHRINK));
                rounded(&all) * GROW
            }
        }
    }

    /// Bytes beside its own.
    pub(super) fn size(&self) -> usize {
        (self.parts.capacity() + self.huge.capacity()) * size_of::<f64>()
    }
}

/// Adds a value to an expansion.
fn grow(parts: &mut Vec<f64>, mut value: f64) {
    let mut kept = 0;
    for at in 0..parts.len() {
        let (sum, error) = sum(value, parts[at]);
        if error != 0.0 {
            parts[kept] = error;
            kept += 1;
        }
        value = sum;
    }
    parts.truncate(kept);
    if value != 0.0 {
        parts.push(value);
    }
}

/// The sum of two doubles and what rounding left out.
fn sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let of_b = sum - a;
    (sum, (a - (sum - of_b)) + (b - of_b))
}

/// The product of two doubles and what rounding left out (Dekker).
fn product(a: f64, b: f64) -> (f64, f64) {
    let halves = |x: f64| {
        let high = 134_217_729.0 * x;
        let high = high - (high - x);
        (high, x - high)
    };
    let product = a * b;
    let ((a_high, a_low), (b_high, b_low)) = (halves(a), halves(b));
    (product, a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low))
}

/// The double next to an expansion, the even one where two are as near.
fn rounded(parts: &[f64]) -> f64 {
    let Some((&last, rest)) = parts.split_last() else { return 0.0 };
    let mut high = last;
    for (at, &part) in rest.iter().enumerate().rev() {
        let (total, low) = sum(high, part);
        high = total;
        if low != 0.0 {
            // Half way between two doubles, what is smaller still decides.
            let (twice, further) = (low * 2.0, high + low * 2.0);
            if at > 0 && (low < 0.0) == (rest[at - 1] < 0.0) && further - high == twice {
                high = further;
            }
            break;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        values.iter().for_each(|value| sum.add(*value));
        sum
    }

    #[test]
    fn sums_are_the_nearest_doubles() {
        assert_eq!(of(&[]).value(), 0.0);
        assert_eq!(of(&[0.1; 10]).value(), 1.0);
        assert_eq!(of(&[1e16, 1.0, -1e16]).value(), 1.0);
        assert_eq!(of(&[1e300, 1.0, -1e300, 1e-300]).value(), 1.0);
        assert_eq!(of(&[f64::MAX, f64::MAX, -f64::MAX]).value(), f64::MAX);
        assert_eq!(of(&[f64::MAX, f64::MAX]).value(), f64::INFINITY);
        assert_eq!(of(&[f64::MAX, f64::MAX, -f64::MAX, -f64::MAX, 3.0]).value(), 3.0);
        assert_eq!(of(&[5e-324, 5e-324]).value(), 1e-323);
        // Half way between 2^53 and the next double, and a little more.
        assert_eq!(of(&[9_007_199_254_740_992.0, 1.0]).value(), 9_007_199_254_740_992.0);
        assert_eq!(of(&[9_007_199_254_740_992.0, 1.0, 1e-20]).value(), 9_007_199_254_740_994.0);
        assert_eq!(of(&[-9_007_199_254_740_992.0, -1.0, -1e-20]).value(), -9_007_199_254_740_994.0);
    }

    #[test]
    fn what_leaves_is_gone() {
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e16, f64::MAX, f64::MIN_POSITIVE] {
            let mut sum = of(&[odd, 1.0, 2.0, odd]);
            sum.subtract(odd);
            sum.subtract(odd);
            assert_eq!(sum.value(), 3.0, "{odd}");
        }
        assert!(of(&[f64::INFINITY, f64::NEG_INFINITY]).value().is_nan());
    }

    /// Whole multiples of 2^-20 sum exactly as integers.
    #[test]
    fn sums_agree_with_whole_numbers() {
        let (mut sum, mut whole, mut seed) = (ExactSum::default(), 0_i128, 7_u64);
        for _ in 0..10_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let value = (seed as i64) >> (seed % 50);
            let rounded_value = value as f64;
            sum.add(rounded_value / 1_048_576.0);
            whole += rounded_value as i128;
            assert_eq!(sum.value(), whole as f64 / 1_048_576.0);
        }
    }
}
